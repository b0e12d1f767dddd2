"""The author's run could be one of ours, by the table over 50 seeds, which is of the present code."""

from pathlib import Path

import pandas as pd
import published_run
import pytest


@pytest.fixture
def stored() -> pd.DataFrame:
    """The table over 50 seeds that `make published` wrote."""
    file = Path(published_run.__file__).with_name("PUBLISHED_RUN.md")
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    names, _, *rows = [[text.strip() for text in line.strip("|").split("|")] for line in lines]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(**{name: pd.to_numeric(table[name]) for name in names if name != "loss"})


def test_the_published_run_lies_within_ours(stored):
    """Of 33 figures, a run like ours has about one outside the range of 50 others, narrowly."""
    figures = published_run.PUBLISHED.melt("step", var_name="loss", value_name="published")
    pd.testing.assert_frame_equal(stored[["step", "loss", "published"]], figures)
    within = figures["published"].between(stored["lowest"], stored["highest"])
    assert within.sum() >= len(figures) - 3
    assert figures["published"].between(0.98 * stored["lowest"], 1.02 * stored["highest"]).all()
    assert 20 < stored["below (%)"].mean() < 80


@pytest.mark.slow
def test_the_stored_table_is_of_the_present_code(stored):
    """Its first two seeds lie in its ranges; on another processor, most do, and narrowly."""
    ours = published_run.ranks(2)
    low, high = ours["lowest"] / stored["lowest"], ours["highest"] / stored["highest"]
    outside = (low < 1 - 1e-3).sum() + (high > 1 + 1e-3).sum()  # the table has four digits
    assert outside <= 5 and low.min() >= 0.95 and high.max() <= 1.05
