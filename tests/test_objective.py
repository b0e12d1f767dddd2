from vae_helpers.models import standard_normal, tfd
from vae_helpers.objective import (
    averaged_beta,
    distortion,
    effective_beta,
    log_density,
    log_weight,
    rate,
)

import numpy as np
import pytest
import tensorflow as tf

GENERATOR = np.random.default_rng(0)
MEAN, Z = GENERATOR.normal(size=[2, 4, 3]).astype(np.float32)
SCALE = GENERATOR.uniform(0.1, 2, size=[4, 3]).astype(np.float32)
Q, PRIOR = tfd.Normal(MEAN, SCALE), standard_normal(3)
JOINT, JOINT_PRIOR = tfd.MultivariateNormalDiag(MEAN, SCALE), tfd.MultivariateNormalDiag([0.0] * 3)
FACTORIZED_AND_JOINT = pytest.mark.parametrize(("q", "prior"), [(Q, PRIOR), (JOINT, JOINT_PRIOR)])


@FACTORIZED_AND_JOINT
def test_the_rate_is_the_closed_form_and_the_monte_carlo_kl(q, prior):
    nats = rate(q, prior)
    known = (0.5 * (MEAN**2 + SCALE**2 - 1) - np.log(SCALE)).sum(1)
    np.testing.assert_allclose(nats, known, rtol=1e-5)
    z = q.sample(200_000, seed=[0, 0])
    samples = (log_density(q, z) - log_density(prior, z)).numpy()
    assert np.all(np.abs(samples.mean(0) - nats) < 5 * samples.std(0) / np.sqrt(len(samples)))


def test_the_rate_of_a_full_covariance_is_known():
    q = tfd.MultivariateNormalTriL([[0.0, 0.0]], [[[1.0, 0.0], [0.6, 0.8]]])
    nats = rate(q, tfd.MultivariateNormalDiag([0.0, 0.0]))
    np.testing.assert_allclose(nats, [-np.log(0.8)], rtol=1e-5)


@pytest.mark.parametrize("step", 1e-6 * np.eye(4))
def test_the_gradient_of_the_rate_is_that_of_finite_differences(step):
    def nats(moments):
        prior = tfd.Normal(tf.zeros(2, tf.float64), tf.ones(2, tf.float64))
        return rate(tfd.Normal(moments[:, :2], moments[:, 2:]), prior)

    moments = tf.constant([[0.7, -0.2, 0.5, 1.5]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(moments)
        value = nats(moments)
    difference = (nats(moments + step) - nats(moments - step)) / 2
    np.testing.assert_allclose(tape.gradient(value, moments) @ step[:, None], [difference], 1e-6)


def test_the_distortion_is_the_summed_cross_entropy_and_what_a_density_gives(images):
    x = images[:4] / 255
    logits = GENERATOR.normal(size=x.shape).astype(np.float32)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    known = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2, 3))
    bernoulli = tfd.Bernoulli(logits=logits)
    for likelihood in (bernoulli, tfd.Independent(bernoulli, 2), tfd.Independent(bernoulli, 3)):
        for given in (x, images[:4]):
            np.testing.assert_allclose(distortion(likelihood, given), known, rtol=1e-5)
    known = 2 * (x - logits) ** 2 + np.log(0.5 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(distortion(tfd.Normal(logits, 0.5), x), known.sum((1, 2, 3)), 1e-5)


def test_the_effective_beta_weighs_sums_as_beta_weighs_averages():
    assert effective_beta(0.01, num_pixels=784, latent_size=10) == pytest.approx(0.784)
    assert effective_beta(0.01, num_pixels=784, latent_size=2) == pytest.approx(3.92)
    assert averaged_beta(3.92, num_pixels=784, latent_size=2) == pytest.approx(0.01)
    assert effective_beta(np.float32(0.5), np.int64(4), latent_size=1) == 2.0


@FACTORIZED_AND_JOINT
def test_a_log_weight_is_that_of_the_densities_written_out(q, prior):
    nats = np.float32([10, 0, -5, 3000])
    known = (0.5 * ((Z - MEAN) / SCALE) ** 2 + np.log(SCALE) - 0.5 * Z**2).sum(1) - nats
    np.testing.assert_allclose(log_weight(q, prior, nats, Z), known, rtol=1e-4, atol=1e-4)
    draws = log_weight(q, prior, np.stack([nats, nats]), np.stack([Z, Z]))
    np.testing.assert_allclose(draws, [known, known], rtol=1e-4, atol=1e-4)
    known = -0.5 * (Z**2 + np.log(2 * np.pi)).sum(1)
    np.testing.assert_allclose(log_density(prior, Z), known, rtol=1e-5)


FOUR, ONE = np.zeros(4, np.float32), standard_normal(1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: rate(Q, ONE),
        lambda: rate(Q, JOINT_PRIOR),
        lambda: distortion(tfd.Bernoulli(logits=tf.zeros([3, 2, 2, 1])), np.zeros([4, 2, 2, 1])),
        lambda: distortion(tfd.Bernoulli(logits=tf.zeros([4, 2, 2, 3])), np.zeros([4, 2, 2, 1])),
        lambda: log_density(Q, Z[:, :1]),
        lambda: log_weight(Q, ONE, FOUR, Z),
        lambda: log_weight(Q, PRIOR, FOUR[:1], Z),
        lambda: log_weight(Q, PRIOR, FOUR[:, None], Z),
    ],
)
def test_nothing_is_broadcast_to_a_number_that_looks_right(call):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="shape"):
        call()
