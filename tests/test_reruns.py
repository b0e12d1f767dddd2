"""Notebooks with other values of their hyperparameters: each run ends, or ends with a named error.

A set of values is run as a reader does it: in a kernel that has run before, from the cell of the
hyperparameters down. The first set of each notebook but the longest is part of `make test`, the
others of `make test-reruns`.
"""

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).parent.parent / "notebooks"

# The one error that a run may end with: a step size that throws the weights out of range.
NAMED = re.compile(r"NonFiniteLossError: .*step size")
# And what it may say: some values leave no room for a code.
SAID = re.compile(r"UserWarning: none of the \d+ latents is active")
# The same images each time: reading them is not what is tested, and half of the time.
KEEP_IMAGES = "import functools; from vae_helpers import data\ndata.load_images = functools.cache(data.load_images)"

HOSTILE = [
    {"latent_size": 1, "training_steps": 1, "hidden_sizes": []},
    {"latent_size": 32, "beta": 100, "learning_rate": 1e-1, "training_steps": 1000},
    {"latent_size": 2, "batch_size": 1, "beta": 0, "training_steps": 2, "seed": 7},
    {"latent_size": 3, "batch_size": 512, "hidden_sizes": [256, 128, 64], "training_steps": 2},
    {"latent_size": 24, "batch_size": 7, "beta": 1, "learning_rate": 1e-5, "training_steps": 1000},
    {"beta": 1e-6, "learning_rate": 1e-2, "hidden_sizes": [16], "training_steps": 1000, "seed": 3},
    {"latent_size": 1, "beta": 100, "learning_rate": 1e-1, "training_steps": 2, "batch_size": 7},
    {"latent_size": 64, "beta": 0, "learning_rate": 1e-5, "training_steps": 1, "batch_size": 512},
    {"latent_size": 2, "hidden_sizes": [256, 128, 64], "beta": 1, "training_steps": 1000},
    {
        "latent_size": 3,
        "hidden_sizes": [],
        "beta": 1e-6,
        "training_steps": 2,
        "learning_rate": 1e-1,
    },
    {"batch_size": 1, "training_steps": 1000, "hidden_sizes": [16], "beta": 0.1, "seed": 11},
]
SMALL_BOUNDS = {"num_images": 3, "passes": [1], "training_steps": 2}
SMALL_SWEEP = {"betas": [0, 1], "latent_sizes": [1, 3], "seeds": [0]}
SETS = {
    "01_elbo": [
        {"weight": 0, "q_mean": -3.0, "training_steps": 1},
        {"weight": -3, "noise_scale": 0.1, "x_observed": -5, "training_steps": 2},
        {"bias": -3, "noise_scale": 3, "q_scale": 3, "batch_size": 1, "training_steps": 1000},
        {"q_scale": 0.1, "num_samples": 2, "learning_rate": 1e-1, "training_steps": 100},
        {"x_observed": 0, "learning_rate": 1e-5, "batch_size": 512, "seed": 5},
        {"weight": 0.1, "bias": 0, "num_samples": 100_000, "learning_rate": 0.5, "seed": 1},
    ],
    "02_model": [
        {"latent_size": 1, "hidden_sizes": [], "batch_size": 1, "num_pca_images": 2},
        {"latent_size": 2, "hidden_sizes": [16], "batch_size": 7, "num_samples": 2},
        {"latent_size": 3, "hidden_sizes": [256, 128, 64], "batch_size": 512, "seed": 3},
        {"latent_size": 32, "num_pca_images": 60_000, "seed": 1},
        {"latent_size": 1000, "num_pca_images": 100, "num_samples": 100},
        {"latent_size": 784, "num_pca_images": 500},
    ],
    "03_training": [
        *({"eager_steps": 2} | values for values in HOSTILE),
        {"eager_steps": 1, "training_steps": 1},
        {"eager_steps": 70, "training_steps": 3},
        {"eager_steps": 2, "latent_size": 10, "beta": 10, "training_steps": 65},
    ],
    "04_reconstructions": [*HOSTILE, {"num_codes": 2, "training_steps": 1}, {"beta": 10}],
    "05_traversals": [
        *HOSTILE,
        {"latent_size": 20, "beta": 0.5, "training_steps": 65, "seed": 123456789},
        {"first_image": 0, "second_image": 0, "training_steps": 10},
        {"first_image": 9999, "second_image": 8, "latent_size": 21, "training_steps": 10},
    ],
    "06_experiments": [
        SMALL_SWEEP | values
        for values in [
            {"training_steps": 1, "hidden_sizes": [], "quick": True},
            {"training_steps": 2, "batch_size": 1, "latent_size": 1},
            {"training_steps": 1000, "learning_rate": 1e-1, "latent_size": 2},
            {"training_steps": 2, "betas": [100], "latent_sizes": [32], "batch_size": 512},
            {"training_steps": 2, "betas": [1e-6, 0.784], "latent_sizes": [2], "seeds": [5, 6]},
            {"training_steps": 100, "fixed_beta": 0, "hidden_sizes": [256, 128, 64]},
            {"training_steps": 2, "fixed_beta": 100, "learning_rate": 1e-5, "batch_size": 7},
        ]
    ],
    "07_likelihood": [
        SMALL_BOUNDS | values
        for values in [
            {"latent_size": 1, "hidden_sizes": [], "num_images": 1},
            {"latent_size": 2, "batch_size": 1, "num_samples": 2},
            {"latent_size": 32, "batch_size": 512, "num_samples": 50},
            {"training_steps": 1000, "learning_rate": 1e-1, "seed": 3},
            {"hidden_sizes": [256, 128, 64], "passes": [1, 1], "learning_rate": 1e-5},
        ]
    ],
    "08_scaling_out": [
        {"training_steps": 1, "latent_sizes": [1], "batch_size": 2, "hidden_sizes": []},
        {"training_steps": 2, "betas": [0, 100], "batch_size": 512, "seed": 3},
        {"training_steps": 2, "learning_rate": 1e-1, "num_workers": 3},
    ],
}
LONGEST = ["07_likelihood", "08_scaling_out"]


class Session:
    """A kernel that has run the head of a notebook, up to its hyperparameters."""

    def __init__(self, name: str):
        self.notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        tags = [cell.metadata.get("tags", []) for cell in self.notebook.cells]
        self.first = next(i for i, tag in enumerate(tags) if "parameters" in tag)
        self.source = self.notebook.cells[self.first].source
        keep = nbformat.v4.new_code_cell(KEEP_IMAGES)
        self.notebook.cells.insert(0, keep)
        self.first += 1
        self.client = NotebookClient(
            self.notebook, timeout=600, kernel_name="python3", extra_arguments=["--log-level=ERROR"]
        )

    def head(self) -> None:
        self.run(0, self.first)

    def rerun(self, values: dict) -> str | None:
        """Returns the error that ended the run, if one did."""
        assigned = {node.targets[0].id for node in ast.parse(self.source).body}
        assert set(values) <= assigned
        lines = [f"{name} = {value!r}" for name, value in values.items()]
        self.notebook.cells[self.first].source = "\n".join([self.source, *lines])
        try:
            self.run(self.first, len(self.notebook.cells))
        except CellExecutionError as error:
            return f"{error.ename}: {error.evalue}"
        return None

    def run(self, start: int, stop: int) -> None:
        for index in range(start, stop):
            cell = self.notebook.cells[index]
            self.client.execute_cell(cell, index)
            noise = [o.text for o in cell.get("outputs", []) if o.get("name") == "stderr"]
            noise = [text for text in noise if not SAID.search(text)]
            assert noise == [], f"{cell.id} says {noise}"


@pytest.fixture(autouse=True)
def environment_of_a_reader(monkeypatch):
    """Kernels draw into their cells, and a claim that no longer holds is said, not raised."""
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.delenv("VAE_STRICT", raising=False)


def run_sets(name: str, sets: list[dict]) -> None:
    session = Session(name)
    with session.client.setup_kernel():
        session.head()
        for values in sets:
            error = session.rerun(values)
            assert error is None or NAMED.search(error), f"{values}: {error}"


def test_there_are_sixty_sets_and_they_cover_the_corners():
    sets = list(itertools.chain(*SETS.values()))
    assert len(sets) >= 60
    assert set(SETS) == {path.stem for path in FOLDER.glob("[0-9]*.ipynb")}
    wanted = {
        "latent_size": [1, 2, 3, 32],
        "hidden_sizes": [[], [16], [256, 128, 64]],
        "batch_size": [1, 7, 512],
        "beta": [0, 1e-6, 1, 100],
        "learning_rate": [1e-5, 1e-1],
        "training_steps": [1, 2, 1000],
    }
    for name, values in wanted.items():
        for notebook in ("03_training", "04_reconstructions", "05_traversals"):
            tried = [s[name] for s in SETS[notebook] if name in s]
            assert all(value in tried for value in values), (notebook, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SETS if name not in LONGEST])
def test_a_notebook_runs_with_the_smallest_values(name):
    run_sets(name, SETS[name][:1])


@pytest.mark.weekly
@pytest.mark.parametrize("name", SETS)
def test_a_notebook_runs_with_any_values(name):
    run_sets(name, SETS[name][0 if name in LONGEST else 1 :])


@pytest.mark.slow
def test_make_rerun_writes_a_copy(tmp_path):
    """The command of the target, with papermill's own way of giving values."""
    source = FOLDER / "01_elbo.ipynb"
    before, copy = source.read_bytes(), tmp_path / "copy.ipynb"
    command = [Path(sys.executable).parent / "papermill", "--cwd", FOLDER]
    command += ["-p", "training_steps", "2", "-y", "{x_observed: 1.5}", source, copy]
    subprocess.run(command, check=True, capture_output=True)
    assert source.read_bytes() == before
    cells = nbformat.read(copy, as_version=4).cells
    (given,) = [c.source for c in cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert "training_steps = 2" in given and "x_observed = 1.5" in given
    assert all(c.execution_count for c in cells if c.cell_type == "code")


def test_the_number_of_sets_is_said_as_it_is():
    """Those of the target; the first of each notebook is part of the tests, but of the longest."""
    weekly = sum(map(len, SETS.values())) - sum(name not in LONGEST for name in SETS)
    for file in ("README.md", "Makefile"):
        assert f" {weekly} sets of " in (FOLDER.parent / file).read_text(encoding="utf-8")
