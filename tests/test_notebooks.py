"""Rules that every notebook follows, read from the files without running them."""

import ast
import base64
import json
import re

import nbformat
import pytest
from paths import NOTEBOOKS, notebooks, pages
from run import METADATA, outputs_digest, sources_digest

PATHS = notebooks(folders=("",))
SOLUTIONS = notebooks(folders=("solutions",))


def name(path):
    return path.relative_to(NOTEBOOKS.parent).with_suffix("").as_posix()


@pytest.fixture(params=PATHS, ids=name)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture(params=[*PATHS, *SOLUTIONS], ids=name)
def any_notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook, tag=None):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if tag is None or tag in cell.metadata.get("tags", [])]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def headings(notebook, level=2):
    return re.findall(rf"^{'#' * level} (.*)", prose(notebook), flags=re.MULTILINE)


def on_your_own(notebook):
    return prose(notebook).split("## On your own")[1].split("## Further reading")[0]


def test_the_notebooks_are_numbered_and_each_has_solutions():
    assert [path.name[:3] for path in PATHS] == [f"{i:02}_" for i in range(1, len(PATHS) + 1)]
    assert [path.name for path in SOLUTIONS] == [path.name for path in PATHS]


def test_a_notebook_has_every_part_in_its_place(notebook):
    """Badges, title with what you'll do, setup, imports, hyperparameters, steps, exercises, reading."""
    badges, first = notebook.cells[:2]
    assert badges.source.startswith("[![Open in Colab]") and first.source.startswith("# ")
    for part in ("You'll do", "You'll learn", "You'll need", "Time"):
        assert f"**{part}**" in first.source
    cells = code_cells(notebook)
    assert code_cells(notebook, "setup") == cells[:1]
    assert code_cells(notebook, "parameters") == cells[2:3]
    assert headings(notebook)[-3:] == ["Go deeper", "On your own", "Further reading"]
    assert len(headings(notebook, level=1)) == 1
    exercises = re.split(r"^\*\*\d+\. ", on_your_own(notebook), flags=re.MULTILINE)[1:]
    assert 2 <= len(exercises) <= 4
    for exercise in exercises:
        assert exercise.count("?") <= 3, exercise
        for word in ("Predict", "Change", "Look at"):
            assert f"**{word}**: " in exercise, exercise


@pytest.mark.parametrize("path", SOLUTIONS, ids=name)
def test_each_exercise_has_code_an_answer_and_a_guard(path):
    """Badges, title with a link back, setup; for each exercise code, an answer and a guard."""
    solution = nbformat.read(path, as_version=4)
    notebook = nbformat.read(NOTEBOOKS / path.name, as_version=4)
    badges, first = solution.cells[:2]
    assert badges.source.startswith("[![Open in Colab]")
    title = f"# Solutions to {path.name[:2]}: {headings(notebook, level=1)[0]}\n"
    assert first.source.startswith(title) and f"(../{path.name})" in first.source
    assert code_cells(solution, "setup") == code_cells(solution)[:1]
    exercises = re.findall(r"^\*\*(\d+\. .+?)\*\* \(", on_your_own(notebook), flags=re.MULTILINE)
    assert headings(solution) == exercises and f"(solutions/{path.name})" in on_your_own(notebook)
    assert [exercise[0] for exercise in exercises] == list("1234"[: len(exercises)])
    starts = [i for i, cell in enumerate(solution.cells) if cell.source.startswith("## ")]
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        cells = solution.cells[start:end]
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert text.count("**What you should see**: ") == text.count("**Why**: ") == 1
        guards = [cell for cell in cells if "guard" in cell.metadata.get("tags", [])]
        assert guards == cells[-1:] and any(cell.get("outputs") for cell in cells)
    code = "\n".join(cell.source for cell in code_cells(solution))
    packaged = code.replace("np.load(FOLDER", "").replace("read_csv(FOLDER", "")  # of the package
    assert not re.search(r"\bopen\(|np\.load|read_csv|ipynb|%run", packaged), "it needs a file"


def reading_minutes(notebook):
    """Counts core and depth: 200 words and 10 lines of code a minute, half a minute for a figure
    or a table, 20 s for a displayed formula."""
    parts = {"core": 0.0, "Go deeper": 0.0}
    part = "core"
    for cell in notebook.cells:
        if "## On your own" in cell.source:
            return parts
        part = "Go deeper" if cell.source.startswith("## Go deeper") else part
        if cell.cell_type == "markdown":
            formulas = cell.source.count("$$") // 2
            text = re.sub(r"\$\$.*?\$\$|\[!\[.*", " ", cell.source, flags=re.DOTALL)
            parts[part] += len(text.split()) / 200 + formulas / 3
        else:
            hidden = is_folded(cell) or "setup" in cell.metadata.get("tags", [])
            lines = 0 if hidden else sum(map(bool, map(str.strip, cell.source.splitlines())))
            shown = [{"image/png", "text/html"} & set(o.get("data", {})) for o in cell.outputs]
            parts[part] += lines / 10 + sum(map(bool, shown)) / 2
    raise AssertionError("no exercises")


def test_the_core_is_read_in_half_an_hour_and_the_times_are_said(notebook):
    minutes = reading_minutes(notebook)
    said = re.search(r'core (\d+) min, "Go deeper" (\d+) min', notebook.cells[1].source)
    assert round(minutes["core"]) <= 30
    for number, counted in zip(said.groups(), minutes.values(), strict=True):
        assert abs(int(number) - counted) < 1.5, minutes


def test_each_notebook_links_to_the_next():
    following = [*(path.name for path in PATHS[1:]), "../README.md"]
    for path, link in zip(PATHS, following, strict=True):
        assert f"({link})" in nbformat.read(path, as_version=4).cells[-1].source, path


def test_hyperparameters_are_plain_assignments_and_a_form(notebook):
    """Each with its reason above it, and a field on Colab that allows the value."""
    source = code_cells(notebook, "parameters")[0].source
    assert source.startswith("# @title Hyperparameters\n")
    lines, names = source.splitlines(), set()
    for node in ast.parse(source).body:
        line, above = lines[node.lineno - 1], lines[node.lineno - 2]
        assert re.match(r"# @markdown \S", above), f"{line} has no reason above it"
        names.add(node.targets[0].id)
        value = ast.literal_eval(node.value)
        assert value is not True, "as stored, a notebook is the whole run"
        assert re.search(r'  # @param (\[.*\] )?\{type:"\w+".*\}$', line), line
        if limits := re.search(r'type:"slider", min:(.+), max:(.+), step:', line):
            assert float(limits[1]) <= value <= float(limits[2]), line
    assert len(names) == len(ast.parse(source).body)
    if any("train(" in cell.source for cell in code_cells(notebook)):
        assert {"latent_size", "training_steps"} <= names or "latent_sizes" in names
        assert re.search(r"per 1,000|s a model", source), "what a training step costs"


def test_claims_are_guarded(any_notebook):
    guards = code_cells(any_notebook, "guard")
    assert len(guards) >= 2 and not any(cell.outputs for cell in guards)
    for cell in code_cells(any_notebook):
        assert ("claim(" in cell.source) == (cell in guards)


def stored_names(source):
    """Returns the names that a cell leaves in the kernel."""
    tree = ast.parse(re.sub(r"^( *)[!%].*$", r"\1pass", source, flags=re.MULTILINE))
    inner = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp)
    inner += (ast.DictComp, ast.GeneratorExp)
    found, nodes = set(), list(tree.body)
    while nodes:
        node = nodes.pop()
        found |= {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()
        found |= (
            {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
        )
        nodes += [] if isinstance(node, inner) else ast.iter_child_nodes(node)
    return found


def is_folded(cell):
    return bool({"guard", "folded"} & set(cell.metadata.get("tags", [])))


def test_folded_cells_are_folded_everywhere(any_notebook):
    for cell in filter(is_folded, code_cells(any_notebook)):
        assert cell.source.startswith("# @title ") and cell.metadata["cellView"] == "form"
        assert cell.metadata["jupyter"] == {"source_hidden": True}


def test_no_code_scrolls_sideways(any_notebook):
    """The lines of a form and links can't be broken."""
    for cell in code_cells(any_notebook):
        for line in cell.source.splitlines():
            assert len(line) <= 79 or re.search("# @|://", line), line


def test_cells_are_read_at_a_glance(notebook):
    for cell in code_cells(notebook):
        if not (is_folded(cell) or cell.id in ("setup", "imports", "parameters")):
            assert sum(map(bool, map(str.strip, cell.source.splitlines()))) <= 15, cell.id


def test_each_figure_says_what_is_seen(any_notebook):
    for cell in code_cells(any_notebook):
        pictures = [o for o in cell.outputs if "image/png" in o.get("data", {})]
        assert bool(pictures) == ("alt" in cell.metadata), cell.id
        for output in pictures:
            assert output.metadata["image/png"]["alt"] == cell.metadata["alt"], "refresh it"
            assert re.fullmatch(r"[A-Z].{30,}\.", cell.metadata["alt"])


def test_no_picture_waits_until_its_notebook_is_trusted():
    """As JupyterLab has an SVG wait, and shows its text/plain."""
    for path in [*PATHS, *SOLUTIONS]:
        for output in outputs(nbformat.read(path, as_version=4)):
            kinds = set(output.get("data", {}))
            assert "image/svg+xml" not in kinds or kinds & {"image/png", "text/html"}, path


def test_guards_overwrite_no_name(any_notebook):
    guards = code_cells(any_notebook, "guard")
    for cell in guards:
        assert cell.source.startswith("# @title Check the sentences above\n")
    others = [cell.source for cell in code_cells(any_notebook) if cell not in guards]
    names = set().union(*map(stored_names, others))
    assert not names & set().union(*(stored_names(cell.source) for cell in guards))


def test_outputs_are_clean_and_of_one_run_of_these_cells(any_notebook, request):
    mend = f"make refresh NOTEBOOK={request.node.callspec.id.removeprefix('notebooks/')}"
    counts = [cell.execution_count for cell in code_cells(any_notebook)]
    assert counts == list(range(1, len(counts) + 1)), mend
    for output in outputs(any_notebook):
        assert output.output_type != "error" and output.get("name") != "stderr"
        assert output.get("data") != {}
        assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
        if re.match(r"<Figure|Figure\(|<plotnine", output.get("data", {}).get("text/plain", "")):
            assert "image/png" in output.data, "a figure is seen"
    # JupyterLab adds it where a notebook is opened.
    any_notebook.metadata.language_info.pop("version", None)
    assert any_notebook.metadata == {
        **METADATA,
        "outputs_of": sources_digest(any_notebook),
        "outputs": outputs_digest(any_notebook),
    }, mend


def test_files_are_small_and_name_no_place_of_a_machine(any_notebook):
    text = json.dumps([outputs(any_notebook), [cell.source for cell in any_notebook.cells]])
    text = re.sub(r"[A-Za-z0-9+/=]{200,}", "", text)  # pictures and weights
    found = re.search(r"/(home|root|tmp|Users|work|content)/|\bC:\\|0x[0-9a-f]{6,}", text)
    assert found is None, found
    assert "filterwarnings" not in text and "simplefilter" not in text
    assert len(nbformat.writes(any_notebook)) < 2_000_000
    pictures = [output.get("data", {}).get("image/png", "") for output in outputs(any_notebook)]
    assert all(len(base64.b64decode(picture)) < 150_000 for picture in pictures)


def test_metadata_of_cells_are_minimal(any_notebook):
    for cell in any_notebook.cells:
        folded = {"cellView", "jupyter"} if is_folded(cell) else set()
        assert folded <= set(cell.metadata) <= {"alt", "slideshow", "tags"} | folded
        assert set(cell.metadata.get("tags", [])) <= {"setup", "parameters", "guard", "folded"}
    ids = [cell.id for cell in any_notebook.cells]
    assert len(set(ids)) == len(ids) and re.fullmatch(r"([a-z0-9-]+ )+", " ".join([*ids, ""]))
    kinds = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in any_notebook.cells]
    assert set(kinds) <= {None, "slide", "subslide", "fragment", "skip", "notes"}
    if set(kinds) > {None}:
        assert kinds[:2] == ["skip", "slide"]  # the badges, the title


TEXTS = [NOTEBOOKS.parent / "README.md", NOTEBOOKS.parent / "CONTRIBUTING.md", *pages()]


@pytest.mark.parametrize("path", [*PATHS, *SOLUTIONS, *TEXTS], ids=name)
def test_prose_renders_everywhere_and_its_links_resolve(path):
    page = path.suffix == ".md"
    text = path.read_text("utf-8") if page else prose(nbformat.read(path, as_version=4))
    assert "![](" not in text and "<img" not in text, "a picture without a text"
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block
    for formula in re.findall(r"\$\$.*?\$\$|\$[^$\n]+\$", text, flags=re.DOTALL):
        for macro in (r"\|", r"\label", r"\operatorname*", r"\begin{align}", r"\bm"):
            assert macro not in formula, formula
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    for link in links:
        assert re.match(r"https?://|#", link) or (path.parent / link.split("#")[0]).exists(), link
