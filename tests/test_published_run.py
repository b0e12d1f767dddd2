import pytest
from published_run import ranks


@pytest.mark.slow
def test_the_published_run_could_be_one_of_ours():
    """Of 33 figures, a run like ours has about two outside the range of 30 others, narrowly."""
    table = ranks(30)
    print(table.round(4).to_string())
    within = table["published"].between(table["lowest"], table["highest"])
    assert within.sum() >= len(table) - 5
    assert table["published"].between(0.98 * table["lowest"], 1.02 * table["highest"]).all()
    assert 0.2 < table["below"].mean() < 0.8
