"""The repository's address stands once, and everything else follows it."""

import re
import shutil
from pathlib import Path

import address
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from paths import notebooks

ROOT = address.ROOT
PATHS = notebooks()
BADGES = [
    "https://colab.research.google.com/github/{}/blob/main/{}",
    "https://mybinder.org/v2/gh/{}/main?urlpath=lab/tree/{}",
]
COLAB = "COLAB_RELEASE_TAG"


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


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_badges_and_setup_cells_have_the_address(path):
    repo, name = address.read(ROOT), path.relative_to(ROOT).as_posix()
    expected = [badge.format(repo, name) for badge in BADGES]
    badges = nbformat.read(path, as_version=4).cells[0].source
    assert re.findall(r"\]\((https://[^)]*)\)\s*(?:\n|$)", badges) == expected
    assert f'"git+https://github.com/{repo}"' in setup_cell(path)
    assert setup_cell(path) == setup_cell(PATHS[0])
    if path.parent.name == "notebooks":
        assert all(badge in (ROOT / "README.md").read_text(encoding="utf-8") for badge in expected)


def test_a_copy_takes_an_address_and_the_way_back(copy):
    original, before = address.read(copy), contents(copy)
    changed = address.write(copy, "Some-One_co/vae.tutorial_2")
    assert address.read(copy) == "Some-One_co/vae.tutorial_2"
    assert len(changed) == len(PATHS) + 3  # and pyproject.toml, the README, the guide
    assert original not in b"".join(contents(copy).values()).decode()
    address.write(copy, original)
    assert contents(copy) == before


def test_a_repository_of_a_longer_name_is_left_alone():
    text = "https://github.com/me/fork-two https://github.com/me/fork)"
    expected = "https://github.com/me/fork-two https://github.com/you/it)"
    assert address.replace(text, "me/fork", "you/it") == expected


def test_local_links_lead_to_github_where_a_page_stands_alone():
    text = "[a](../tools/PUBLISHED_RUN.md#x) [b](01_elbo.ipynb) [c](no) [d](#f)"
    found = address.outward(text, ROOT / "notebooks", ROOT, lambda path: path.suffix == ".ipynb")
    on_github = f"https://github.com/{address.read(ROOT)}/blob/main/tools/PUBLISHED_RUN.md#x"
    assert found == f"[a]({on_github}) [b](01_elbo.ipynb) [c](no) [d](#f)"


@pytest.mark.parametrize("repo", ["", "me", "/fork", "me/a b", "me//fork", "-me/fork", "a/b\n"])
def test_rejects_what_is_no_repository(copy, repo):
    with pytest.raises(ValueError, match="REPO must be the owner and the name"):
        address.write(copy, repo)
    assert contents(copy) == contents(ROOT)


INSTALL = "pip install --quiet git+https://github.com/me/my-fork"


@pytest.mark.parametrize(
    ("place", "found", "commands", "said"),
    [
        ("ELSEWHERE", True, [], ""),
        (COLAB, True, [], ""),
        (COLAB, False, [INSTALL], ""),
        ("ELSEWHERE", False, [], r"First run this: %pip .*me/my-fork\n"),
    ],
)
def test_the_setup_cell_installs_on_colab_and_elsewhere_says_how(
    monkeypatch, capsys, place, found, commands, said
):
    monkeypatch.delenv(COLAB, raising=False)
    monkeypatch.setenv(place, "1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if found else None)
    shell, given = InteractiveShell(), []
    monkeypatch.setattr(shell, "system", lambda line: given.append(shell.var_expand(line)))
    source = address.replace(setup_cell(PATHS[0]), address.read(ROOT), "me/my-fork")
    shell.run_cell(source).raise_error()
    assert given == commands and re.fullmatch(said, capsys.readouterr().out)
