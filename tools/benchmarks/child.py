"""What the measured programs share: their task, the images, the first weights, the report.

Each program is a process of its own, which `run.py` starts as `python PROGRAM.py TASK`, the task
in JSON. This module needs NumPy alone, for the peers have an environment of their own.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np

SCALE_FLOOR = 1e-4  # of vae_helpers.models
task = SimpleNamespace(**json.loads(sys.argv[1]))


def images(split: str) -> np.ndarray:
    """Returns MNIST's images of a split, uint8 [N, 28, 28, 1]."""
    return np.load(f"{task.folder}/{split}.npy")


def layers() -> list[tuple[np.ndarray, np.ndarray]]:
    """Draws (weights, biases) of the encoder's hidden layers, its mean, scale, and the decoder.

    As Sonnet does: from a normal of scale 1/sqrt(inputs), cut at two
    deviations.
    """
    generator = np.random.default_rng(task.seed)
    encoder, decoder = [784, *task.hidden_sizes], [task.latent_size, *task.hidden_sizes, 784]
    sizes = [encoder[-1:] + [task.latent_size]] * 2
    sizes = [*pairwise(encoder), *sizes, *pairwise(decoder)]
    drawn = []
    for inputs, outputs in sizes:
        w = generator.standard_normal([inputs, outputs])
        while (far := np.abs(w) > 2).any():
            w[far] = generator.standard_normal(far.sum())
        w /= np.sqrt(inputs)
        drawn.append((w.astype(np.float32), np.zeros(outputs, np.float32)))
    return drawn


def keep(layers: list) -> None:
    """Writes the weights that the first call reached, for `run.py` to score."""
    np.savez(task.keep, *(array for layer in layers for array in layer))


def measure(
    call: Callable[[], float | None],
    units: int,
    *,
    calls: int = 3,
    after_first: Callable[[], None] = lambda: None,
) -> None:
    """Calls, and prints the last line that `run.py` reads.

    Args:
        call: does what is measured, and returns when it is done, with an ELBO if it computes one.
        units: what a call does so many of: steps, images.
        calls: how many after the first. Their median is the steady state; what the first one
            takes beyond that, for compiling and warming up, is the set-up. Without further
            calls the first counts.
        after_first: what is to be done between the first call and the next.
    """
    seconds, values = [], []
    for i in range(1 + calls):
        start = time.perf_counter()
        values.append(call())
        seconds.append(time.perf_counter() - start)
        if i == 0:
            after_first()
    steady = float(np.median(seconds[1:] or seconds))
    report = {
        "units": units,
        "seconds": steady / units,
        "setup": seconds[0] - steady,
        "memory": _peak_memory(),
        "elbo": values[0],
    }
    print(json.dumps(report))


def _peak_memory() -> float:
    """Returns the largest resident set so far in GB, NaN where /proc doesn't tell it."""
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(peak[1]) * 1024 / 1e9 if peak else float("nan")
