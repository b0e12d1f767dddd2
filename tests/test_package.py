"""What importing costs and prints, which way imports run, and how a claim fails."""

import vae_helpers
from vae_helpers.claims import claim

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from code_lines import count

FOLDER = Path(vae_helpers.__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_the_package_loads_nothing_heavy():
    code = "import vae_helpers, sys; print(len({'tensorflow', 'plotnine', 'pandas'} & set(sys.modules)))"
    assert run(code).stdout == "0\n"


@pytest.mark.slow
def test_the_modules_load_quietly_and_without_what_nothing_uses_yet():
    modules = ", ".join(f"vae_helpers.{module}" for module in MODULES)
    done = run(
        f"import {modules}, sys, tensorflow as tf; tf.zeros(2) + 1\n"
        "print({'keras', 'tensorflow_datasets'} & set(sys.modules))"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "set()\n", "")


@pytest.mark.parametrize("module", MODULES)
def test_whichever_module_is_first_quiets_tensorflow(module):
    """A module that imports TensorFlow, or Sonnet, TFP or TFDS, imports `_quiet` before it."""
    tree = ast.parse((FOLDER / f"{module}.py").read_text())
    names = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module)
    loud = [n for n in names if n.split(".")[0].startswith(("tensorflow", "sonnet"))]
    if loud and module != "_quiet":
        assert names[0] == "vae_helpers._quiet"


@pytest.mark.slow
def test_what_else_is_printed_at_the_start_is_passed_on():
    code = (
        "import os, sys, types\n"
        "class Loud:\n"
        "  def find_spec(self, name, *_):\n"
        "    if name == 'tensorflow': os.write(2, b'disk on fire\\n')\n"
        "sys.meta_path.insert(0, Loud())\n"
        "import vae_helpers._quiet"
    )
    assert "disk on fire" in run(code).stderr


@pytest.mark.slow
def test_it_works_where_nothing_can_be_printed(tmp_path):
    """And its log goes into no file that has been given the number of the error stream."""
    code = (
        "from vae_helpers.training import train\n"
        "from vae_helpers.models import *\n"
        "import numpy as np\n"
        "with open('mine', 'w') as file: print('own', file=file)\n"
        "model = Encoder([4], 2), Decoder([4], [2, 2, 1]), standard_normal(2)\n"
        "train(*model, np.ones([9, 2, 2, 1], np.uint8), batch_size=4, training_steps=2)\n"
    )
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code]
    assert subprocess.run(command, check=False, cwd=tmp_path).returncode == 0
    assert (tmp_path / "mine").read_text() == "own\n"


def test_imports_run_one_way():
    """data, models, objective, training, evaluation, …: no module imports a later one."""
    order = "_quiet _memory checks claims data models objective training evaluation traversals"
    order = f"{order} plots experiments replication pages explorer elbo".split()
    assert sorted(order) == MODULES
    for module in order:
        tree = ast.parse((FOLDER / f"{module}.py").read_text())
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vae_helpers"):
                inner = node.module.removeprefix("vae_helpers").strip(".")
                names = [inner] if inner else [alias.name for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [a.name[12:] for a in node.names if a.name.startswith("vae_helpers.")]
            for name in names:
                assert order.index(name) < order.index(module), f"{module} imports {name}"


@pytest.mark.parametrize(
    ("most", "paths"),
    [
        (1200, [FOLDER]),
        (750, [*FOLDER.glob("*.py")]),
        (150, [FOLDER / "training.py"]),
        (160, [FOLDER / "support"]),
        (250, [FOLDER / "explorers"]),
        (3600, [Path(__file__).parent]),
    ],
    ids=["package", "top level", "training", "support", "explorers", "tests"],
)
def test_it_stays_thin(most, paths):
    assert count(*paths).lines <= most


def test_few_lines_raise():
    assert count(FOLDER).raises <= 55


def test_public_functions_say_what_they_do():
    for module in MODULES:
        tree = ast.parse((FOLDER / f"{module}.py").read_text())
        assert ast.get_docstring(tree), module
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{module}.{node.name}"


def test_a_claim_that_holds_is_silent_and_one_that_fails_is_not(monkeypatch, capsys):
    monkeypatch.delenv("VAE_STRICT", raising=False)
    claim(True, "water is wet")
    assert capsys.readouterr().out == ""
    claim(False, "water is dry")
    assert "no longer holds: water is dry" in capsys.readouterr().out
    monkeypatch.setenv("VAE_STRICT", "1")
    with pytest.raises(AssertionError, match="water is dry"):
        claim(False, "water is dry")
    with pytest.raises(ValueError, match="sentence must be a text, got False"):
        claim("water is dry", False)
