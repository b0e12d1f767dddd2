"""The table of `make scaling`: how it splits the seconds of workers, and that it can be measured."""

import pandas as pd
import pytest

pytest.importorskip("distributed")

import scaling


def test_the_seconds_of_workers_are_split():
    """Two workers, ready at 10; the first model of each compiles for 4 s; one waits at the end."""
    spans = [("a", 11, 16), ("a", 16, 17), ("a", 17, 18), ("b", 13, 18), ("b", 18, 19)]
    spans = pd.DataFrame(spans, columns=["worker", "begin", "end"])
    found = scaling.parts(spans, began=0, started=10)
    per_minute = found.pop("models per minute")
    assert per_minute == pytest.approx(60 * 5 / 19)
    assert found == {"start": 10, "data": 2, "compile": 4, "model": 1, "idle": 0.5}


@pytest.mark.weekly
def test_the_stored_table_is_what_the_command_writes(monkeypatch, tmp_path):
    """With fewer and shorter models."""
    made = tmp_path / "scaling.csv"
    arguments = ["--rounds", "1", "--models", "4", "--training-steps", "2", "--to", str(made)]
    monkeypatch.setattr("sys.argv", ["scaling.py", *arguments])
    scaling.main()
    table, stored = pd.read_csv(made), pd.read_csv(scaling.RESULTS)
    assert table.columns.tolist() == stored.columns.tolist()
    assert table["program"].tolist() == stored["program"].tolist() == [*scaling.PROGRAMS]
    for some in (table, stored):
        numbers = some[["models per minute", "start", "data", "compile", "model"]]
        assert (numbers >= 0).all(axis=None) and (some["model"] > 0).all()
