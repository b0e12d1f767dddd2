"""Notebooks with other values of their hyperparameters: each run ends, or ends with a named error.

A set of values is run as a reader does it: in a kernel that has run before, from the cell of the
hyperparameters down. The first set of 02 is part of `make test`, the others of `make test-reruns`.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import kernels
import nbformat
import pytest
import yaml
from nbclient.exceptions import CellExecutionError
from paths import notebooks

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
TABLE = yaml.safe_load(Path(__file__).with_name("reruns.yml").read_text(encoding="utf-8"))
SETS = {
    name: [
        TABLE["short"].get(name, {}) | values
        for values in (TABLE["any_model"] if name[:2] in ("03", "04", "05") else []) + own
    ]
    for name, own in TABLE["own"].items()
}
ALWAYS = "02_model"

# The one error that a run may end with: a step size that throws the weights out of range.
NAMED = re.compile(r"NonFiniteLossError: .*step size")
# And what it may say: some values leave no room for a code.
SAID = re.compile(r"UserWarning: none of the \d+ latents is active")
# The same images each time: reading them is not what is tested, and half of the time.
KEEP_IMAGES = "import functools; from vae_helpers import data\ndata.load_images = functools.cache(data.load_images)"


@pytest.fixture(autouse=True)
def environment_of_a_reader(monkeypatch):
    """Kernels draw into their cells, and a claim that no longer holds is said, not raised."""
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.delenv("VAE_STRICT", raising=False)


def place_of_hyperparameters(notebook: nbformat.NotebookNode) -> int:
    sources = [cell.source for cell in notebook.cells]
    return [source.startswith("# @title Hyperparameters") for source in sources].index(True)


def run_sets(name: str, sets: list[dict]) -> None:
    """Runs a notebook up to its hyperparameters, and from there once for each set of them."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(KEEP_IMAGES))
    first = place_of_hyperparameters(notebook)
    source = notebook.cells[first].source
    client = kernels.client(notebook)

    def run(start: int, stop: int) -> None:
        for index in range(start, stop):
            cell = client.execute_cell(notebook.cells[index], index)
            noise = [o.text for o in cell.get("outputs", []) if o.get("name") == "stderr"]
            noise = [text for text in noise if not SAID.search(text)]
            assert noise == [], f"{cell.id} says {noise}"

    with client.setup_kernel():
        run(0, first)
        for values in sets:
            given = [f"{name} = {value!r}" for name, value in values.items()]
            notebook.cells[first].source = "\n".join([source, *given])
            try:
                run(first, len(notebook.cells))
            except CellExecutionError as error:
                said = f"{error.ename}: {error.evalue}"
                assert NAMED.search(said), f"{values}: {said}"


@pytest.mark.slow
def test_a_notebook_runs_with_the_smallest_values():
    run_sets(ALWAYS, SETS[ALWAYS][:1])


@pytest.mark.weekly
@pytest.mark.parametrize("name", SETS)
def test_a_notebook_runs_with_any_values(name):
    run_sets(name, SETS[name][name == ALWAYS :])


def test_every_notebook_has_sets_and_their_number_is_said():
    """That of the target: one set is part of the tests."""
    assert sorted(SETS) == [path.stem for path in notebooks(folders=("",))]
    weekly = sum(map(len, SETS.values())) - 1
    for file in ("CONTRIBUTING.md", "Makefile"):
        assert f" {weekly} sets of " in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SETS)
def test_a_set_names_hyperparameters_of_its_notebook(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    source = notebook.cells[place_of_hyperparameters(notebook)].source
    names = {node.targets[0].id for node in ast.parse(source).body}
    assert set().union(*SETS[name]) <= names


@pytest.mark.slow
def test_make_rerun_writes_a_copy(tmp_path):
    """The command of the target, with papermill's own way of giving values."""
    copy = tmp_path / "copy.ipynb"
    command = [Path(sys.executable).parent / "papermill", "--prepare-only", "--cwd", FOLDER]
    command += ["-p", "training_steps", "2", "-y", "{x_observed: 1.5}"]
    subprocess.run([*command, FOLDER / "01_elbo.ipynb", copy], check=True, capture_output=True)
    cells = nbformat.read(copy, as_version=4).cells
    (given,) = [c.source for c in cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert "training_steps = 2" in given and "x_observed = 1.5" in given
