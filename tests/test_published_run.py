from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from published_run import PUBLISHED, ranks

TABLE = Path(__file__).with_name("PUBLISHED_RUN.md")


@pytest.fixture
def stored() -> pd.DataFrame:
    """The table over 50 seeds that `make published` wrote."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    names, _, *rows = [[text.strip() for text in line.strip("|").split("|")] for line in lines]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(**{name: pd.to_numeric(table[name]) for name in names if name != "loss"})


def test_the_published_run_could_be_one_of_ours(stored):
    """Of 33 figures, a run like ours has about one outside the range of 50 others, narrowly."""
    figures = PUBLISHED.melt(id_vars="step", var_name="loss", value_name="published")
    pd.testing.assert_frame_equal(stored[["step", "loss", "published"]], figures)
    within = figures["published"].between(stored["lowest"], stored["highest"])
    assert within.sum() >= len(figures) - 3
    assert figures["published"].between(0.98 * stored["lowest"], 1.02 * stored["highest"]).all()
    assert 20 < stored["below (%)"].mean() < 80


@pytest.mark.slow
def test_the_stored_table_is_of_the_present_code(stored):
    """Its first five seeds lie in its ranges; on another processor, most do, and narrowly."""
    ours = ranks(5)
    rounding = 1 + 1e-3  # to four digits
    within = np.array(
        [
            ours["lowest"] >= stored["lowest"] / rounding,
            ours["highest"] <= stored["highest"] * rounding,
        ]
    )
    assert within.sum() >= within.size - 5
    assert (ours["lowest"] >= 0.95 * stored["lowest"]).all()
    assert (ours["highest"] <= 1.05 * stored["highest"]).all()
