"""The comparison of a fresh run with the stored outputs lets rounding pass, and nothing else."""

import base64
import io
import itertools
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from paths import notebooks
from PIL import Image, ImageOps
from reproduce import SIMILAR, TURNED, agree, differences, pictures, similarity

ROOT = Path(__file__).parent.parent
PATHS = notebooks()


@pytest.mark.parametrize(
    ("fresh", "agrees"),
    [
        ("ELBO -102.9 nats, rate 24.7, of 3 runs", True),  # by 1 %
        ("ELBO -102.9 nats, rate 44.7, of 3 runs", True),  # one number of three
        ("ELBO -160.1 nats, rate 44.7, of 3 runs", False),
        ("ELBO -102.9 bits, rate 24.7, of 3 runs", False),
    ],
)
def test_texts_may_differ_by_rounding_only(fresh, agrees):
    assert agree("ELBO -101.9 nats, rate 24.5, of 3 runs", fresh) == agrees


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.parent.name + "-" + path.stem)
def test_another_picture_or_a_mirrored_one_is_noticed(path):
    cells = nbformat.read(path, as_version=4).cells
    stored = [png for cell in cells for png in pictures(cell.get("outputs", []))]
    for png in stored:
        assert similarity(png, png) == pytest.approx(1)
        with Image.open(io.BytesIO(base64.b64decode(png))) as large:
            picture = large.convert("L").resize((128, 128), Image.Resampling.BOX)
            for change in (ImageOps.mirror, ImageOps.flip):
                changed = io.BytesIO()
                change(picture).save(changed, "png")
                assert similarity(png, base64.b64encode(changed.getvalue())) < SIMILAR - 0.1
    for one, other in itertools.combinations(stored, 2):
        assert similarity(one, other) < SIMILAR - 0.1


def test_cells_whose_pictures_machines_turn_exist():
    ids = {c.id for path in PATHS for c in nbformat.read(path, as_version=4).cells}
    assert ids >= TURNED


def cell_of(stored):
    output = nbformat.v4.new_output("stream", name="stdout", text=f"{stored}\n")
    return nbformat.v4.new_code_cell("print('0.83 nats')", execution_count=1, outputs=[output])


@pytest.mark.parametrize(
    ("stored", "exact", "passes"),
    [
        ("0.83 nats", True, True),
        ("0.84 nats", True, False),
        ("0.84 nats", False, True),
        ("1", False, False),
    ],
)
def test_a_cell_is_compared_exactly_or_nearly(stored, exact, passes):
    found = differences(cell_of(stored), cell_of("0.83 nats").outputs, exact)
    assert (found == []) == passes


@pytest.mark.slow
def test_nbval_fails_where_this_comparison_does_and_takes_no_port(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_EXACT", "1")
    read = "import ipykernel\nassert '\"ipc\"' in open(ipykernel.get_connection_file()).read()"
    cells = [cell_of("0.83 nats"), cell_of("0.84 nats"), nbformat.v4.new_code_cell(read)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    command = [sys.executable, "-m", "pytest", "-p", "tools.reproduce", "-c", "pyproject.toml"]
    command += ["--rootdir", tmp_path, "--confcutdir", tmp_path]
    command += ["--nbval", "--nbval-current-env", tmp_path / "a.ipynb"]
    run = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert "1 failed, 2 passed" in run.stdout
    assert "a.ipynb" in run.stdout and "0.83 nats" in run.stdout
