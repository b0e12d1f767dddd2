"""The teacher's guide and the glossary speak of what is there: sections, cells, numbers, targets."""

import functools
import itertools
import re
from pathlib import Path

import nbformat
import pytest
from paths import notebooks

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
GUIDE = (FOLDER / "README.md").read_text(encoding="utf-8")
GLOSSARY = (FOLDER / "GLOSSARY.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.name[:2]: path for path in notebooks(folders=("",))}


@functools.cache
def cells(path):
    return nbformat.read(path, as_version=4).cells


def prose(number):
    found = [cell.source for cell in cells(NOTEBOOKS[number]) if cell.cell_type == "markdown"]
    return "\n".join(found)


def words(number):
    """Returns all that a notebook and the solutions to its exercises say and print."""
    texts = []
    for path in (NOTEBOOKS[number], FOLDER / "solutions" / NOTEBOOKS[number].name):
        for cell in cells(path):
            texts.append(cell.source)
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                texts += [output.get("text", ""), data.get("text/plain", "")]
                texts.append(data.get("text/markdown", ""))
    return "\n".join(texts)


def section(page, title):
    return page.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text):
    """Returns the cells of each row of the tables in a text, without their heads."""
    tables = re.findall(r"^\|.*\n\|[ :|-]+\n((?:\|.*\n?)+)", text, flags=re.MULTILINE)
    lines = "".join(tables).splitlines()
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


PLANS = {title: rows(section(GUIDE, title)) for title in ("The 90-minute plan", "The 3-hour plan")}
STEPS = list(itertools.chain(*PLANS.values()))


def minutes(text):
    return tuple(map(int, re.search(r"(\d+)–(\d+)", text).groups()))


def test_students_work_for_35_of_90_minutes():
    spans = [minutes(row[0]) for row in PLANS["The 90-minute plan"] if "**Pairs**" in row[2]]
    worked = sum(end - start for start, end in spans)
    assert worked >= 35 and f"{worked} minutes in all" in section(GUIDE, "The 90-minute plan")


@pytest.mark.parametrize(("title", "length"), [*zip(PLANS, (90, 180), strict=True)])
def test_the_minutes_add_up(title, length):
    """What the long plan takes from the short one takes as long there."""
    spans = [minutes(row[0]) for row in PLANS[title]]
    assert [0, *(end for _, end in spans)] == [*(start for start, _ in spans), length]
    for (start, end), (_, where, *_) in zip(spans, PLANS[title], strict=True):
        assert start < end
        if where.startswith("the 90-minute plan"):
            first, last = minutes(where.split("minutes")[1])
            assert end - start == last - first, where


def test_sections_are_named_as_the_notebooks_name_them():
    """A section stands as: number of the notebook, heading in quotes."""
    in_guide = re.findall(r"\b(0[1-7]) (\"[^\"|]+\"(?: and \"[^\"|]+\")*)", GUIDE)
    in_glossary = re.findall(r"\[(0[1-7])\]\(0\d_\w+\.ipynb\) (\"[^\"|]+\")", GLOSSARY)
    assert len(in_guide) > 32 and len(in_glossary) >= len(rows(GLOSSARY)) > 80
    for number, quoted in in_guide + in_glossary:
        headings = re.findall(r"^##+ (.*)", prose(number), flags=re.MULTILINE)
        assert set(re.findall(r"\"([^\"]+)\"", quoted)) <= set(headings), (number, quoted)


def test_cells_are_named_by_a_line_of_theirs():
    named = 0
    for _, where, *_ in STEPS:
        listed = re.findall(r"cells? ((?:`[^`]+`(?: and | to )?)+)", where)
        for start in re.findall(r"`([^`]+)`", " ".join(listed)):
            number = re.match(r"(?:shut 0\d down; )?(0[1-7])", where)[1]
            code = [cell.source for cell in cells(NOTEBOOKS[number]) if cell.cell_type == "code"]
            assert f"\n{start}" in "\n".join(["", *code]), (where, start)
            named += 1
    assert named > 20


def test_exercises_are_named_as_the_notebooks_name_them():
    named = re.findall(r"(0\d) exercise (\d), \"([^\"]+)\"", GUIDE)
    named += [(n, k, t) for k, n, t in re.findall(r"exercise (\d) of (0\d), \"([^\"]+)\"", GUIDE)]
    assert len(named) >= 4
    for number, k, title in named:
        assert f"**{k}. {title}**" in prose(number), (number, k, title)


def says(text, number):
    """Whether a number stands in a text, as it is or as float32 prints it."""
    exact = re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", text)
    longer = re.findall(rf"(?<![\d.]){re.escape(number.split('.')[0])}\.\d{{5,}}", text)
    return bool(exact) or any(abs(float(found) - float(number)) < 1e-5 for found in longer)


def test_numbers_are_those_of_the_stored_run():
    """Those that students see in a step, and those of the answers to misconceptions."""
    pairs = [(see, where) for _, where, _, see, _ in STEPS]
    pairs += [row[1:] for row in rows(section(GUIDE, "Misconceptions to expect"))]
    seen = 0
    for text, where in pairs:
        said = "\n".join(map(words, re.findall(r"\b(0[1-7])(?= \"| exercise|, from)", where)))
        decimals = r"\d+\.\d+|\de[+-]\d+|\d{1,3}(?:,\d{3})+"
        for number in re.findall(decimals, re.sub(r"`[^`]*`", "", text)):
            assert says(said, number), (where, number)
            seen += 1
    assert seen > 60


def test_targets_and_files_that_the_guide_names_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    code = re.findall(r"`([^`\n]+)`", GUIDE) + re.findall(r"```\n(.*?)```", GUIDE, flags=re.DOTALL)
    targets = re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(code))
    assert len(targets) > 8
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    names = re.findall(r"`((?:tools|\.github)/[\w./-]+|[\w-]+\.toml|Makefile)`", GUIDE)
    assert len(names) > 5 and all((ROOT / name).exists() for name in names)


def formulas(text):
    """Returns all math of a text as signs with spaces between, without braces and sizes."""
    found = re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", text, flags=re.DOTALL)
    signs = re.findall(r"\\[A-Za-z]+|\\,|\S", " ; ".join(map("".join, found)))
    dropped = {"{", "}", "\\left", "\\right", "\\bigl", "\\bigr", "\\,"}
    return f" {' '.join(sign for sign in signs if sign not in dropped)} "


def test_terms_and_symbols_of_the_glossary_occur_where_it_says():
    terms = rows(section(GLOSSARY, "Terms"))
    names = [term.strip("*") for term, _, _ in terms]
    assert len(names) > 50
    assert names == sorted(names, key=lambda name: name.lower().replace("β", "beta"))
    for name, (_, _, where) in zip(names, terms, strict=True):
        said = re.sub(r"[*\s]+", " ", prose(re.search(r"\[(0\d)\]", where)[1])).lower()
        assert name.lower() in said, name
    for what in ("the model", "the objective", "single sections"):
        for symbol, _, _, where in rows(section(GLOSSARY, f"Symbols of {what}")):
            said = formulas("\n".join(map(prose, re.findall(r"\[(0\d)\]", where))))
            for formula in re.findall(r"\$[^$]+\$", symbol):
                assert formulas(formula) in said, (symbol, where)
