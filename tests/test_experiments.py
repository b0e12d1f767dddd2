import numpy as np
import pytest

from vae_helpers import experiments
from vae_helpers.evaluation import evaluate
from vae_helpers.experiments import sweep
from vae_helpers.training import train

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


def test_an_interrupt_keeps_the_finished_rows(images):
    calls = []

    def measure(*_):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return {}

    configurations = [SMALL | {"seed": seed} for seed in range(4)]
    table = sweep(configurations, images, images[:100], measure=measure)
    assert table["seed"].tolist() == [0, 1] and len(calls) == 3


def test_an_interrupt_of_a_training_ends_the_sweep(images, monkeypatch):
    def interrupted(*arguments, seed, **options):
        losses = train(*arguments, seed=seed, **options)
        losses.attrs["interrupted"] = seed == 1
        return losses

    monkeypatch.setattr(experiments, "train", interrupted)
    table = sweep([SMALL | {"seed": seed} for seed in range(3)], images, images[:100])
    assert table["seed"].tolist() == [0]


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
