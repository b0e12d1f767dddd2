"""The command that executes notebooks: what it writes, and what it says of those that fail."""

from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest
import run

pytestmark = pytest.mark.slow


@pytest.fixture
def execute(monkeypatch, tmp_path):
    """Runs the command on notebooks of a cell each; returns their paths."""

    def execute(cells, *options):
        paths = [tmp_path / f"{name}.ipynb" for name in cells]
        for path, code in zip(paths, cells.values(), strict=True):
            cell = nbformat.v4.new_code_cell(code, id="cell")
            nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
        monkeypatch.setattr("sys.argv", ["run.py", *map(str, [*options, *paths])])
        with ThreadPoolExecutor(1) as thread:  # a browser leaves its event loop in this one
            thread.submit(run.main).result()
        return paths

    return execute


def test_a_copy_is_written_and_the_notebook_stays(execute, tmp_path):
    (path,) = execute({"small": "1 + 1"}, "--to", tmp_path / "out")
    copy = nbformat.read(tmp_path / "out" / "small.ipynb", as_version=4)
    assert copy.cells[0].outputs[0].data == {"text/plain": "2"}
    assert "outputs" not in nbformat.read(path, as_version=4).metadata


def test_a_kernel_takes_no_port_that_another_could_want(execute, tmp_path):
    code = "import json, ipykernel\njson.load(open(ipykernel.get_connection_file()))['transport']"
    execute({"small": code}, "--to", tmp_path / "out")
    copy = nbformat.read(tmp_path / "out" / "small.ipynb", as_version=4)
    assert copy.cells[0].outputs[0].data == {"text/plain": "'ipc'"}


def test_a_failure_is_named_and_the_others_run(execute, tmp_path, capsys):
    cells = {"good": "1 + 1", "bad": "# why\nx = 1 / 0", "dead": "import os; os._exit(1)"}
    with pytest.raises(SystemExit, match="2 of 3 notebooks went wrong"):
        execute(cells, "--to", tmp_path / "out")
    said = capsys.readouterr().out
    assert "in cell [1], `x = 1 / 0`: ZeroDivisionError: division by zero" in said
    assert "in cell [1], `import os; os._exit(1)`: Kernel died" in said
    good, bad = (nbformat.read(tmp_path / f"out/{name}.ipynb", 4) for name in ("good", "bad"))
    assert good.cells[0].outputs[0].data == {"text/plain": "2"}
    assert bad.cells[0].outputs[0].ename == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("code", "options", "said"),
    [("1 / 0", [], "ZeroDivisionError"), ("1", ["--memory", "0"], "above the limit of 0.0 GB")],
)
def test_nothing_is_stored_of_a_notebook_that_went_wrong(
    execute, tmp_path, capsys, code, options, said
):
    with pytest.raises(SystemExit, match="1 of 1"):
        execute({"small": code}, "--in-place", *options)
    assert said in capsys.readouterr().out
    assert nbformat.read(tmp_path / "small.ipynb", 4).cells[0].outputs == []
