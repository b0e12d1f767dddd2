"""Runs the notebooks as Colab does, in an environment with its versions: `make test-colab`.

Started by that environment's own Python. Each notebook begins in the image as it is, and its setup
cell installs this repository, as it lies here, from the address that the cell names: git is told
that the address is a local folder.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import paths

ROOT = Path(__file__).parent.parent
IMAGE = ROOT / "tools" / "colab-2026-08-19.txt"
REPO = "someone/vae-tutorial"
MAY_MOVE = {"tensorflow-metadata"}  # the image's can't be imported beside its protobuf


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def normalized(name: str) -> str:
    """Writes a package's name as PEP 503 does."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions() -> dict[str, str]:
    importlib.invalidate_caches()
    found = importlib.metadata.distributions()
    return {normalized(package.name): package.version for package in found}


def listed(text: str) -> dict[str, str]:
    """Returns the versions of a list as `pip freeze` writes it."""
    pairs = (line.split("==", 1) for line in text.splitlines() if "==" in line)
    return {normalized(name): version for name, version in pairs}


def restore() -> dict[str, str]:
    """Puts the environment back to the image, and returns its versions."""
    image, found = listed(IMAGE.read_text(encoding="utf-8")), versions()
    if extra := sorted(set(found) - set(image)):
        pip("uninstall", "--quiet", "--yes", *extra)
    if moved := [f"{name}=={v}" for name, v in image.items() if found.get(name) != v]:
        pip("install", "--quiet", "--no-deps", *moved)
    return image


def copy_files(folder: Path) -> None:
    """Copies the files of the repository as they lie here, without what git ignores."""
    ignored = [name.strip("/") for name in (ROOT / ".gitignore").read_text().split()]
    ignore = shutil.ignore_patterns(".git", *ignored)
    shutil.copytree(ROOT, folder, symlinks=True, ignore=ignore, dirs_exist_ok=True)


def published_copy(folder: Path) -> None:
    """Makes a repository of the files here, with an address."""
    copy_files(folder)
    address = [sys.executable, folder / "tools" / "address.py", REPO]
    subprocess.run(address, check=True, stdout=subprocess.DEVNULL)
    author = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        [*author, "commit", "--quiet", "-m", "copy"],
    ):
        subprocess.run(["git", "-C", folder, *command], check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "vae-tutorial"
        published_copy(folder)
        environment = os.environ | {
            "COLAB_RELEASE_TAG": "release-colab-external",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{folder.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": f"https://github.com/{REPO}",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        environment.pop("PYTHONPATH", None)
        for notebook in paths.notebooks(folder, ("",)):
            before = restore()
            command = [folder / "tools" / "run.py", "--to", ROOT / "build" / "colab-notebooks"]
            command += ["--memory", "1.4", notebook]
            subprocess.run([sys.executable, *command], check=True, env=environment)
            after = versions()
            moved = {name for name in before if after.get(name) != before[name]}
            if not moved <= MAY_MOVE:
                sys.exit(f"the setup cell of {notebook} moved {sorted(moved - MAY_MOVE)}")
            added = ", ".join(sorted(set(after) - set(before)))
            print(f"{'':30}it added {added}, and moved {', '.join(moved) or 'nothing'}", flush=True)


if __name__ == "__main__":
    main()
