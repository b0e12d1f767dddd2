import contextlib

import numpy as np
import pandas as pd
import pytest

from vae_helpers import experiments
from vae_helpers.evaluation import evaluate
from vae_helpers.experiments import sweep
from vae_helpers.training import NonFiniteLossError, train

SMALL = {"hidden_sizes": [16], "latent_size": 2, "training_steps": 30}


def test_each_configuration_is_a_row_with_its_held_out_numbers(images, make_model):
    kept, held_out = images[:2000], images[2000:3000]
    configurations = [SMALL | {"seed": seed, "beta": 0.02} for seed in (0, 1)]
    table = sweep(configurations, kept, held_out, measure=lambda *model: {"kinds": len(model)})
    assert table["seed"].tolist() == [0, 1] and table["kinds"].tolist() == [3, 3]
    np.testing.assert_allclose(table["elbo"], -table["rate"] - table["distortion"])
    model = make_model(latent_size=2, hidden_sizes=[16])
    train(*model, kept, beta=0.02, training_steps=30, seed=1)
    known = evaluate(*model, held_out).mean()
    for term in ("rate", "distortion", "elbo"):
        assert table[term][1] == pytest.approx(known[term], rel=1e-6)
    assert set(table["active_units"]) <= {0, 1, 2}


def test_an_interrupt_keeps_the_finished_rows(images, monkeypatch):
    """It reaches the main thread, while it waits for the models."""

    class Interrupted:
        def update(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(
        experiments, "progress_bar", lambda *_: contextlib.nullcontext(Interrupted())
    )
    configurations = [SMALL | {"seed": seed} for seed in range(12)]
    table = sweep(configurations, images, images[:100])
    assert 1 <= len(table) < 12
    assert table["seed"].is_monotonic_increasing and not table["elbo"].isna().any()
    whole = sweep(configurations, images, images[:100], progress=False)
    pd.testing.assert_frame_equal(table, whole.loc[table["seed"]].reset_index(drop=True))


def test_a_failure_ends_the_sweep(images):
    configurations = [SMALL | {"seed": seed, "learning_rate": 1e30} for seed in range(4)]
    with pytest.raises(NonFiniteLossError, match="at step"):
        sweep(configurations, images, images[:100])


@pytest.mark.parametrize(
    ("configurations", "message"),
    [
        ([], "configurations must hold at least one"),
        ([{"latent_size": 2}], "configurations must name.*got"),
        ([SMALL | {"betta": 1}], "configurations must name.*betta"),
        ([SMALL | {"beta": -1}], "beta must be a finite number"),
        ([SMALL | {"latent_size": 0}], "latent_size must be a positive integer"),
    ],
)
def test_bad_configurations_are_named(images, configurations, message):
    with pytest.raises(ValueError, match=message):
        sweep(configurations, images[:100], images[:100])
