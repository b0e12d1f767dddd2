"""The command that executes notebooks: what it writes, and what ends it."""

import nbformat
import pytest
import run


@pytest.fixture
def execute(monkeypatch, tmp_path):
    """Runs the command on a notebook of one cell; returns its path."""

    def execute(code, *options):
        path, cells = tmp_path / "small.ipynb", [nbformat.v4.new_code_cell(code, id="cell")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        monkeypatch.setattr("sys.argv", ["run.py", *map(str, options), str(path)])
        run.main()
        return path

    return execute


@pytest.mark.slow
def test_a_copy_and_its_page_are_written(execute, tmp_path):
    path = execute("1 + 1", "--to", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"small.ipynb", "small.html"}
    copy = nbformat.read(tmp_path / "out" / "small.ipynb", as_version=4)
    assert copy.cells[0].outputs[0].data == {"text/plain": "2"}
    assert "outputs" not in nbformat.read(path, as_version=4).metadata


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "options", "message"),
    [("1 / 0", [], "ZeroDivisionError"), ("1", ["--memory", "0"], "needs more than 0.0 GB")],
)
def test_a_notebook_that_fails_or_grows_too_large_ends_the_run(execute, code, options, message):
    with pytest.raises(SystemExit, match=message):
        execute(code, "--in-place", *options)
