"""Writes into the rows of the teacher's guide what has changed in the notebooks that they name.

`make guide` compares what cells say and print with the last commit, `make guide SINCE=HEAD~2` with
an older one. Where the words of a cell are the same, its numbers are aligned; a new one is rounded
as the old one was. Rows that have to be corrected by hand are printed: the words have changed, or
one number has become several. Numbers of one digit are left alone.
"""

import re
import subprocess
import sys
from collections import defaultdict

import nbformat
import paths

NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
UNKNOWN = "?"


def texts(notebook: str) -> dict[str, str]:
    """Returns what each cell prints, or says if it prints nothing, by its id."""
    found = {}
    for cell in nbformat.reads(notebook, as_version=4).cells:
        shown = [output.get("data", output) for output in cell.get("outputs", [])]
        said = [
            data.get("text/markdown", data.get("text/plain", data.get("text"))) for data in shown
        ]
        found[cell.id] = "\n".join(map(str, said)) if shown else cell.source
    return found


def moves(old: dict[str, str], new: dict[str, str]) -> set[tuple[str, str]]:
    """Returns each number of the old texts and what has become of it."""
    found = set()
    for cell, text in old.items():
        both = text, new.get(cell, "")
        words = {re.sub(r"\s+", " ", NUMBER.sub("#", text)) for text in both}
        before, after = map(NUMBER.findall, both)
        if len(words) > 1:
            after = [number if number in after else UNKNOWN for number in before]
        found |= {*zip(before, after, strict=True)}
    return found


def renewed(row: str, found: set[tuple[str, str]]) -> tuple[str, list[str]]:
    """Returns a row with new numbers in what students see and in the answer, and a report."""
    report, cells = [], row.split("|")

    def renew(match: re.Match) -> str:
        said = match[0]
        digits = len(said.partition(".")[2])

        def rounded(text: str) -> str:
            return text if text == UNKNOWN else f"{float(text.replace(',', '')):,.{digits}f}"

        same = {rounded(new) for old, new in found if old == said}
        now = same or {rounded(new) for old, new in found if "." in old and rounded(old) == said}
        if len(said) == 1 or now <= {rounded(said)}:
            return said
        by_hand = len(now) > 1 or UNKNOWN in now
        report.append(f"by hand: {row}, {said}" if by_hand else f"{said} -> {min(now)}")
        return said if by_hand else min(now)

    for column in (4, 5) if len(cells) == 7 else (2,):
        cells[column] = NUMBER.sub(renew, cells[column])
    return "|".join(cells), report


def main() -> None:
    found = defaultdict(set)
    for path in paths.notebooks():
        git = ["git", "-C", path.parent, "show", f"{sys.argv[1]}:./{path.name}"]
        old = subprocess.run(git, check=True, capture_output=True, text=True).stdout
        found[path.name[:2]] |= moves(texts(old), texts(path.read_text("utf-8")))
    guide, report = paths.NOTEBOOKS / "README.md", []
    rows = guide.read_text("utf-8").split("\n")
    for i, row in enumerate(rows):
        named = re.findall(r"\b(0[1-7])(?= \"| exercise|, from)", row)
        if row.startswith("|") and named:
            rows[i], changed = renewed(row, set().union(*map(found.get, named)))
            report += changed
    guide.write_text("\n".join(rows), "utf-8")
    print("\n".join(report) or "nothing has changed")


if __name__ == "__main__":
    main()
