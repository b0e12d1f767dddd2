"""Where the notebooks are, and which files are notebooks."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"


def notebooks(root: Path = ROOT, folders: tuple[str, ...] = ("", "solutions")) -> list[Path]:
    """Returns the notebooks below a root, 01_elbo.ipynb say, and after them their solutions.

    What editors leave beside them, checkpoints, copies and what is untitled, is none.
    """
    found = [p for name in folders for p in sorted((root / "notebooks" / name).glob("*.ipynb"))]
    return [path for path in found if re.fullmatch(r"\d\d_[a-z_]+", path.stem)]


def name(path: Path) -> str:
    """Returns the path below the notebooks, solutions/01_elbo.ipynb say, or the file's name."""
    return path.relative_to(NOTEBOOKS).as_posix() if path.is_relative_to(NOTEBOOKS) else path.name
