"""The recipe of Burda et al.: its passes, its rows, and the weights beside its table."""

from vae_helpers.data import binarize
from vae_helpers.evaluation import active_units, evaluate

import numpy as np
import pandas as pd
import pytest
import train_burda


def test_the_recipe_makes_all_passes_of_the_paper():
    before, passes, rates = zip(*train_burda.schedule(8), strict=True)
    assert sum(passes) == 3280
    assert before == tuple(np.cumsum([0, *passes[:-1]]))
    starts = [before.index((3**stage - 1) // 2) for stage in range(8)]
    np.testing.assert_allclose([rates[i] for i in starts], 1e-3 * 10 ** (-np.arange(8) / 7))


@pytest.mark.weekly
def test_it_goes_on_from_its_checkpoint_and_writes_each_row_once(images, monkeypatch, tmp_path):
    monkeypatch.setattr(train_burda, "load_images", lambda *_: (images[:200], None))
    monkeypatch.setattr(train_burda, "EVALUATION_SAMPLES", 2)

    def run(folder, stages):
        for name, place in (("CHECKPOINTS", "build"), ("RESULTS", ""), ("TABLE", "table.csv")):
            monkeypatch.setattr(train_burda, name, tmp_path / folder / place)
        monkeypatch.setattr("sys.argv", ["train_burda.py", "--stages", stages])
        train_burda.main()
        return pd.read_csv(train_burda.TABLE), np.load(train_burda.RESULTS / "k5.npz")

    run("halves", "1")
    table, weights = run("halves", "2")
    assert table[["k", "passes"]].to_numpy().tolist() == [[1, 1], [1, 4], [5, 1], [5, 4]]
    early, late = table["-ELBO (nats)"].to_numpy().reshape(2, 2).T
    assert (late < early).all()
    pd.testing.assert_frame_equal(run("halves", "2")[0], table)
    _, whole = run("whole", "2")
    for name in weights.keys() - {"seconds"}:
        np.testing.assert_array_equal(weights[name], whole[name])


@pytest.mark.slow
def test_the_table_is_of_the_weights_beside_it(images):
    table = pd.read_csv(train_burda.TABLE)
    images = binarize(images, train_burda.SEED)
    for num_samples, rows in table.groupby("k"):
        model = train_burda.new_model(images.shape[1:])
        passes, _ = train_burda.load(train_burda.RESULTS / f"k{num_samples}.npz", model)
        row = rows[rows["passes"] == passes].iloc[0]
        elbo = evaluate(*model, images, seed=train_burda.SEED)["elbo"].mean()
        assert -elbo == pytest.approx(row["-ELBO (nats)"], abs=0.01)
        assert active_units(model[0], images).sum() == row["active units"]
