"""Compares what a fresh run of a notebook puts out with what is stored.

A plugin of pytest for nbval, which executes the cells: `-p tools.reproduce --nbval`. With VAE_EXACT=1
texts have to come back as they are stored, and pictures bit for bit, which they do on one machine
with the locked versions. Elsewhere sums are rounded otherwise, and 4,000 steps of training spread
that: there the words of a text have to come back, and of its numbers half or more to within 10%,
or to one unit of the last digit; and pictures to a structural similarity above 0.85. Measured
between a machine's AVX-512 and its SSE: means of nats differ by 0.5%, single latents by up to 30%,
pictures by a similarity of 0.92 and more, while a picture mirrored, or another one of the same
notebook, has 0.72 at most. Seconds, and what a cell prints that reads a clock, are never compared.
"""

from tools import kernels, paths

import base64
import functools
import io
import os
import re

import nbval.kernel
import numpy as np
from nbval.plugin import IPyNbCell
from PIL import Image
from scipy.ndimage import uniform_filter

TEXTS = ("text/plain", "text/markdown")
SIMILAR = 0.85
# Drawn in the coordinates of a latent space, which each machine turns otherwise.
TURNED = {"map", "posteriors"}
_SECONDS = re.compile(r"\d[\d.,]*(?= (?:s|min)\b)")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?")


def texts(cell, outputs: list) -> list[str]:
    """Returns what is printed, then what is displayed as text."""
    streams = [output["text"] for output in outputs if output.get("name") == "stdout"]
    displayed = [output["data"] for output in outputs if output.get("data")]
    found = [] if "perf_counter" in cell.source else ["".join(streams)]
    found += [data[kind] for data in displayed for kind in TEXTS if kind in data]
    return [_SECONDS.sub("some", re.sub(r" at 0x[0-9a-f]+", "", text)).strip() for text in found]


def pictures(outputs: list) -> list[str]:
    data = [output.get("data", {}) for output in outputs]
    return [kinds["image/png"].strip() for kinds in data if "image/png" in kinds]


def agree(stored: str, fresh: str) -> bool:
    """Whether the words of two texts are the same, and half of their numbers or more nearly so."""
    words = [re.sub(r"[\s─-]+", " ", _NUMBER.sub("#", text)) for text in (stored, fresh)]
    if words[0] != words[1]:
        return False
    close = []
    for old, new in zip(_NUMBER.findall(stored), _NUMBER.findall(fresh), strict=True):
        a, b = (float(number.replace(",", "")) for number in (old, new))
        unit = 0 if "e" in old else 10.0 ** -len(old.partition(".")[2])
        close.append(abs(a - b) <= max(0.1 * abs(a), 1.01 * unit, 1e-3))
    return sum(close) >= len(close) / 2


@functools.cache
def _gray(png: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        return np.asarray(picture.convert("L").resize((128, 128), Image.Resampling.BOX)) / 255


def similarity(one: str, other: str) -> float:
    """Returns the mean structural similarity (Wang et al. 2004) of two PNGs, gray, 128 by 128."""
    a, b = _gray(one), _gray(other)
    mean = functools.partial(uniform_filter, size=7)
    mean_a, mean_b = mean(a), mean(b)
    variances = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
    luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    structure = (2 * (mean(a * b) - mean_a * mean_b) + 9e-4) / (variances + 9e-4)
    return float(np.mean(luminance * structure))


def differences(cell, fresh: list, exact: bool) -> list[str]:
    """Returns what the outputs of a cell have that a fresh run's have not."""
    found = []
    for kind, compared in (("text", functools.partial(texts, cell)), ("picture", pictures)):
        pairs = [compared(outputs) for outputs in (cell.outputs, fresh)]
        if len(pairs[0]) != len(pairs[1]):
            found.append(f"{cell.id} stores {len(pairs[0])} {kind}s, the run has {len(pairs[1])}")
            continue
        for old, new in zip(*pairs, strict=True):
            if old == new:
                continue
            if kind == "picture":
                alike = similarity(old, new)
                if exact or alike < SIMILAR and cell.id not in TURNED:
                    found.append(f"{cell.id} stores another picture, similarity {alike:.2f}")
            elif exact or not agree(old, new):
                found.append(f"{cell.id} stores\n{old}\nand the run has\n{new}")
    return found


def _compare_outputs(item: IPyNbCell, fresh: list, stored: list) -> bool:
    exact = os.environ.get("VAE_EXACT") == "1" or "NBVAL_CHECK_OUTPUT" in item.cell.source
    item.comparison_traceback = differences(item.cell, fresh, exact)
    if item.comparison_traceback:
        name = paths.name(item.path).removesuffix(".ipynb")
        item.comparison_traceback.append(f"If the run is right: make refresh NOTEBOOK={name}")
    return not item.comparison_traceback


def pytest_configure():
    """Has nbval, which has no option for it, start kernels as our other commands do."""
    manager = nbval.kernel.KernelManager
    nbval.kernel.KernelManager = lambda **options: manager(**kernels.sockets(), **options)


def pytest_itemcollected(item):
    if isinstance(item, IPyNbCell):
        item.compare_outputs = functools.partial(_compare_outputs, item)
