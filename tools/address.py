"""Gives this copy of the repository its address: `python tools/address.py me/my-fork`.

pyproject.toml holds the address, as the project's Repository; badges and setup cells repeat it.
"""

import re
import sys
import tomllib
from pathlib import Path

import paths

ROOT = paths.ROOT
UNSET = "--owner--/vae-tutorial"  # no account on GitHub can have such a name
BEFORE = r"(https://github\.com/|colab\.research\.google\.com/github/|mybinder\.org/v2/gh/)"
# An owner as GitHub allows it (me, or me_company), and a name.
VALID = re.compile(r"[A-Za-z0-9]([-_]?[A-Za-z0-9]){0,38}/[A-Za-z0-9._-]*[A-Za-z0-9_-]")


def read(root: Path) -> str:
    """Returns the owner and the name of the repository, "owner/name"."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"].removeprefix("https://github.com/")


def outward(text: str, folder: Path, root: Path, kept=lambda path: False) -> str:
    """Leads the local links of a text in `folder` to GitHub, but for those to files that are kept."""

    def link(match: re.Match) -> str:
        path = (folder / match[1]).resolve()
        if not path.exists() or kept(path):
            return match[0]
        kind = "tree" if path.is_dir() else "blob"
        place = path.relative_to(root).as_posix()
        return f"](https://github.com/{read(root)}/{kind}/main/{place}{match[2] or ''})"

    return re.sub(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)", link, text)


def files(root: Path) -> list[Path]:
    """Returns the files that can have the address."""
    beside = [*paths.notebooks(root), *paths.pages(root)]
    return [root / "README.md", *beside, root / "pyproject.toml"]


def replace(text: str, old: str, new: str) -> str:
    """Exchanges the address wherever it stands as a part of a link to GitHub, Colab or Binder."""
    return re.sub(BEFORE + re.escape(old) + r"(?![\w.-])", rf"\g<1>{new}", text)


def write(root: Path, new: str) -> list[Path]:
    """Exchanges the address in every file that has it, and returns these files.

    Raises:
        ValueError: if `new` is not the owner and the name of a repository.
    """
    if not (VALID.fullmatch(new) or new == UNSET):
        raise ValueError(f"REPO must be the owner and the name on GitHub, me/my-fork, got {new!r}")
    old, changed = read(root), []
    for path in files(root):
        text = path.read_text(encoding="utf-8")
        if (after := replace(text, old, new)) != text:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed


def main() -> None:
    try:
        paths = write(ROOT, " ".join(sys.argv[1:]))
    except ValueError as error:
        sys.exit(str(error))
    for path in paths:
        print(path.relative_to(ROOT))
    print(f"The address is https://github.com/{read(ROOT)}: commit and push these files.")


if __name__ == "__main__":
    main()
