"""Counts lines of code, which are not blank, comment or docstring, and `raise` statements.

`python tools/code_lines.py` prints them for the package, by part and by file, and for the commands
and the tests. tests/test_package.py holds the limits.
"""

import ast
import io
import tokenize
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vae_helpers"
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
WITH_DOCSTRING = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Count(NamedTuple):
    lines: int
    raises: int


def count_source(source: str) -> Count:
    """Counts those of one file."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    nodes = list(ast.walk(ast.parse(source)))
    for node in nodes:
        if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            lines.difference_update(range(docstring.lineno, docstring.end_lineno + 1))
    return Count(len(lines), sum(isinstance(node, ast.Raise) for node in nodes))


def count(*paths: Path) -> Count:
    """Counts those of files, and of all Python files below folders."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))]
    counts = [count_source(file.read_text(encoding="utf-8")) for file in files]
    return Count(sum(c.lines for c in counts), sum(c.raises for c in counts))


def main() -> None:
    files = sorted(PACKAGE.rglob("*.py"), key=lambda path: (len(path.parts), path))
    parts = {
        "vae_helpers": [PACKAGE],
        "  top level": list(PACKAGE.glob("*.py")),
        "  support": [PACKAGE / "support"],
        "  explorers": [PACKAGE / "explorers"],
        **{f"    {path.relative_to(PACKAGE)}": [path] for path in files},
        "tools": [ROOT / "tools"],
        "tests": [ROOT / "tests"],
    }
    print(f"{'':28}{'lines':>7}{'raise':>7}")
    for name, paths in parts.items():
        lines, raises = count(*paths)
        print(f"{name:28}{lines:7,}{raises:7,}")


if __name__ == "__main__":
    main()
