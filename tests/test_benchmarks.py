"""The table of `make bench`: what it makes of its measurements, and that it keeps the others."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.append(str(FOLDER))
    spec = importlib.util.spec_from_file_location("bench", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ratios_are_medians_over_the_rounds(bench):
    seconds = {"ours": [1.0, 2.0, 4.0], "other": [3.0, 4.0, 4.0]}
    runs = pd.DataFrame(
        {
            "task": "train",
            "program": name,
            "round": i,
            "seconds": seconds[name][i],
            "elbo": -130.0 - i,
        }
        for i in range(3)
        for name in seconds
    )
    ours, other = bench.summary(runs).to_dict("records")
    assert [ours[name] for name in ("ratio", "lowest", "highest", "seconds")] == [1, 1, 1, 2]
    assert [other[name] for name in ("ratio", "lowest", "highest", "seconds")] == [2, 1, 3, 4]
    assert other["elbo"] == -131


def test_a_task_of_commands_alone_has_its_row(bench):
    """They report nothing but their time."""
    task = [{"task": "cold-start", "round": 0, "program": "import", "seconds": 2.0}]
    (row,) = bench.summary(pd.DataFrame(task)).to_dict("records")
    assert row["ratio"] == 1 and row["seconds"] == 2
    assert np.isnan([row["memory"], row["elbo"]]).all()


def test_a_task_takes_the_place_of_its_old_rows_alone(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.csv")
    for task, ratio in (("bound", 1.0), ("train", 2.0), ("bound", 3.0)):
        bench.store(pd.DataFrame({"task": [task], "ratio": [ratio]}))
    table = pd.read_csv(tmp_path / "results.csv")
    assert table.to_numpy().tolist() == [["train", 2.0], ["bound", 3.0]]
