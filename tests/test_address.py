"""The repository's address stands once, and everything else follows it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

ROOT = Path(__file__).parent.parent
PATHS = sorted((ROOT / "notebooks").glob("**/*.ipynb"))
sys.path.insert(0, str(ROOT / "notebooks"))
import address

COLAB = "https://colab.research.google.com/github/{}/blob/main/{}"
BINDER = "https://mybinder.org/v2/gh/{}/main?urlpath=lab/tree/{}"


@pytest.fixture
def copy(tmp_path) -> Path:
    for path in address.files(ROOT):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def contents(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in address.files(root)}


def setup_cell(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    (cell,) = [cell for cell in cells if "setup" in cell.metadata.get("tags", [])]
    return cell.source


def run_setup(source: str, monkeypatch) -> list[str]:
    """Runs a setup cell and returns the shell commands it gives."""
    commands = []
    shell = InteractiveShell()
    monkeypatch.setattr(shell, "system", lambda line: commands.append(shell.var_expand(line)))
    shell.run_cell(source).raise_error()
    return commands


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_badges_and_setup_cell_have_the_address(path):
    repo, name = address.read(ROOT), path.relative_to(ROOT).as_posix()
    badges = nbformat.read(path, as_version=4).cells[0].source
    assert re.findall(r"\]\((https://[^)]*)\)\s*(?:\n|$)", badges) == [
        COLAB.format(repo, name),
        BINDER.format(repo, name),
    ]
    assert f'"https://github.com/{repo}"' in setup_cell(path)
    assert setup_cell(path) == setup_cell(PATHS[0])
    assert len(setup_cell(path).splitlines()) < 10


def test_the_readme_has_a_badge_for_each_notebook():
    text, repo = (ROOT / "README.md").read_text(encoding="utf-8"), address.read(ROOT)
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        name = path.relative_to(ROOT).as_posix()
        assert COLAB.format(repo, name) in text and BINDER.format(repo, name) in text


def test_two_forks_take_their_addresses_and_the_way_back(copy):
    original, before = address.read(copy), contents(copy)
    times = b"".join(before.values()).count(original.encode())
    for repo in ("teacher/vae-course", "Some-One/vae.tutorial_2"):
        old = address.read(copy)
        changed = address.write(copy, repo)
        assert address.read(copy) == repo
        assert len(changed) == len(PATHS) + 3  # and pyproject.toml, the README, the guide
        text = b"".join(contents(copy).values()).decode()
        assert old not in text and text.count(repo) == times
        for path in copy.glob("notebooks/**/*.ipynb"):
            json.loads(path.read_text(encoding="utf-8"))
    address.write(copy, original)
    assert contents(copy) == before


def test_another_repository_of_a_longer_name_is_left_alone():
    text = "https://github.com/me/fork-two https://github.com/me/fork)"
    expected = "https://github.com/me/fork-two https://github.com/you/it)"
    assert address.replace(text, "me/fork", "you/it") == expected


def test_local_links_lead_to_github_where_a_page_stands_alone():
    text = "[a](../tests/PUBLISHED_RUN.md#x) [b](solutions) [c](01_elbo.ipynb) [d](no) [e](#f)"
    on_github = f"https://github.com/{address.read(ROOT)}"
    assert address.outward(
        text, ROOT / "notebooks", ROOT, kept=lambda path: path.suffix == ".ipynb"
    ) == (
        f"[a]({on_github}/blob/main/tests/PUBLISHED_RUN.md#x) [b]({on_github}/tree/main/notebooks/"
        "solutions) [c](01_elbo.ipynb) [d](no) [e](#f)"
    )


@pytest.mark.parametrize(
    "repo", ["", "me", "me/", "/fork", "me/a b", "me//fork", "-me/fork", "a/b\n"]
)
def test_what_is_no_repository_is_refused(copy, repo):
    before = contents(copy)
    with pytest.raises(ValueError, match="REPO must be the owner and the name"):
        address.write(copy, repo)
    assert contents(copy) == before


def test_the_command_says_what_it_wants():
    command = [sys.executable, ROOT / "notebooks" / "address.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("REPO must be")


def test_the_setup_cell_does_nothing_elsewhere(monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith("COLAB_")]:
        monkeypatch.delenv(name)
    assert run_setup(setup_cell(PATHS[0]), monkeypatch) == []
    assert capsys.readouterr().out == ""


def test_on_colab_the_setup_cell_installs_from_the_address(monkeypatch, capsys):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab-external")
    source = address.replace(setup_cell(PATHS[0]), address.read(ROOT), "me/my-fork")
    (command,) = run_setup(source, monkeypatch)
    assert command == 'pip install --quiet "git+https://github.com/me/my-fork"'
    assert capsys.readouterr().out == ""


def test_on_colab_without_an_address_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab-external")
    source = address.replace(setup_cell(PATHS[0]), address.read(ROOT), address.UNSET)
    assert run_setup(source, monkeypatch) == []
    assert re.fullmatch(r"This copy has no address .*README\.\n", capsys.readouterr().out)
