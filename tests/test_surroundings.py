"""Commands run as their own files say, whatever the machine's user has set."""

import subprocess
from pathlib import Path

import paths

ROOT = Path(__file__).parent.parent
HOSTILE = {
    "IPYTHONDIR": "/elsewhere",
    "JUPYTER_PATH": "/elsewhere",
    "JUPYTER_CONFIG_DIR": "/elsewhere",
    "KERAS_BACKEND": "jax",
    "LC_ALL": "de_DE.ISO-8859-1",
    "LANG": "de_DE.ISO-8859-1",
    "MATPLOTLIBRC": "/elsewhere",
    "MPLBACKEND": "tkagg",
    "NBVAL_SOMETHING": "1",
    "PIP_USER": "1",
    "PIP_TARGET": "/elsewhere",
    "PYTEST_ADDOPTS": "--maxfail=0 --no-such-option",
    "PYTHONHOME": "/elsewhere",
    "PYTHONPATH": "/elsewhere",
    "PYTHONSTARTUP": "/elsewhere",
    "PYTHONWARNINGS": "error",
    "TF_XLA_FLAGS": "--no_such_flag",
    "UV_SYSTEM_PYTHON": "1",
    "XDG_CONFIG_HOME": "/elsewhere",
}
KEPT = {"PATH": "/usr/bin:/bin", "HOME": "/home/someone", "PIP_INDEX_URL": "https://index.example"}


def shown_by_make(recipe: str, *variables: str, env: dict | None = None) -> str:
    """Returns what a rule prints that make reads after the Makefile."""
    return subprocess.run(
        ["make", "--no-print-directory", "-f", "Makefile", "-f", "-", "show", *variables],
        input=f"show: ; @{recipe}",
        cwd=ROOT,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_a_command_sees_nothing_of_its_user_but_paths_and_the_package_index():
    seen = shown_by_make("env", env=HOSTILE | KEPT)
    variables = dict(line.split("=", 1) for line in seen.splitlines())
    assert variables.pop("HOME") == str(ROOT / "build" / "home")
    assert variables.pop("PIP_USER") == "0" and variables.pop("LC_ALL") == "C.UTF-8"
    assert {*variables} <= {*KEPT, "MAKELEVEL", "PWD", "SHLVL", "_"}
    assert variables["PIP_INDEX_URL"] == KEPT["PIP_INDEX_URL"]


def test_what_editors_leave_beside_notebooks_is_none(tmp_path):
    folder = tmp_path / "notebooks"
    left = [".ipynb_checkpoints/01_elbo-checkpoint.ipynb", "01_elbo-Copy1.ipynb", "Untitled.ipynb"]
    left += ["01_elbo copy.ipynb", "._01_elbo.ipynb", "01_elbo (1).ipynb"]
    ours = ["01_elbo.ipynb", "solutions/01_elbo.ipynb"]
    for name in [*ours, *left, f"solutions/{left[0]}"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert paths.notebooks(tmp_path) == [folder / name for name in ours]


def test_make_takes_the_same_notebooks_those_that_run_longest_first():
    for begin, folders in (("", ("", "solutions")), ("0", ("",))):
        named = shown_by_make("echo $(call named,$(BEGIN))", f"BEGIN={begin}").split()
        assert sorted(ROOT / name for name in named) == sorted(paths.notebooks(folders=folders))
        assert named[0] == "notebooks/07_likelihood.ipynb"
