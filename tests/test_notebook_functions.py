"""Functions that stand in a notebook, taken from its cell, against answers that are known."""

from vae_helpers.models import tfd

import runpy
from pathlib import Path

import nbformat
import numpy as np
import pytest
import tensorflow as tf

PATH = Path(__file__).parent.parent / "notebooks" / "06_experiments.ipynb"


@pytest.fixture(scope="module")
def mutual_information(tmp_path_factory):
    """The function of notebook 06, after the cell with its imports."""
    cells = [cell.source for cell in nbformat.read(PATH, as_version=4).cells]
    (imports,) = (cell for cell in cells if "import tensorflow as tf" in cell)
    (cell,) = (cell for cell in cells if "def mutual_information" in cell)
    function = cell[cell.index("def mutual_information") :].split("\n\n\n")[0]
    module = tmp_path_factory.mktemp("06") / "cells.py"
    module.write_text(f"{imports}\n{function}\n", encoding="utf-8")
    return runpy.run_path(str(module))["mutual_information"]


def test_the_information_of_a_gaussian_channel_is_known(mutual_information):
    signal, noise = 0.9, 0.5
    q = tfd.Normal(signal * tf.math.ndtri((tf.range(2000.0)[:, None] + 0.5) / 2000), noise)
    found = [mutual_information(q, q.sample(seed=[seed, 0])) for seed in range(5)]
    known = np.log(1 + (signal / noise) ** 2) / 2
    assert np.mean(found) == pytest.approx(known, abs=4 * np.std(found) / np.sqrt(5) + 0.005)


def test_dead_codes_say_nothing_and_perfect_codes_log_n(mutual_information):
    dead = tfd.MultivariateNormalTriL(tf.zeros([300, 2]), 0.5 * tf.eye(2))
    assert mutual_information(dead, dead.sample(seed=[0, 0])) == pytest.approx(0, abs=1e-5)
    perfect = tfd.Normal(tf.range(300.0)[:, None], 1e-4)
    found = mutual_information(perfect, perfect.sample(seed=[0, 0]))
    assert found == pytest.approx(np.log(300), abs=1e-5)
