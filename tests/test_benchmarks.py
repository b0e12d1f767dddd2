"""The table of `make bench`: what it makes of its measurements, and that it keeps the others."""

import pandas as pd
from benchmarks import run as bench


def test_ratios_are_medians_over_the_rounds():
    seconds = {"ours": [1.0, 2.0, 4.0], "other": [3.0, 4.0, 4.0]}
    runs = pd.DataFrame(
        {"task": "train", "program": name, "round": i, "seconds": seconds[name][i], "elbo": -i}
        for i in range(3)
        for name in seconds
    )
    table = bench.summary(runs)[["ratio", "lowest", "highest", "seconds", "elbo"]]
    assert table.to_numpy().tolist() == [[1, 1, 1, 2, -1], [2, 1, 3, 4, -1]]


def test_a_task_takes_the_place_of_its_old_rows_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.csv")
    for task, ratio in (("bound", 1.0), ("train", 2.0), ("bound", 3.0)):
        bench.store(pd.DataFrame({"task": [task], "ratio": [ratio]}))
    table = pd.read_csv(tmp_path / "results.csv")
    assert table.to_numpy().tolist() == [["train", 2.0], ["bound", 3.0]]
