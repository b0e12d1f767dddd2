"""The teacher's guide and the glossary speak of what is there: sections, cells, numbers, targets."""

import itertools
import math
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
PAGES = [FOLDER / "README.md", FOLDER / "GLOSSARY.md"]
GUIDE, GLOSSARY = (path.read_text(encoding="utf-8") for path in PAGES)
NOTEBOOKS = {path.name[:2]: path for path in sorted(FOLDER.glob("[0-9]*.ipynb"))}
WHAT = ("the model", "the objective", "single sections")


def cells(number):
    return nbformat.read(NOTEBOOKS[number], as_version=4).cells


def prose(number):
    return "\n".join(cell.source for cell in cells(number) if cell.cell_type == "markdown")


def headings(number):
    return set(re.findall(r"^##+ (.*)", prose(number), flags=re.MULTILINE))


def words(number):
    """Returns all that a notebook and the solutions to its exercises say and print."""
    texts = []
    for path in (NOTEBOOKS[number], FOLDER / "solutions" / NOTEBOOKS[number].name):
        for cell in nbformat.read(path, as_version=4).cells if path.exists() else []:
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


def plan(title):
    return rows(section(GUIDE, title))


PLANS = {"The 90-minute plan": 90, "The 3-hour plan": 180}
STEPS = [row for title in PLANS for row in plan(title)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_resolve(path):
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    assert links
    for link in links:
        assert re.match(r"https://", link) or (path.parent / link).exists(), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_tables_are_whole_and_math_renders_everywhere(path):
    text = path.read_text(encoding="utf-8")
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block
    for formula in re.findall(r"\$[^$\n]+\$", re.sub(r"`[^`\n]*`|```.*?```", "", text)):
        # Markdown eats a backslash before punctuation, and a table a bare |.
        assert not re.search(r"\||\\[^A-Za-z]|\\operatorname|\\bm|\\begin", formula), formula


@pytest.mark.parametrize(("title", "minutes"), PLANS.items())
def test_the_minutes_add_up(title, minutes):
    spans = [tuple(map(int, row[0].split("–"))) for row in plan(title)]
    assert spans[0][0] == 0 and spans[-1][1] == minutes
    for (start, end), (following, _) in itertools.pairwise(spans):
        assert start < end == following


def test_what_the_long_plan_takes_from_the_short_one_takes_as_long():
    ends = {minute for row in plan("The 90-minute plan") for minute in row[0].split("–")}
    found = 0
    for minutes, where, *_ in plan("The 3-hour plan"):
        if taken := re.search(r"the 90-minute plan, minutes (\d+)–(\d+)", where):
            start, end = map(int, minutes.split("–"))
            assert end - start == int(taken[2]) - int(taken[1]), where
            assert {taken[1], taken[2]} <= ends, where
            found += 1
    assert found == 3


def test_sections_are_named_as_the_notebooks_name_them():
    """A section stands as: number of the notebook, heading in quotes."""
    in_guide = re.findall(r"\b(0[1-7]) (\"[^\"|]+\"(?: and \"[^\"|]+\")*)", GUIDE)
    in_glossary = re.findall(r"\[(0[1-7])\]\(0\d_\w+\.ipynb\) (\"[^\"|]+\")", GLOSSARY)
    assert len(in_guide) > 48 and len(in_glossary) >= len(rows(GLOSSARY)) > 80
    for number, quoted in in_guide + in_glossary:
        assert set(re.findall(r"\"([^\"]+)\"", quoted)) <= headings(number), (number, quoted)


def test_cells_are_named_by_a_line_of_theirs():
    named = 0
    for _, where, *_ in STEPS:
        found = re.match(r"(?:shut 0\d down; )?(0[1-7])", where)
        listed = re.findall(r"cells? ((?:`[^`]+`(?: and | to )?)+)", where)
        for line in re.findall(r"`([^`]+)`", " ".join(listed)):
            named += 1
            sources = [cell.source for cell in cells(found[1]) if cell.cell_type == "code"]
            lines = "\n".join(sources).splitlines()
            assert any(start.startswith(line) for start in lines), (where, line)
    assert named > 38


def test_exercises_are_named_as_the_notebooks_name_them():
    named = re.findall(r"(0\d) exercise (\d), \"([^\"]+)\"", GUIDE)
    named += [(n, k, t) for k, n, t in re.findall(r"exercise (\d) of (0\d), \"([^\"]+)\"", GUIDE)]
    assert len(named) >= 4
    for number, k, title in named:
        assert f"**{k}. {title}**" in prose(number), (number, k, title)


def decimals(text):
    return re.findall(r"\d+\.\d+|\de[+-]\d+|\d{1,3}(?:,\d{3})+", re.sub(r"`[^`]*`", "", text))


def says(text, number):
    """Whether a number stands in a text, as it is or as float32 prints it."""
    exact = re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", text)
    longer = re.findall(rf"(?<![\d.]){re.escape(number.split('.')[0])}\.\d{{5,}}", text)
    return bool(exact) or any(abs(float(found) - float(number)) < 1e-5 for found in longer)


def test_the_numbers_that_students_see_are_those_of_the_stored_run():
    seen = 0
    for _, where, _, see, _ in STEPS:
        if numbers := decimals(see):
            said = words(re.search(r"\b(0[1-7])(?= \"| exercise|, from)", where)[1])
            for number in numbers:
                seen += 1
                assert says(said, number), (where, number)
    assert seen > 80


def test_answers_to_misconceptions_have_the_numbers_of_the_stored_run():
    table = rows(section(GUIDE, "Misconceptions to expect"))
    assert len(table) >= 12
    for _, answer, show in table:
        numbers = re.findall(r"\b(0[1-7]) (?:\"|exercise)", show)
        said = "\n".join(map(words, numbers))
        for number in decimals(answer):
            assert says(said, number), (show, number)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))
    code = re.findall(r"`([^`\n]+)`", GUIDE) + re.findall(r"```\n(.*?)```", GUIDE, flags=re.DOTALL)
    lines = [line for text in code for line in text.splitlines() if re.search(r"\bmake ", line)]
    assert len(lines) > 8
    for line in lines:
        for word in line.split("make ", 1)[1].split("ARGS")[0].split():
            if word == ".venv/.set-up":
                assert f"SET_UP := {word}\n" in makefile
            elif "=" not in word:
                assert word in targets, line


def test_files_that_the_guide_names_exist():
    names = re.findall(r"`((?:tests|\.github|notebooks)/[\w./-]+|[\w-]+\.toml|Makefile)`", GUIDE)
    assert len(names) > 5
    for name in names:
        assert (ROOT / name).exists(), name


def numbered(text):
    return re.findall(r"^(\d+)\. (.*)", text, flags=re.MULTILINE)


def test_ten_questions_ten_answers_and_their_marks():
    text = section(GUIDE, "Assessment")
    questions, answers = numbered(text), numbered(section(GUIDE, "Answers"))
    assert [k for k, _ in questions] == [k for k, _ in answers] == [str(k) for k in range(1, 11)]
    total = int(re.search(r"Ten questions, (\d+) marks", text)[1])
    marks = [int(re.match(r"\*\((\d+)\)\*", question)[1]) for _, question in questions]
    assert sum(marks) == total
    for mark, (k, answer) in zip(marks, answers, strict=True):
        assert sum(map(int, re.findall(r"\((\d)\)", answer))) == mark, k


def test_computed_answers_are_right():
    answer = dict(numbered(section(GUIDE, "Answers")))
    kl = 0.5 * (0.5**2 + 1**2 - 1) - math.log(0.5)
    assert f"**{kl:.3f} nats**" in answer["3"] and f"**{10 * kl:.2f} nats**" in answer["3"]
    assert f"β = {0.01 * 784 / 20:.3f}" in answer["4"] and f"**{20 / 784:.4f}**" in answer["4"]
    distortion, rate = 0.160 * 784, 1.20 * 10
    for number in (distortion, rate, -distortion - rate):
        assert f"**{number:.1f}**" in answer["5"]
    models = {"A": (33.2, 100.2), "B": (24.5, 102.6), "C": (12.9, 117.0)}
    question = dict(numbered(section(GUIDE, "Assessment")))["6"]
    for name, (r, d) in models.items():
        assert f"{name} ({r}, {d:.1f})" in question
    bounds = {name: -r - d for name, (r, d) in models.items()}
    losses = {name: d + 3 * r for name, (r, d) in models.items()}
    assert ", ".join(f"{bound:.1f}" for bound in bounds.values()) in answer["6"]
    assert ", ".join(f"{loss:.1f}" for loss in losses.values()) in answer["6"]
    assert f"**{max(bounds, key=bounds.get)}** (1). (b)" in answer["6"]
    assert f"**{min(losses, key=losses.get)}** (1)." in answer["6"].split("(c)")[1]
    for one, other in ("AB", "BC"):
        price = (models[other][1] - models[one][1]) / (models[one][0] - models[other][0])
        assert f"**{price:.2f}**" in answer["6"]


def test_terms_of_the_glossary_occur_where_it_says():
    terms = rows(section(GLOSSARY, "Terms"))
    assert len(terms) > 50
    names = [term.strip("*") for term, _, _ in terms]
    assert names == sorted(names, key=lambda name: name.lower().replace("β", "beta"))
    for term, _, where in terms:
        said = re.sub(r"[*\s]+", " ", prose(re.search(r"\[(0\d)\]", where)[1])).lower()
        assert term.strip("*").lower() in said, term


def formulas(text):
    """Returns all math of a text as signs with spaces between, without braces and sizes."""
    found = re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", text, flags=re.DOTALL)
    signs = re.findall(r"\\[A-Za-z]+|\\,|\S", " ; ".join(map("".join, found)))
    dropped = {"{", "}", "\\left", "\\right", "\\bigl", "\\bigr", "\\,"}
    return f" {' '.join(sign for sign in signs if sign not in dropped)} "


def test_symbols_of_the_glossary_occur_where_it_says():
    tables = [rows(section(GLOSSARY, f"Symbols of {what}")) for what in WHAT]
    assert min(map(len, tables)) > 10
    for symbol, _, _, where in itertools.chain(*tables):
        said = formulas("\n".join(map(prose, re.findall(r"\[(0\d)\]", where))))
        for formula in re.findall(r"\$[^$]+\$", symbol):
            assert formulas(formula) in said, (symbol, where)
