"""Executes notebooks, each in a fresh kernel, and says how long each took and what memory.

`--to` writes copies to a folder, `--in-place` stores the outputs; `--memory` is what a kernel may
need at most. Where one fails the others still run. Two run at a time where the memory allows it,
but one when outputs are stored: some hold seconds.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import kernels
import nbformat
import paths
import psutil
from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError

FAULTS = CellControlSignal, DeadKernelError
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# What Jupyter stores, less the version.
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}


async def execute(notebook: nbformat.NotebookNode, folder: Path) -> float:
    """Runs a notebook in a fresh kernel, and keeps nothing in it that only this run explains.

    Returns:
        The kernel's peak memory in GB.

    Raises:
        CellControlSignal, DeadKernelError: by the first cell that fails, whose number and first
            line are noted; the notebook has the outputs up to there.
    """
    client = kernels.client(
        notebook,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )
    # Two heaps for all threads, as binder/start has it: less memory lies idle.
    async with client.async_setup_kernel(env=os.environ | {"MALLOC_ARENA_MAX": "2"}):
        # Ctrl-C ends all, not this kernel alone.
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        for index, cell in enumerate(notebook.cells):
            try:
                await client.async_execute_cell(cell, index)
            except FAULTS as error:
                lines = [
                    line for line in cell.source.splitlines() if line[:1] not in ("", "#", "%")
                ]
                error.add_note(f"in cell [{client.code_cells_executed}], `{lines[0]}`")
                raise
        peak = _peak_memory(client.km.provisioner.pid)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # A progress bar that has ended leaves an empty display.
            cell.outputs = [output for output in cell.outputs if output.get("data") != {}]
            for output in cell.outputs:
                if "alt" in cell.metadata and "image/png" in output.get("data", {}):
                    output.metadata.setdefault("image/png", {})["alt"] = cell.metadata["alt"]
                if "text/plain" in output.get("data", {}):
                    output.data["text/plain"] = _ADDRESS.sub("", output.data["text/plain"])
    notebook.metadata = nbformat.from_dict(METADATA) | {
        "outputs_of": sources_digest(notebook),
        "outputs": outputs_digest(notebook),
    }
    return peak


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


async def run(path: Path, copy: Path, memory: float) -> str:
    """Executes a notebook and writes it; returns what is wrong with it, nothing in most cases."""
    start = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    try:
        peak = await execute(notebook, path.parent)
    except FAULTS as error:
        told = str(error).splitlines()[0]
        if isinstance(error, CellExecutionError):
            told = f"{error.ename}: {error.evalue}"
        wrong = line = f"failed {error.__notes__[0]}: {told}"
    else:
        line = f"{time.perf_counter() - start:4.0f} s, {peak:.2f} GB at most"
        wrong = f": above the limit of {memory} GB" if peak > memory else ""
        line += wrong
    print(f"{paths.name(path):30}{line}", flush=True)
    if path != copy or not wrong:
        copy.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, copy)
    return wrong


async def run_all(chosen: list[Path], folder: Path | None, memory: float) -> int:
    """Executes notebooks, two at a time where each has 1.5 GB; returns how many went wrong."""
    two = folder is not None and psutil.virtual_memory().available > 3 * 2**30
    free = asyncio.Semaphore(2 if two else 1)

    async def in_turn(path: Path) -> str:
        async with free:
            return await run(path, folder / paths.name(path) if folder else path, memory)

    return sum(map(bool, await asyncio.gather(*map(in_turn, chosen))))


def _write_picture(path: Path, cell_id: str, picture: Path) -> None:
    """Keeps a cell's figure as a file, for the README."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = next(cell.outputs for cell in cells if cell.id == cell_id)
    figure = next(o.data["image/png"] for o in outputs if "image/png" in o.get("data", {}))
    picture.write_bytes(base64.b64decode(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--to", type=Path, metavar="FOLDER")
    place.add_argument("--in-place", action="store_true")
    parser.add_argument("--memory", type=float, metavar="GB", default=float("inf"))
    parser.add_argument("paths", type=Path, nargs="*")
    options = parser.parse_args()
    chosen = [path.resolve() for path in options.paths] or paths.notebooks()
    try:
        wrong = asyncio.run(run_all(chosen, options.to, options.memory))
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
    if wrong:
        sys.exit(f"{wrong} of {len(chosen)} notebooks went wrong.")
    if options.in_place and (manifold := paths.NOTEBOOKS / "05_traversals.ipynb") in chosen:
        _write_picture(manifold, "manifold", paths.NOTEBOOKS / "manifold.png")


if __name__ == "__main__":
    main()
