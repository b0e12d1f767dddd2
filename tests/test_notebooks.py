"""Rules that every notebook follows, read from the files without running them."""

import ast
import base64
import json
import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]
SOLUTIONS = sorted((FOLDER / "solutions").glob("*.ipynb"))
ALL = [*PATHS, *SOLUTIONS]
HYPERPARAMETERS = {
    "batch_size",
    "beta",
    "hidden_sizes",
    "latent_size",
    "learning_rate",
    "training_steps",
}

sys.path.insert(0, str(FOLDER))
from run import outputs_digest, sources_digest


def name(path):
    return path.relative_to(FOLDER).with_suffix("").as_posix()


@pytest.fixture(params=PATHS, ids=name)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture(params=SOLUTIONS, ids=name)
def solution(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture(params=ALL, ids=name)
def any_notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook, tag=None):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if tag is None or tag in cell.metadata.get("tags", [])]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def test_they_are_numbered_and_all_there():
    assert [name[:3] for name in NAMES] == [f"{i:02}_" for i in range(1, len(NAMES) + 1)]
    assert len(NAMES) >= 6


def test_the_frame(notebook):
    """Badges, title with what you'll do, setup, imports, hyperparameters, steps, exercises, reading."""
    badges, first = notebook.cells[:2]
    assert badges.cell_type == "markdown" and badges.source.startswith("[![Open in Colab]")
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    for part in ("You'll do", "You'll learn", "You'll need", "Time"):
        assert f"**{part}**" in first.source
    assert len(code_cells(notebook, "setup")) == 1
    assert len(code_cells(notebook, "parameters")) == 1
    assert len(code_cells(notebook, "guard")) >= 3
    assert code_cells(notebook)[0] is code_cells(notebook, "setup")[0]
    assert code_cells(notebook)[2] is code_cells(notebook, "parameters")[0]
    headings = re.findall(r"^## (.*)", "\n".join(prose(notebook)), flags=re.MULTILINE)
    assert headings[-2:] == ["On your own", "Further reading"]
    assert sum("\n# " in "\n" + text for text in prose(notebook)) == 1


def on_your_own(notebook):
    return "\n".join(prose(notebook)).split("## On your own")[1].split("## Further reading")[0]


def test_exercises_ask_for_a_prediction(notebook):
    exercises = re.split(r"^\*\*\d+\. ", on_your_own(notebook), flags=re.MULTILINE)[1:]
    assert 2 <= len(exercises) <= 4
    for exercise in exercises:
        for word in ("Predict", "Change", "Look at"):
            assert f"**{word}**: " in exercise, exercise


def test_each_notebook_has_its_solutions():
    assert {path.stem for path in SOLUTIONS} == set(NAMES)


@pytest.mark.parametrize("path", SOLUTIONS, ids=name)
def test_exercises_and_solutions_match_one_to_one(path):
    notebook = nbformat.read(FOLDER / path.name, as_version=4)
    exercises = re.findall(r"^\*\*(\d+\. .+?)\*\* \(", on_your_own(notebook), flags=re.MULTILINE)
    text = "\n".join(prose(nbformat.read(path, as_version=4)))
    assert re.findall(r"^## (.*)", text, flags=re.MULTILINE) == exercises
    assert [exercise.split(".")[0] for exercise in exercises] == list("1234"[: len(exercises)])
    assert f"(solutions/{path.name})" in on_your_own(notebook)


@pytest.mark.parametrize("path", SOLUTIONS, ids=name)
def test_solutions_have_their_frame(path):
    """Badges, title with a link back, setup, imports; for each exercise code, answer and guard."""
    solution = nbformat.read(path, as_version=4)
    notebook = nbformat.read(FOLDER / path.name, as_version=4)
    (title,) = re.findall(r"^# (.*)", "\n".join(prose(notebook)), flags=re.MULTILINE)
    badges, first = solution.cells[:2]
    assert badges.source.startswith("[![Open in Colab]")
    assert first.source.startswith(f"# Solutions to {path.name[:2]}: {title}\n")
    assert f"(../{path.name})" in first.source
    assert code_cells(solution)[0] is code_cells(solution, "setup")[0]
    starts = [i for i, cell in enumerate(solution.cells) if cell.source.startswith("## ")]
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        cells = solution.cells[start:end]
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert text.count("**What you should see**: ") == text.count("**Why**: ") == 1
        kinds = ["guard" in cell.metadata.get("tags", []) for cell in cells]
        assert sum(kinds) == 1 and kinds[-1]
        assert any(cell.get("outputs") for cell in cells)


def test_solutions_need_no_file_but_the_images(solution):
    source = "\n".join(cell.source for cell in code_cells(solution))
    assert not re.search(r"\bopen\(|np\.load|read_csv|ipynb|%run", source)


@pytest.mark.parametrize(
    ("path", "following"), list(zip(PATHS, [*NAMES[1:], None], strict=True)), ids=NAMES
)
def test_each_leads_to_the_next(path, following):
    last = prose(nbformat.read(path, as_version=4))[-1]
    assert (f"({following}.ipynb)" if following else "(../README.md)") in last


def form_fields(source):
    """Yields name, value, and what the form on Colab says of it, for each hyperparameter."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        assert isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name), node
        assert node.lineno == node.end_lineno
        line, above = lines[node.lineno - 1], lines[node.lineno - 2]
        field = re.search(r'  # @param (\[.*\] )?(\{type:"(\w+)".*\})$', line)
        assert field, line
        assert re.match(r"# @markdown \S", above), f"{line} has no reason above it"
        choices, options, kind = field.groups()
        yield node.targets[0].id, ast.literal_eval(node.value), choices, options, kind


def test_hyperparameters_are_plain_assignments_and_a_form(notebook):
    source = code_cells(notebook, "parameters")[0].source
    assert source.startswith("# @title Hyperparameters\n")
    fields = list(form_fields(source))
    for name, value, choices, options, kind in fields:
        if kind == "slider":
            low, high, step = (
                float(re.search(rf"{key}:([-\d.]+)", options)[1]) for key in ("min", "max", "step")
            )
            assert low <= value <= high and low < high, name
            assert abs((value - low) / step - round((value - low) / step)) < 1e-6, name
        elif kind in ("integer", "number"):
            assert isinstance(value, int if kind == "integer" else int | float), name
        elif kind == "boolean":
            assert value is False, name  # as stored, a notebook is the whole run
        else:
            assert kind == "raw", name
        if choices:
            assert value in [
                ast.literal_eval(choice) for choice in ast.literal_eval(choices.strip())
            ]
            assert "allow-input: true" in options
    names = [name for name, *_ in fields]
    assert len(set(names)) == len(names)
    if any("train(" in cell.source for cell in code_cells(notebook)):
        assert {"latent_size", "training_steps"} <= set(names) or "latent_sizes" in names
        assert re.search(r"per 1,000|s a model", source), "what a training step costs"


def test_pictures_in_prose_have_a_text(any_notebook):
    for text in prose(any_notebook):
        assert "![](" not in text and "<img" not in text


def test_claims_are_guarded(any_notebook):
    guards = code_cells(any_notebook, "guard")
    assert len(guards) >= 2
    for cell in guards:
        assert "claim(" in cell.source and not cell.outputs
    for cell in code_cells(any_notebook):
        assert ("claim(" in cell.source) <= (cell in guards)


def test_outputs_are_of_one_run_of_these_cells(any_notebook):
    counts = [cell.execution_count for cell in code_cells(any_notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert any_notebook.metadata["outputs_of"] == sources_digest(any_notebook)
    assert any_notebook.metadata["outputs"] == outputs_digest(any_notebook)


def test_outputs_are_clean(any_notebook):
    for output in outputs(any_notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        assert output.get("data") != {}
        assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


def test_no_place_of_a_machine_is_named(any_notebook):
    text = json.dumps([outputs(any_notebook), [cell.source for cell in any_notebook.cells]])
    text = re.sub(r"[A-Za-z0-9+/=]{200,}", "", text)  # pictures and weights
    found = re.search(r"/(home|root|tmp|Users|work|content)/|\bC:\\|0x[0-9a-f]{6,}", text)
    assert found is None, found
    assert "filterwarnings" not in text and "simplefilter" not in text


def test_metadata_are_minimal(any_notebook):
    assert any_notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "outputs_of": any_notebook.metadata["outputs_of"],
        "outputs": any_notebook.metadata["outputs"],
    }
    for cell in any_notebook.cells:
        assert set(cell.metadata) <= {"slideshow", "tags"}
        assert set(cell.metadata.get("tags", [])) <= {"setup", "parameters", "guard"}
    ids = [cell.id for cell in any_notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9-]+", identifier) for identifier in ids)


def test_slides_are_marked_from_the_first_cell_on_or_nowhere(any_notebook):
    kinds = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in any_notebook.cells]
    assert set(kinds) <= {None, "slide", "subslide", "fragment", "skip", "notes"}
    if set(kinds) > {None}:
        assert kinds[:2] == ["skip", "slide"]  # the badges, the title


@pytest.mark.parametrize("path", ALL, ids=name)
def test_files_are_small(path):
    assert path.stat().st_size < 2_000_000
    for output in outputs(nbformat.read(path, as_version=4)):
        for kind, data in output.get("data", {}).items():
            if kind.startswith("image/"):
                assert len(base64.b64decode(data)) < 150_000


def test_tex_renders_on_github_and_in_jupyter_alike(any_notebook):
    for text in prose(any_notebook):
        math = re.findall(r"\$\$.*?\$\$|\$[^$\n]+\$", text, flags=re.DOTALL)
        assert text.count("$$") % 2 == 0
        for formula in math:
            for macro in (r"\|", r"\label", r"\operatorname*", r"\begin{align}", r"\bm"):
                assert macro not in formula, formula


def files_with_links():
    return [*ALL, ROOT / "README.md"]


@pytest.mark.parametrize("path", files_with_links(), ids=lambda path: path.parent.name + path.stem)
def test_local_links_resolve(path):
    if path.suffix == ".ipynb":
        text = "\n".join(prose(nbformat.read(path, as_version=4)))
    else:
        text = path.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    for link in links:
        if not re.match(r"https?://|#", link):
            assert (path.parent / link.split("#")[0]).exists(), link
