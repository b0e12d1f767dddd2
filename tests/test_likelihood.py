"""The bounds of log p(x) and the split of the rate, against answers that are known."""

from vae_helpers import evaluation
from vae_helpers.data import binarize
from vae_helpers.evaluation import (
    evaluate,
    log_likelihood,
    mutual_information,
)
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.objective import (
    averaged_beta,
    distortion,
    importance_weighted_bound,
    log_density,
    log_weight,
)
from vae_helpers.training import Networks, batch_indices, train

import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def test_fewer_draws_are_the_first_of_more(images, make_model):
    """So the sum of the weights, k times their mean, only grows with k."""
    model, few = make_model(), images[:50]
    sums = [log_likelihood(*model, few, num_samples=k) + np.log(k) for k in (1, 2, 3, 10)]
    assert (np.diff(sums, axis=0) >= -1e-4).all()


@pytest.mark.parametrize("scale", [0.05, 5.0])  # weights of e^2000 and of e^-2500
def test_weights_of_any_size_are_added(scale):
    bound = log_likelihood(
        lambda x: tfd.Normal(tf.zeros([x.shape[0], 1]), 1.0),
        lambda z: tfd.Normal(tf.zeros([z.shape[0], 1000, 1, 1]), scale),
        standard_normal(1),
        np.zeros([3, 1000, 1, 1], np.float32),
        num_samples=20,
    )
    np.testing.assert_allclose(bound, -1000 * np.log(scale * np.sqrt(2 * np.pi)), rtol=1e-4)


@pytest.fixture(scope="module")
def small(images):
    """MNIST at 7 by 7 pixels, black or white, and a model of two latents trained on it."""
    small = binarize(images[:2000, ::4, ::4])
    model = Encoder([16], 2), Decoder([16], [7, 7, 1]), standard_normal(2)
    train(*model, small, beta=averaged_beta(1.0, 49, 2), training_steps=300)
    return small, model


def test_the_bound_reaches_quadrature(small):
    images, (encoder, decoder, prior) = small
    images = images[:30]
    points = np.linspace(-6, 6, 241, dtype=np.float32)
    z = np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 2)
    logits = decoder(z).logits.numpy().reshape(len(z), -1).astype(np.float64)
    ink = images.reshape(len(images), -1) / 255
    log_joint = logits @ ink.T - np.logaddexp(0, logits).sum(1)[:, None]
    log_joint += log_density(prior, z).numpy()[:, None]
    exact = np.logaddexp.reduce(log_joint) + 2 * np.log(points[1] - points[0])

    def wider(x):
        """Covers what the posterior covers, where the encoder at times misses a part of it."""
        q = encoder(x)
        return tfd.Normal(q.loc, 2 * q.scale + 0.4)

    bound = log_likelihood(wider, decoder, prior, images, num_samples=20_000)
    assert np.abs(bound - exact).max() < 0.1
    assert abs(np.mean(bound - exact)) < 0.01


def linear_gaussian(posterior_scale):
    """x = W z + b + s e of two latents and three pixels, its log p(x), and q(z|x) as models."""
    weight, bias = np.array([[0.2, 0.1, -0.1], [0.1, -0.2, 0.2]], np.float32), np.float32(0.5)
    variance = np.float32(0.1**2)
    precision = np.eye(2, dtype=np.float32) + weight @ weight.T / variance
    covariance = np.linalg.inv(precision)

    def encoder(x):
        x = tf.reshape(x, [x.shape[0], 3])
        loc = (x - bias) @ weight.T @ covariance / variance
        return tfd.MultivariateNormalTriL(loc, posterior_scale * np.linalg.cholesky(covariance))

    def decoder(z):
        return tfd.Normal(tf.reshape(z @ weight + bias, [-1, 1, 3, 1]), np.sqrt(variance))

    def evidence(x):
        marginal = weight.T @ weight + variance * np.eye(3)
        scale = np.linalg.cholesky(marginal)
        return tfd.MultivariateNormalTriL(np.full(3, bias, float), scale).log_prob(x.reshape(-1, 3))

    return encoder, decoder, tfd.MultivariateNormalDiag(tf.zeros(2)), evidence


@pytest.mark.parametrize(
    ("posterior_scale", "num_samples", "error"), [(1.0, 1, 1e-4), (1.3, 5000, 0.02)]
)
def test_the_bound_of_a_linear_gaussian_model_is_its_evidence(posterior_scale, num_samples, error):
    """With the exact posterior one draw will do, for all weights are the evidence."""
    *model, evidence = linear_gaussian(posterior_scale)
    x = np.random.default_rng(0).random([20, 1, 3, 1], np.float32)
    bound = log_likelihood(*model, x, num_samples=num_samples)
    np.testing.assert_allclose(bound, evidence(x), atol=error * 5, rtol=0)
    assert abs(np.mean(bound - evidence(x))) < error


def test_the_bound_tightens_from_the_elbo_on(small):
    images, model = small
    bounds = [log_likelihood(*model, images, num_samples=k).mean() for k in (1, 2, 5, 20, 100)]
    assert np.all(np.diff(bounds) > 0.05)
    assert bounds[0] == pytest.approx(
        evaluate(*model, images, num_samples=20)["elbo"].mean(), abs=0.3
    )


def test_every_image_counts_once_and_the_same_seed_gives_the_same_bits(small):
    images, model = small
    all_of_them = log_likelihood(*model, images[:450], num_samples=3, seed=1)
    assert all_of_them.shape == (450,) and all_of_them.dtype == np.float64
    np.testing.assert_array_equal(
        all_of_them[:201], log_likelihood(*model, images[:201], num_samples=3, seed=1)
    )
    other = log_likelihood(*model, images[:450], num_samples=3, seed=2)
    assert 0 < np.abs(other - all_of_them).min()
    assert log_likelihood(*model, images[:1], num_samples=3).shape == (1,)


def test_models_of_a_size_keep_their_own_bounds(small):
    images, model = small
    untrained = Encoder([16], 2), Decoder([16], [7, 7, 1]), standard_normal(2)
    before = log_likelihood(*model, images[:100], num_samples=10)
    worse = log_likelihood(*untrained, images[:100], num_samples=10)
    assert worse.mean() < before.mean() - 5
    np.testing.assert_array_equal(log_likelihood(*model, images[:100], num_samples=10), before)


def test_large_log_weights_lose_no_digits_over_many_draws():
    """Densities of about e^2000 a code: a running sum in their own range would lose the draws."""

    def encoder(x):
        return tfd.Normal(tf.zeros([x.shape[0], 1]), 1.0)

    def decoder(z):
        return tfd.Normal(tf.zeros([z.shape[0], 1000, 1, 1]), 0.05)

    x = np.zeros([3, 1000, 1, 1], np.float32)
    bound = log_likelihood(encoder, decoder, standard_normal(1), x, num_samples=20_000)
    np.testing.assert_allclose(bound, -1000 * np.log(0.05 * np.sqrt(2 * np.pi)), atol=2e-2)


def test_the_k_sample_loss_is_the_negative_bound(small, make_model):
    images, _ = small
    encoder, decoder, prior = make_model(latent_size=2, output_shape=(7, 7, 1))
    tf.random.set_seed(4)
    decoder(encoder(images[:1]).loc)
    x = images[:8]

    @tf.function(jit_compile=True, autograph=False)
    def bound(x):
        q = encoder(x)
        z = q.sample(5, seed=[4, 0])
        distortions = tf.stack([distortion(decoder(z[i]), x) for i in range(5)])
        return importance_weighted_bound(log_weight(q, prior, distortions, z))

    order = next(batch_indices(8, 8, seed=4))
    known = -bound(tf.constant(x[order])).numpy().mean() / 49
    beta = averaged_beta(1.0, 49, 2)
    losses = train(
        encoder,
        decoder,
        prior,
        x,
        batch_size=8,
        beta=beta,
        num_samples=5,
        training_steps=70,
        seed=4,
    )
    assert losses["total"][0] == pytest.approx(known, rel=1e-5)
    assert (losses["total"] < losses["reconstruction"] + beta * losses["kl"]).mean() > 0.9
    assert losses["total"].iloc[-1] < 0.9 * losses["total"][0]


def test_pixels_are_drawn_anew_for_every_batch(small, make_model):
    images, _ = small
    options = {"training_steps": 70, "batch_size": 10}
    shape = {"output_shape": (7, 7, 1)}
    as_they_are = train(*make_model(**shape), images, **options)
    assert as_they_are.equals(train(*make_model(**shape), images, binarized=True, **options))
    gray = np.full_like(images[:10], 128)
    first, again = (train(*make_model(**shape), gray, binarized=True, **options) for _ in range(2))
    assert first.equals(again) and first["distortion"].nunique() > 60
    floats = train(*make_model(**shape), gray / np.float32(255), binarized=True, **options)
    assert abs(floats["distortion"].mean() - first["distortion"].mean()) < 0.5


def gaussian_codes(signal, noise):
    """Encodes a pixel, uniform in [0, 1], as N(signal * a standard normal, noise²)."""

    def encoder(x):
        loc = signal * tf.math.ndtri(tf.reshape(x, [x.shape[0], 1]))
        return tfd.Normal(loc, noise * tf.ones_like(loc))

    return encoder


def test_the_split_of_a_gaussian_channel_brackets_its_information():
    num = 2000
    x = ((np.arange(num, dtype=np.float32) + 0.5) / num).reshape(-1, 1, 1, 1)
    table = mutual_information(gaussian_codes(0.9, 0.5), standard_normal(1), x)
    known = np.log(1 + (0.9 / 0.5) ** 2) / 2
    variance = 0.9**2 + 0.5**2
    mismatch = (variance - 1 - np.log(variance)) / 2
    mean, error = table.mean(), table.std() / np.sqrt(num)
    assert abs(mean["information"] - known) < 4 * error["information"]
    assert abs(mean["information_upper"] - known) < 4 * error["information_upper"]
    assert mean["information"] < mean["information_upper"]
    assert mean["rate"] == pytest.approx(known + mismatch, abs=0.01)
    np.testing.assert_allclose(
        table["rate"] - table["information"], table["marginal_kl"], atol=1e-12
    )


def test_dead_codes_say_nothing_and_perfect_codes_log_n(images):
    def dead(x):
        return tfd.MultivariateNormalTriL(tf.zeros([x.shape[0], 2]), 0.5 * tf.eye(2))

    prior = tfd.MultivariateNormalDiag(tf.zeros(2))
    table = mutual_information(dead, prior, images[:250])
    np.testing.assert_allclose(table[["information", "information_upper"]], 0, atol=1e-5)
    assert table["marginal_kl"].mean() == pytest.approx(2 * (0.125 - 0.5 + np.log(2)), rel=1e-4)
    x = ((np.arange(300, dtype=np.float32) + 0.5) / 300).reshape(-1, 1, 1, 1)
    one, other = (
        mutual_information(gaussian_codes(1.0, 0.5), standard_normal(1), x, seed=seed)
        for seed in (0, 1)
    )
    assert not one.equals(other), "other draws"
    perfect = mutual_information(gaussian_codes(1.0, 1e-4), standard_normal(1), x)
    np.testing.assert_allclose(perfect["information"], np.log(300), atol=1e-5)
    assert perfect["information_upper"].mean() > np.log(300) + 1


def test_bad_arguments_are_named(small):
    images, model = small
    with pytest.raises(ValueError, match="x must be images of shape"):
        log_likelihood(*model, images[:2, :3])
    with pytest.raises(ValueError, match="images must be two or more, got 1"):
        mutual_information(model[0], model[2], images[:1])
    with pytest.raises(ValueError, match=r"beta must be 0.040816327, .* got 0.01"):
        train(*model, images, num_samples=5)


def test_the_running_sum_has_room_for_many_draws(images, make_model):
    """In float32 it would stay at 2^24 of the largest weight."""
    encoder, decoder, prior = make_model()
    program = types.SimpleNamespace(with_given=lambda _: Networks(encoder, decoder))
    sums = evaluation._CompiledWeights._sum(program, (), prior, images[:2], tf.constant(3), (0, 0))
    assert [s.dtype for s in sums] == [tf.float32, tf.float64]
