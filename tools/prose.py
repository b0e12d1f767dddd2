"""Finds the numbers in prose that speak of results, and what holds each of them.

A number is held by a stored output, up to the rounding in which the prose writes it, or by a guard,
in its claim or its condition: one of the same section (##), or of what the same paragraph names, a
section by its heading in quotes, a file by a link. Arithmetic, as log 2 = 0.69, is computed. Values
that the code sets, the sizes of MNIST, references, times and digits by their names are no results;
what else is none, or is held nowhere, stands in BY_HAND. Numbers in words count what the sentence
names, and are left alone but before a unit: "two nats".

`python tools/prose.py` prints the map from numbers to cells, of all notebooks or of those given.
"""

import ast
import functools
import math
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import paths

NO_RESULTS = {"On your own", "Further reading"}  # tasks, whose results are in the solutions; papers
SIZES = {28, 784, 10_000, 60_000, 70_000}  # of MNIST
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
# What no cell holds: its value, to be checked, or the reason why it is no result.
BY_HAND = {
    ("01_elbo", "step-c-text"): {"9": "an example"},
    ("05_traversals", "quantiles-seen"): {
        "1.6": statistics.NormalDist().inv_cdf(0.95),
    },
    ("05_traversals", "interpolate-figure-md"): {"500": 1000 / 2},
    ("05_traversals", "two-seen"): {"400": 20 * 20},
    ("06_experiments", "table-seen"): dict.fromkeys(("128", "2e-3", "1e-4"), "of its command"),
    ("07_likelihood", "gray-md"): {"-85": "of papers", "-99": "of papers"},
    ("07_likelihood", "floor-seen"): {"-85": "of papers", "-99": "of papers"},
    ("08_scaling_out", "speed-md"): {"20": 3 * 7 - 1},
    ("solutions/06_experiments", "exchange"): {"1,024": "steps of the table"},
    ("solutions/06_experiments", "exchange-seen"): {"1,024": "steps of the table"},
    ("solutions/06_experiments", "free"): {"1,024": "steps of the table"},
    ("solutions/06_experiments", "longer-seen"): {"1,024": "steps of the table"},
    ("solutions/06_experiments", "fit-seen"): {"3,299": 50 * (10 + 55) + 49},
    ("solutions/07_likelihood", "full-seen"): {"45": math.comb(10, 2)},
}

NUMBER = re.compile(
    r"(?<![\w.^_])(?<!\w[-–])(?:(?<!\w)[-−])?"
    r"(?:10\^\{?-?\d+\}?|\d+(?:(?:,|\{,\})\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?"
    rf"|(?:{'|'.join(WORDS)})(?=[ -](?:nats?|percent|times (?:as|the)|years)\b))(?!\w|\.\d)",
    flags=re.IGNORECASE,
)
NO_RESULT = re.compile(
    r"```.*?```|`[^`\n]*`|\]\([^)\s]*\)|https?://\S+"  # code, links
    r"|^#+ \d\.|^\d+\. |(?<![\d.,])(?:0\d|(?:19|20)\d\d)\b(?![.,]\d)"  # numbering, notebooks, years
    r"|\b(?:section|exercise|question|figure|equation)s? \d+(?:\.\d+)*"
    r"|\d+(?:[.–]\d+)?(?: to \d+)? (?:s|min|seconds|minutes|hours|days|[MG]B)\b"
    r"|\b(?:the|an?|thin) \d(?=s?\b(?! nat|\.\d))",  # a digit by its name: the 7
    flags=re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
MATH = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", flags=re.DOTALL)
TEX = {  # to Python
    r"\{,\}": "",
    r"\\[td]?frac\{([^{}]*)\}\{([^{}]*)\}": r"((\1) / (\2))",
    r"([\d)]) ?(?=\(|\\log)": r"\1 * ",
    r"\\log (\d+)": r"math.log(\1)",
    r"\\cdot": "*",
    r"\^": "**",
    r"\be\b": "math.e",
}


class Found(NamedTuple):
    """A number in the prose of a cell, and the cell that holds it, if one does."""

    cell: str
    text: str
    start: int
    kind: str  # output, guard, arithmetic, code, exempt, or nothing
    holder: str
    context: str


class Source(NamedTuple):
    kind: str
    cell: str
    numbers: list[str]


def value(text: str) -> tuple[float, float, int]:
    """Returns a number, the unit of its last digit, and how many digits it has."""
    text = re.sub(r"[{},]", "", text.lower().replace("−", "-").replace("10^", "1e"))
    if text in WORDS:
        return float(WORDS.index(text)), 1.0, 1
    mantissa, _, exponent = text.lstrip("-").partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return float(text), unit, len(mantissa.replace(".", "").lstrip("0"))


def holds(number: str, percent: bool, candidate: str) -> bool:
    """Whether a number is the candidate, rounded; an integer of one digit has to be there as it is."""
    (said, unit, digits), exact = value(number), value(candidate)[0]
    for x in (exact, 100 * exact) if percent else (exact,):
        x = x if said < 0 else abs(x)
        if x == said or (digits > 1 or unit < 1) and abs(x - said) <= 0.5000001 * unit:
            return True
    return False


def computed(side: str) -> float | None:
    """Returns the value of one side of an equation in TeX, if it consists of numbers."""
    for tex, python in TEX.items():
        side = re.sub(tex, python, side)
    try:
        return float(eval(side.strip(), {"__builtins__": {}, "math": math}))
    except (SyntaxError, TypeError, NameError, ZeroDivisionError):
        return None


def equation(formula: str) -> bool | None:
    """Whether a formula that ends with an equation between numbers is right, rounded."""
    *_, left, right = ["", *re.split(r"=|\\approx", formula.strip("$"))]
    values = computed(left), computed(right)
    if None in values or NUMBER.fullmatch(left.strip()):
        return None
    return abs(values[0] - values[1]) <= 0.5000001 * value(right.strip())[1]


def blank(pattern: re.Pattern, text: str) -> str:
    """Leaves spaces where the pattern matches, so that all else stays in its place."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def spoken(text: str) -> Iterator[tuple[re.Match, bool | None]]:
    """Yields the numbers that may be results, and whether each is part of a right equation.

    In another formula these are the decimals, and what stands alone on its side.
    """
    text = blank(NO_RESULT, text)
    formulas = list(MATH.finditer(text))
    for match in NUMBER.finditer(text):
        within = next((f[0] for f in formulas if f.start() < match.start() < f.end()), None)
        right = equation(within) if within else None
        alone = re.search(r"(?:\$|=|\\approx|[<>+±]|\\pm)\s*$", text[: match.start()])
        alone = alone and re.match(r"\s*(?:\$|=|\\approx|[.,;]|\\%)", text[match.end() :])
        if not within or right is not None or alone or "." in match[0]:
            yield match, right


def sections(cells: list) -> list[tuple[str, list]]:
    """Returns the parts of a notebook with all headings in each; the head is the first."""
    parts = [("", [])]
    for cell in cells:
        headings = re.findall(r"^##+ (.*)", cell.source, flags=re.MULTILINE)
        if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, flags=re.MULTILINE):
            parts.append(("", []))
        if cell.cell_type == "markdown":
            parts[-1] = ("\n".join([parts[-1][0], *headings]), parts[-1][1])
        parts[-1][1].append(cell)
    return parts


def written(code: str) -> list[str]:
    """Returns the numbers of a cell's code, those in its strings, too."""
    tree = ast.parse(re.sub(r"^( *)[!%].*", r"\1pass", code, flags=re.MULTILINE))
    nodes = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    found = [str(node) for node in nodes if type(node) in (int, float)]
    found += [
        match[0] for node in nodes if isinstance(node, str) for match in NUMBER.finditer(node)
    ]
    return found


def sources(cells: list) -> list[Source]:
    """Returns what the code cells hold: outputs first, then guards, then values that are set."""
    found = []
    for cell in cells:
        if cell.cell_type != "code":
            continue
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts = [
                output.get("text", ""),
                data.get("text/plain", ""),
                data.get("text/markdown", ""),
            ]
            text = re.sub(r"^<.*>$", "", "\n".join(texts), flags=re.MULTILINE)
            found.append(Source("output", cell.id, [m[0] for m in NUMBER.finditer(text)]))
        kind = "guard" if "guard" in cell.metadata.get("tags", []) else "code"
        found.append(Source(kind, cell.id, written(cell.source)))
    return sorted(found, key=lambda source: ("output", "guard", "code").index(source.kind))


@functools.cache
def _sources_of(path: Path) -> list[Source]:
    """Returns what a whole notebook prints and guards, read once."""
    return sources(nbformat.read(path, as_version=4).cells)


def named(block: str, path: Path) -> list[Source]:
    """Returns what is held by the files that a paragraph links to."""
    found = []
    for link in re.findall(r"\]\(([\w./]+\.(?:ipynb|md))\)", block):
        target = (path.parent / link).resolve()
        if target.suffix == ".ipynb":
            found += _sources_of(target)
        else:
            found.append(
                Source("output", target.name, [m[0] for m in NUMBER.finditer(target.read_text())])
            )
    return [source for source in found if source.kind != "code"]


def holder(number: str, percent: bool, candidates: list[Source]) -> tuple[str, str]:
    for source in candidates:
        # A guard may speak of a loss where the prose speaks of a negative number.
        said = number if source.kind == "output" else number.lstrip("-−")
        if any(holds(said, percent, candidate) for candidate in source.numbers):
            return source.kind, source.cell
    return "", ""


def judged(text: str, candidates: list[Source], by_hand: dict) -> Iterator[tuple]:
    """Yields the numbers of a paragraph, each with the kind of what holds it, and its name."""
    for match, right in spoken(text):
        percent = bool(re.match(r"(?:\$| |\\)*%", text[match.end() :]))
        kind, by = holder(match[0], percent, candidates)
        said, unit, _ = value(match[0])
        if right is not None and kind in ("", "code"):
            kind, by = "arithmetic", ""
        if not kind and said in SIZES:
            kind = "size"
        if not kind and match[0] in by_hand:
            by = by_hand[match[0]]
            kind = "by hand" if isinstance(by, str) or abs(by - said) <= unit / 2 else ""
        yield match, "" if right is False else kind, by


def find(notebook: nbformat.NotebookNode, path: Path) -> list[Found]:
    """Returns the numbers in the prose of a notebook, and what holds them."""
    found, parts = [], sections(notebook.cells)
    name = paths.name(path).removesuffix(".ipynb")
    parameters = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    for headings, cells in parts:
        if NO_RESULTS & set(headings.split("\n")):
            continue
        own = sources([*cells, *parameters])
        for cell in cells:
            if cell.cell_type != "markdown":
                continue
            for block in re.finditer(r"(?:[^\n]+\n?)+", cell.source):
                quoted = set(re.findall(r'"([^"]+)"', block[0]))
                other = [
                    c for titles, there in parts if quoted & set(titles.split("\n")) for c in there
                ]
                candidates = own + sources(other) + named(block[0], path)
                by_hand = BY_HAND.get((name, cell.id), {})
                for match, kind, by in judged(block[0], candidates, by_hand):
                    start = block.start() + match.start()
                    context = cell.source[max(0, start - 40) : start + 40].replace("\n", " ")
                    found.append(Found(cell.id, match[0], start, kind, by, context))
    return found


def main() -> None:
    for path in [Path(name).resolve() for name in sys.argv[1:]] or paths.notebooks():
        print(paths.name(path))
        for f in find(nbformat.read(path, as_version=4), path):
            print(f"  {f.cell:24} {f.text:>8}  {f.kind:10} {f.holder!s:24} {f.context}")


if __name__ == "__main__":
    main()
