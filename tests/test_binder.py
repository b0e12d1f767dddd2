"""What Binder builds from binder/: read from the Dockerfile, and followed without a container."""

import os
import re
import subprocess
import sys
from pathlib import Path

import colab
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="repo2docker needs a Unix")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    colab.copy_files(folder)
    return folder


@pytest.fixture(scope="module")
def dockerfile(checkout) -> str:
    command = [Path(sys.executable).parent / "jupyter-repo2docker", "--no-build", "--debug"]
    command += ["--user-id", "1000", "--user-name", "jovyan", checkout]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def own_commands(dockerfile: str) -> list[str]:
    """The commands that come from binder/, after the repository's files are there."""
    lines = dockerfile[dockerfile.index("COPY --chown=1000:1000 src/ ${REPO_DIR}/") :]
    return re.findall(r"^RUN (.*)$", lines, flags=re.MULTILINE)


def test_the_image_has_a_python_in_range_and_our_steps(dockerfile):
    assert "environment-2epy-2d3-2e12" in dockerfile
    assert own_commands(dockerfile) == [
        '${KERNEL_PYTHON_PREFIX}/bin/pip install --no-cache-dir -r "binder/requirements.txt"',
        "chmod +x binder/postBuild",
        "./binder/postBuild",
        'chmod +x "${REPO_DIR}/binder/start"',
    ]
    assert 'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"' in dockerfile
    assert (ROOT / "binder/requirements.txt").read_text() == "-r ../requirements.txt\n"


@pytest.mark.weekly
def test_the_commands_make_an_environment_that_runs_a_notebook(checkout, dockerfile, tmp_path):
    prefix, home = tmp_path / "prefix", tmp_path / "home"
    home.mkdir()
    subprocess.run([sys.executable, "-m", "venv", prefix], check=True)
    environment = {
        "KERNEL_PYTHON_PREFIX": str(prefix),
        "HOME": str(home),
        "REPO_DIR": str(checkout),
        "PATH": f"{prefix / 'bin'}:/usr/bin:/bin",
        "XDG_CONFIG_HOME": str(Path("~/.config").expanduser()),  # with the index that pip uses
    } | {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    for command in own_commands(dockerfile):
        subprocess.run(["sh", "-c", command], check=True, cwd=checkout, env=environment)
    assert list(home.glob(".cache/matplotlib/fontlist*.json"))  # warm
    # From here on as a reader's session: neither the home nor the package can be written to.
    subprocess.run(["chmod", "-R", "a-w", home, checkout / "vae_helpers"], check=True)
    run = ["python", "tools/run.py", "--to", tmp_path / "out", "--memory", "1.4"]
    subprocess.run([*run, "notebooks/03_training.ipynb"], check=True, cwd=checkout, env=environment)
    subprocess.run(["chmod", "-R", "u+w", home, checkout / "vae_helpers"], check=True)
