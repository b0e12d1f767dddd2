from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.objective import (
    averaged_beta,
    distortion,
    effective_beta,
    log_density,
    log_weight,
    original_loss,
    rate,
)

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def test_the_rate_is_the_closed_form_and_the_monte_carlo_kl():
    generator = np.random.default_rng(0)
    mean = generator.normal(size=[4, 3]).astype(np.float32)
    scale = generator.uniform(0.1, 2, size=[4, 3]).astype(np.float32)
    q, prior = tfd.Normal(mean, scale), standard_normal(3)
    known = (0.5 * (mean**2 + scale**2 - 1) - np.log(scale)).sum(1)
    np.testing.assert_allclose(rate(q, prior), known, rtol=1e-5)
    z = q.sample(200_000, seed=[0, 0])
    samples = tf.reduce_sum(q.log_prob(z) - prior.log_prob(z), axis=-1).numpy()
    error = samples.std(0) / np.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(0) - known) < 5 * error)
    assert np.all(known > 0)


def test_the_rate_of_a_joint_posterior_is_known():
    prior = tfd.MultivariateNormalDiag(loc=tf.zeros(2))
    q = tfd.MultivariateNormalTriL(loc=tf.zeros([1, 2]), scale_tril=[[[1.0, 0.0], [0.6, 0.8]]])
    np.testing.assert_allclose(rate(q, prior), [-np.log(0.8)], rtol=1e-5)


def test_the_distortion_is_the_summed_cross_entropy(images):
    x = images[:4] / 255
    logits = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    known = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2, 3))
    bernoulli = tfd.Bernoulli(logits=logits)
    np.testing.assert_allclose(distortion(bernoulli, x), known, rtol=1e-5)
    np.testing.assert_allclose(distortion(bernoulli, images[:4]), known, rtol=1e-5)


def test_the_distortion_of_certain_pixels_is_finite(images):
    """Probabilities of exactly 0 and 1 have infinite logits."""
    ink = images[:4] > 127
    certain = tfd.Bernoulli(probs=ink.astype(np.float32))
    np.testing.assert_array_equal(distortion(certain, 255 * ink.astype(np.uint8)), np.zeros(4))


def test_the_original_loss_is_what_the_post_computes(images):
    encoder, decoder, prior = Encoder([16], 3), Decoder([16], [28, 28, 1]), standard_normal(3)
    x = tf.image.convert_image_dtype(images[:7], tf.float32)
    q = encoder(x)
    p = decoder(q.sample(seed=[0, 0]))
    kl = tf.reduce_mean(q.kl_divergence(prior))
    reconstruction = tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(logits=p.logits, labels=x)
    )
    ours = original_loss(
        tf.reduce_mean(rate(q, prior)),
        tf.reduce_mean(distortion(p, x)),
        beta=0.01,
        num_pixels=784,
        latent_size=3,
    )
    np.testing.assert_allclose(ours, [reconstruction + 0.01 * kl, kl, reconstruction], rtol=1e-5)


def test_the_effective_beta_weighs_sums_as_beta_weighs_averages():
    assert effective_beta(0.01, num_pixels=784, latent_size=10) == pytest.approx(0.784)
    assert effective_beta(0.01, num_pixels=784, latent_size=2) == pytest.approx(3.92)
    assert averaged_beta(3.92, num_pixels=784, latent_size=2) == pytest.approx(0.01)


def test_the_gradient_of_the_rate_is_that_of_finite_differences():
    mean, scale, step = np.array([[0.7, -0.2]]), np.array([[0.5, 1.5]]), 1e-6
    prior = tfd.Normal(tf.zeros(2, tf.float64), tf.ones(2, tf.float64))
    loc, sigma = tf.constant(mean), tf.constant(scale)
    with tf.GradientTape() as tape:
        tape.watch([loc, sigma])
        value = rate(tfd.Normal(loc, sigma), prior)
    for argument, gradient in enumerate(tape.gradient(value, [loc, sigma])):
        for i in range(2):
            ends = []
            for sign in (1, -1):
                moved = [mean.copy(), scale.copy()]
                moved[argument][0, i] += sign * step
                ends.append(float(rate(tfd.Normal(*map(tf.constant, moved)), prior)[0]))
            assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(
                float(gradient[0, i]), rel=1e-6
            )


def test_bad_arguments_are_named(images):
    for terms in [(np.zeros(3), np.zeros([3, 1])), (np.zeros(3), np.zeros(1)), (tf.zeros(3), 1.0)]:
        with pytest.raises(ValueError, match="distortion must have the shape of rate"):
            original_loss(*terms, beta=1.0, num_pixels=784, latent_size=10)
    with pytest.raises(ValueError, match="prior must have the latent size of q"):
        rate(tfd.Normal(tf.zeros([5, 3]), 1.0), standard_normal(4))
    with pytest.raises(ValueError, match="x must have the shape of p"):
        distortion(tfd.Bernoulli(logits=tf.zeros([3, 28, 28, 1])), images[:4])


@pytest.mark.parametrize("value", [None, 1.0, tfd.Normal, "prior"])
def test_what_is_no_distribution_is_named(images, value):
    q, z = tfd.Normal(tf.zeros([5, 3]), 1.0), tf.zeros([5, 3])
    calls = [
        ("q", lambda: rate(value, standard_normal(3))),
        ("prior", lambda: rate(q, value)),
        ("p", lambda: distortion(value, images[:4])),
        ("distribution", lambda: log_density(value, z)),
        ("q", lambda: log_weight(value, standard_normal(3), tf.zeros(5), z)),
        ("prior", lambda: log_weight(q, value, tf.zeros(5), z)),
    ]
    for name, call in calls:
        with pytest.raises(ValueError, match=f"^{name} must be a distribution of TFP, got "):
            call()


def test_codes_of_another_size_are_named():
    """A code of one latent, or a prior of one, would be broadcast to a number that looks right."""
    q, joint = tfd.Normal(tf.zeros([5, 3]), 1.0), tfd.MultivariateNormalDiag(tf.zeros([5, 3]))
    z, one = tf.zeros([5, 3]), tf.zeros([5, 1])
    for distribution, codes in [(q, one), (joint, one), (standard_normal(1), z)]:
        with pytest.raises(ValueError, match="^z must have the latent size of distribution"):
            log_density(distribution, codes)
    for prior, codes in [(standard_normal(3), one), (standard_normal(1), z)]:
        with pytest.raises(ValueError, match="^z must have the latent size of distribution"):
            log_weight(q, prior, tf.zeros(5), codes)
    for wrong in (0.0, tf.zeros([1]), [0.0] * 4, np.zeros([5, 1]), tf.zeros([2, 5])):
        with pytest.raises(ValueError, match="^distortion must have the shape of z without"):
            log_weight(q, standard_normal(3), wrong, z)
    for distribution in (q, joint):  # in any number of draws
        assert log_density(distribution, tf.zeros([2, 5, 3])).shape == (2, 5)


def test_shapes_may_be_unknown_until_a_program_runs():
    q, prior, z = tfd.Normal(tf.zeros([5, 3]), 1.0), standard_normal(3), tf.ones([5, 3])
    known = log_weight(q, prior, tf.zeros(5), z)
    np.testing.assert_array_equal(log_weight(q, prior, [0.0] * 5, z.numpy().tolist()), known)
    total = original_loss(np.ones(5), np.ones(5), beta=1.0, num_pixels=1, latent_size=1)[0]
    for shape in ([None], None):

        @tf.function(input_signature=[tf.TensorSpec(shape), tf.TensorSpec([None, 3])])
        def weights(distortion, z):
            return log_weight(q, prior, distortion, z)

        @tf.function(input_signature=[tf.TensorSpec(shape), tf.TensorSpec([5])])
        def totals(rate, distortion):
            return original_loss(rate, distortion, beta=1.0, num_pixels=1, latent_size=1)[0]

        np.testing.assert_allclose(weights(tf.zeros(5), z), known, rtol=1e-6)
        np.testing.assert_array_equal(totals(tf.ones(5), tf.ones(5)), total)


def test_the_bound_is_the_evidence_where_q_is_the_posterior():
    """A linear-Gaussian model: z ~ N(0, 1), x given z ~ N(w z, s²), all in closed form."""
    w, s, x = np.float32([1.5, 0.7, 0.9])
    evidence = tfd.Normal(np.float32(0), np.float32(np.hypot(w, s))).log_prob(x)
    precision = 1 + (w / s) ** 2
    posterior = (w * x / s**2 / precision, 1 / np.sqrt(precision))
    prior = standard_normal(1)

    def elbo(mean, scale):
        q = tfd.Normal([[mean]], [[scale]])
        z = q.sample(100_000, seed=[0, 0])
        expected = tf.reduce_mean(tfd.Normal(w * z, s).log_prob(x))
        return float(expected - rate(q, prior)[0])

    mean, scale = np.float32(posterior)
    assert elbo(mean, scale) == pytest.approx(float(evidence), abs=0.02)
    for other in np.float32([(mean + 0.3, scale), (mean, 2 * scale), (0.0, 1.0)]):
        gap = tfd.Normal(*other).kl_divergence(tfd.Normal(mean, scale))
        assert elbo(*other) == pytest.approx(float(evidence - gap), abs=0.03)
