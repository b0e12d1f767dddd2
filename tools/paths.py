"""Where the notebooks are, and which files are notebooks.

As a command it prints those whose name begins with one of its arguments, all without any, in the
order that has two at a time done soonest: one that runs long would be the last, and alone.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
_LONGEST = "07_likelihood", "08_scaling_out"


def notebooks(root: Path = ROOT, folders: tuple[str, ...] = ("", "solutions")) -> list[Path]:
    """Returns the notebooks below a root, 01_elbo.ipynb say, and after them their solutions.

    What editors leave beside them, checkpoints, copies and what is untitled, is none.
    """
    found = [p for name in folders for p in sorted((root / "notebooks" / name).glob("*.ipynb"))]
    return [path for path in found if re.fullmatch(r"\d\d_[a-z_]+", path.stem)]


def pages(root: Path = ROOT) -> list[Path]:
    """Returns the pages of text beside the notebooks; notes of a reader are none."""
    return [root / "notebooks" / page for page in ("GLOSSARY.md", "README.md")]


def name(path: Path) -> str:
    """Returns the path below the notebooks, solutions/01_elbo.ipynb say, or the file's name."""
    return path.relative_to(NOTEBOOKS).as_posix() if path.is_relative_to(NOTEBOOKS) else path.name


def main() -> None:
    named = [path for path in notebooks() if name(path).startswith(tuple(sys.argv[1:]) or "")]
    named.sort(key=lambda path: path.stem not in _LONGEST)
    print(*(path.relative_to(ROOT).as_posix() for path in named))


if __name__ == "__main__":
    main()
