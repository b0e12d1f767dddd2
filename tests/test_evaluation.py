"""Held-out numbers against closed forms, quadrature and the networks themselves."""

from vae_helpers.data import binarize
from vae_helpers.evaluation import active_units, evaluate, log_likelihood
from vae_helpers.models import Decoder, Encoder, standard_normal, tfd
from vae_helpers.objective import averaged_beta, distortion, log_density, rate
from vae_helpers.training import train

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture(scope="module")
def small(small_images):
    """MNIST at 7 by 7 pixels, black or white, and a model of two latents trained on it."""
    small = binarize(small_images)
    model = Encoder([16], 2), Decoder([16], [7, 7, 1]), standard_normal(2)
    train(*model, small, beta=averaged_beta(1.0, 49, 2), training_steps=300)
    return small, model


def test_each_image_has_its_terms_and_counts_once_when_blocks_are_filled_up(small):
    images, (encoder, decoder, prior) = small[0][:1200], small[1]
    table = evaluate(encoder, decoder, prior, images)
    assert list(table.columns) == ["rate", "distortion", "elbo"] and len(table) == 1200
    np.testing.assert_allclose(table["elbo"], -table["rate"] - table["distortion"])
    q = encoder(images)
    np.testing.assert_allclose(table["rate"], rate(q, prior), rtol=1e-4)
    difference = table["distortion"] - distortion(decoder(q.sample()), images).numpy()
    assert abs(difference.mean()) < 5 * difference.std() / np.sqrt(1200)


@pytest.mark.parametrize(("function", "block"), [(evaluate, 1000), (log_likelihood, 200)])
def test_more_images_change_nothing_for_the_others_and_the_seed_draws(small, function, block):
    def numbers(images, seed=1):
        return np.asarray(function(*model, images, num_samples=3, seed=seed)).T

    images, model = small
    first = numbers(images[:block])
    np.testing.assert_array_equal(first, numbers(images[: block + 250])[..., :block])
    assert np.mean(first != numbers(images[:block], seed=2)) > 0.6  # all but the rate
    same = np.split(numbers(np.tile(images[:1], [2 * block, 1, 1, 1])), 2, axis=-1)
    assert np.any(same[0] != same[1]), "each block of images has its own draws"


def test_functions_in_place_of_networks_are_evaluated_and_each_nan_is_counted_once():
    """A decoder that ignores its code has the cross-entropy of its output."""
    images = np.zeros([1200, 7, 7, 1], np.uint8)  # the last block is filled up

    def encoder(x):
        broken = tf.reduce_mean(x, [1, 2, 3])[:, None] > 0.9
        return tfd.Normal(tf.where(broken, np.nan, [[0.0, 0.0]]), 1.0)

    def decoder(z):
        return tfd.Bernoulli(logits=tf.zeros([z.shape[0], 7, 7, 1]) + 0 * z[:, :1, None, None])

    model, nats = (encoder, decoder, standard_normal(2)), 49 * np.log(2)
    table = evaluate(*model, images, num_samples=3)
    np.testing.assert_allclose(table, [[0, nats, -nats]] * 1200, rtol=1e-5)
    images[100:150] = 255
    for function in (evaluate, log_likelihood, lambda q, _, __, x: active_units(q, x)):
        with pytest.raises(ValueError, match="NaN or infinity for 50 of 1200 images"):
            function(*model, images)


@pytest.mark.parametrize("network", [0, 1])
def test_a_model_with_a_weight_that_is_not_finite_is_named(small, make_model, network):
    model, images = make_model(), small[0][:1000]
    model[1](model[0](images[:1]).loc)
    weight = model[network].trainable_variables[-1]
    weight.assign(tf.fill(weight.shape, np.nan))
    for function in (evaluate, log_likelihood):
        with pytest.raises(ValueError, match="encoder, decoder and prior must be finite"):
            function(*model, images)


def test_dead_units_are_found(images):
    """Latent 0 codes the ink, latent 1 nothing, latents 2 and 3 less and more than the threshold."""

    def encoder(x):
        ink = tf.reduce_mean(x, [1, 2, 3])
        ink = (ink - tf.reduce_mean(ink)) / tf.math.reduce_std(ink)
        return tfd.Normal(tf.stack([ink, 0 * ink + 5, 0.09 * ink, 0.11 * ink], axis=1), 1.0)

    assert active_units(encoder, images[:1000]).tolist() == [True, False, False, True]


def test_the_bound_grows_from_the_elbo_on_and_fewer_draws_are_the_first_of_more(small):
    images, model = small[0][:1000], small[1]
    counts = np.array([[1], [2], [5], [20], [100]])
    bounds = np.array([log_likelihood(*model, images, num_samples=k.item()) for k in counts])
    assert np.all(np.diff(bounds.mean(1)) > 0.05)
    assert np.all(np.diff(bounds + np.log(counts), axis=0) >= -1e-4), "sums of weights only grow"
    elbo = evaluate(*model, images, num_samples=20)["elbo"].mean()
    assert bounds[0].mean() == pytest.approx(elbo, abs=0.3)


@pytest.mark.parametrize("scale", [0.05, 5.0])  # weights of e^2000 and of e^-2500
def test_weights_of_any_size_are_added_and_lose_no_digits_over_many_draws(scale):
    bound = log_likelihood(
        lambda x: tfd.Normal(tf.zeros([x.shape[0], 1]), 1.0),
        lambda z: tfd.Normal(tf.zeros([z.shape[0], 1000, 1, 1]), scale),
        standard_normal(1),
        np.zeros([3, 1000, 1, 1], np.float32),
        num_samples=20_000,
    )
    # A sum of 1000 pixels in float32 is off by 1e-5 where TensorFlow adds one after the other.
    np.testing.assert_allclose(bound, -1000 * np.log(scale * np.sqrt(2 * np.pi)), rtol=2e-5)


def test_the_bound_reaches_quadrature(small):
    images, (encoder, decoder, prior) = small[0][:30], small[1]
    points = np.linspace(-6, 6, 241, dtype=np.float32)
    z = np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 2)
    logits = decoder(z).logits.numpy().reshape(len(z), -1).astype(np.float64)
    log_joint = logits @ images.reshape(len(images), -1).T / 255
    log_joint += (log_density(prior, z) - np.logaddexp(0, logits).sum(1))[:, None]
    exact = np.logaddexp.reduce(log_joint) + 2 * np.log(points[1] - points[0])

    def wider(x):
        """Covers what the posterior covers, where the encoder at times misses a part of it."""
        q = encoder(x)
        return tfd.Normal(q.loc, 2 * q.scale + 0.4)

    bound = log_likelihood(wider, decoder, prior, images, num_samples=20_000)
    assert np.abs(bound - exact).max() < 0.1
    assert abs(np.mean(bound - exact)) < 0.01


def test_the_bound_of_a_linear_gaussian_model_is_its_evidence():
    """x = W z + b + 0.1 e. With the exact posterior one draw will do: each weight is p(x)."""
    weight, bias = np.array([[0.2, 0.1, -0.1], [0.1, -0.2, 0.2]], np.float32), np.float32(0.5)
    covariance = np.linalg.inv(np.eye(2, dtype=np.float32) + 100 * weight @ weight.T)
    x = np.random.default_rng(0).random([20, 1, 3, 1], np.float32)
    marginal = np.linalg.cholesky(weight.T @ weight + 0.01 * np.eye(3))
    evidence = tfd.MultivariateNormalTriL([0.5] * 3, marginal).log_prob(x.reshape(-1, 3))

    def encoder(x):
        loc = (tf.reshape(x, [x.shape[0], 3]) - bias) @ weight.T @ covariance * 100
        return tfd.MultivariateNormalTriL(loc, np.linalg.cholesky(covariance))

    def decoder(z):
        return tfd.Normal(tf.reshape(z @ weight + bias, [-1, 1, 3, 1]), 0.1)

    prior = tfd.MultivariateNormalDiag(tf.zeros(2))
    bound = log_likelihood(encoder, decoder, prior, x, num_samples=1)
    np.testing.assert_allclose(bound, evidence, atol=5e-4, rtol=0)
    assert abs(np.mean(bound - evidence)) < 1e-4
