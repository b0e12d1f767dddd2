"""The table of notebook 06: what it measures by, what it holds, and the weights beside it."""

from vae_helpers.evaluation import active_units, evaluate
from vae_helpers.models import tfd

import experiments
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

TABLE = pd.read_csv(experiments.TABLE)


def test_the_information_of_a_gaussian_channel_is_known():
    signal, noise = 0.9, 0.5
    q = tfd.Normal(signal * tf.math.ndtri((tf.range(2000.0)[:, None] + 0.5) / 2000), noise)
    found = [experiments.mutual_information(q, q.sample(seed=[seed, 0])) for seed in range(5)]
    known = np.log(1 + (signal / noise) ** 2) / 2
    assert np.mean(found) == pytest.approx(known, abs=4 * np.std(found) / np.sqrt(5) + 0.005)


def test_dead_codes_say_nothing_and_perfect_codes_log_n():
    dead = tfd.MultivariateNormalTriL(tf.zeros([300, 2]), 0.5 * tf.eye(2))
    nothing = experiments.mutual_information(dead, dead.sample(seed=[0, 0]))
    assert nothing == pytest.approx(0, abs=1e-5)
    perfect = tfd.Normal(tf.range(300.0)[:, None], 1e-4)
    found = experiments.mutual_information(perfect, perfect.sample(seed=[0, 0]))
    assert found == pytest.approx(np.log(300), abs=1e-5)


def test_the_frechet_distance_of_two_gaussians_is_known():
    """Of N(m, s²) and N(m', s'²) in each dimension it is (m - m')² + (s - s')², summed."""
    generator = np.random.default_rng(0)
    means, scales = np.array([[0.0, 1.0], [3.0, -1.0]]), np.array([[1.0, 2.0], [0.5, 3.0]])
    draws = [generator.normal(m, s, (200_000, 2)) for m, s in zip(means, scales, strict=True)]
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])  # no distance depends on the axes
    found = experiments.frechet_distance(*(d @ turn for d in draws))
    assert found == pytest.approx(9 + 4 + 0.25 + 1, rel=0.01)
    assert experiments.frechet_distance(draws[0], draws[0]) == pytest.approx(0, abs=1e-9)


def test_the_table_has_a_row_for_each_model():
    names = [experiments.name_of(row) for row in TABLE[experiments.SETTING].to_dict("records")]
    assert sorted(names) == sorted(map(experiments.name_of, experiments.settings()))


@pytest.mark.slow
def test_the_table_is_of_the_weights_beside_it(images):
    """Half precision moves an ELBO by less than it differs between draws of z."""
    rows = TABLE[TABLE["training"] == "trained out"].set_index(experiments.SETTING)
    for setting in experiments.shipped():
        model = experiments.new_model(setting)
        experiments.load(experiments.RESULTS, setting, model)
        row = rows.loc[tuple(setting.values())]
        assert active_units(model[0], images).sum() == row["active_units"]
        if setting["model"] == "VAE":
            elbo = evaluate(*model, images)["elbo"].mean()
            assert elbo == pytest.approx(row["elbo"], abs=0.05)
