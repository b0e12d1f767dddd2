"""Executes notebooks, each from a fresh kernel, and says how long each took.

`--to build` writes copies and their HTML there; `--in-place` refreshes what the files store;
`--memory` is how much each kernel may need at most.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}


def everything() -> list[Path]:
    """Returns the notebooks, and after them the solutions to their exercises."""
    return [
        *sorted(NOTEBOOKS.glob("[0-9]*.ipynb")),
        *sorted(NOTEBOOKS.glob("solutions/[0-9]*.ipynb")),
    ]


def _name(path: Path) -> Path:
    """Returns the path below the notebooks, solutions/01_elbo.ipynb say, or the file's name."""
    return path.relative_to(NOTEBOOKS) if path.is_relative_to(NOTEBOOKS) else Path(path.name)


def execute(path: Path) -> tuple[nbformat.NotebookNode, float]:
    """Returns the notebook as a fresh kernel runs it, without what only this run explains,
    and the kernel's peak memory in GB."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
    )
    # One heap for all threads, as binder/start has it: less memory lies idle.
    with client.setup_kernel(env=os.environ | {"MALLOC_ARENA_MAX": "1"}):
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        peak = _peak_memory(client.km.provisioner.pid)
    notebook.metadata = {
        "kernelspec": KERNELSPEC,
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # A progress bar that has ended leaves an empty display.
            cell.outputs = [output for output in cell.outputs if output.get("data") != {}]
            for output in cell.outputs:
                if "alt" in cell.metadata and "image/png" in output.get("data", {}):
                    output.metadata.setdefault("image/png", {})["alt"] = cell.metadata["alt"]
                if "text/plain" in output.get("data", {}):
                    output.data["text/plain"] = _ADDRESS.sub("", output.data["text/plain"])
    notebook.metadata |= {
        "outputs_of": sources_digest(notebook),
        "outputs": outputs_digest(notebook),
    }
    return notebook, peak


def _peak_memory(pid: int) -> float:
    """Returns the largest resident set of a process so far, NaN where /proc doesn't tell it.

    In GB of 2**30 bytes, as the limits of Binder and JupyterHub count.
    """
    status = Path(f"/proc/{pid}/status")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(peak[1]) / 2**20 if peak else float("nan")


def sources_digest(notebook: nbformat.NotebookNode) -> str:
    """Tells the code that outputs belong to from any other; the setup cell makes none."""
    sources = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "setup" not in cell.metadata.get("tags", [])
    ]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def outputs_digest(notebook: nbformat.NotebookNode) -> str:
    """Tells the outputs as a run has left them from any that were edited."""
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--to", type=Path, metavar="FOLDER")
    place.add_argument("--in-place", action="store_true")
    parser.add_argument("--memory", type=float, metavar="GB", default=float("inf"))
    parser.add_argument("notebooks", type=Path, nargs="*")
    options = parser.parse_args()
    paths = [path.resolve() for path in options.notebooks] or everything()
    for path in paths:
        name = _name(path)
        print(f"{name.as_posix():30}", end="", flush=True)
        start = time.perf_counter()
        try:
            notebook, peak = execute(path)
        except (CellExecutionError, DeadKernelError) as error:
            sys.exit(f"failed\n{path}: {error}")
        print(f"{time.perf_counter() - start:4.0f} s, {peak:.2f} GB at most", flush=True)
        if peak > options.memory:
            sys.exit(f"{name} needs more than {options.memory} GB")
        copy = path if options.in_place else options.to / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, copy)
        if not options.in_place:
            page, _ = HTMLExporter().from_notebook_node(notebook)
            copy.with_suffix(".html").write_text(page, encoding="utf-8")
        elif path == NOTEBOOKS / "05_traversals.ipynb":
            _write_picture(notebook, "manifold", NOTEBOOKS / "manifold.png")
    if options.to:
        print(f"Open {(options.to / _name(paths[0])).with_suffix('.html')} in a browser.")


def _write_picture(notebook: nbformat.NotebookNode, cell_id: str, path: Path) -> None:
    """Keeps a cell's figure as a file, for the README."""
    cell = next(cell for cell in notebook.cells if cell.id == cell_id)
    figure = next(o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {}))
    path.write_bytes(base64.b64decode(figure))


if __name__ == "__main__":
    main()
