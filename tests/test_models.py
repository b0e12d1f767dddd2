from vae_helpers.models import SCALE_FLOOR, Decoder, Encoder, copy_weights, standard_normal, tfd

import numpy as np
import pytest
import tensorflow as tf

X = np.random.default_rng(0).integers(0, 256, [5, 4, 4, 1], np.uint8)
OTHERS = {"activation": tf.tanh, "scale_fn": tf.exp}


def weights(*networks):
    return [variable.numpy() for network in networks for variable in network.variables]


@pytest.mark.parametrize("options", [{}, OTHERS])
def test_the_networks_are_those_of_the_post_with_functions_to_choose(options):
    """Written out from their own weights: ReLU layers, then a mean and a squared scale."""
    activation, scale_fn = options.values() or (tf.nn.relu, tf.square)
    encoder, decoder, prior = (
        Encoder([16, 8], 3, **options),
        Decoder([16], [4, 4, 1]),
        standard_normal(3),
    )
    q = encoder(X)
    p = decoder(q.loc)
    b_mu, w_mu, b0, w0, b1, w1, b_sigma, w_sigma = weights(encoder)
    h = activation(activation(X.reshape(5, -1) / np.float32(255) @ w0 + b0) @ w1 + b1)
    assert isinstance(q, tfd.Normal) and isinstance(p, tfd.Bernoulli)
    np.testing.assert_allclose(q.loc, h @ w_mu + b_mu, atol=1e-5)
    np.testing.assert_allclose(q.scale, scale_fn(h @ w_sigma + b_sigma) + SCALE_FLOOR, atol=1e-5)
    b0, w0, b1, w1 = weights(decoder)
    logits = np.maximum(q.loc @ w0 + b0, 0) @ w1 + b1
    np.testing.assert_allclose(p.logits, logits.reshape(X.shape), atol=1e-5)
    np.testing.assert_array_equal([prior.loc, prior.scale], [[0] * 3, [1] * 3])
    linear = Encoder([], 1)(X)
    assert linear.batch_shape == (5, 1) and Decoder([], [2])(linear.loc).batch_shape == (5, 2)


def test_a_blank_image_has_a_finite_kl_and_gradient():
    encoder, prior = Encoder([16], 3), standard_normal(3)
    with tf.GradientTape() as tape:
        q = encoder(0 * X)
        kl = tf.reduce_sum(q.kl_divergence(prior))
    np.testing.assert_allclose(q.scale, SCALE_FLOOR)
    assert np.isfinite(kl)
    assert all(np.isfinite(g).all() for g in tape.gradient(kl, encoder.trainable_variables))
    assert not np.isfinite(tfd.Normal(0.0, 0.0).kl_divergence(prior)).any(), "without the floor"


def test_weights_are_copied_between_networks_of_the_same_sizes_alone():
    source, target, other = (Encoder([16], latent_size) for latent_size in (3, 3, 2))
    for network in (target, other, source):
        network(X)
    source.variables[1].assign_add(tf.ones([16, 3]))
    copy_weights(source, target)
    np.testing.assert_equal(weights(target), weights(source))
    with pytest.raises(ValueError):
        copy_weights(source, other)


def drawn(seed, extra=False):
    """The weights of a new model, and what TensorFlow draws next."""
    encoder, decoder = Encoder([16], 3), Decoder([16], [4, 4, 1])
    if extra:
        encoder.extra = decoder.extra = tf.Variable(0.0)
    tf.random.set_seed(seed)
    decoder(encoder(X).loc)
    after = tf.random.normal([3]).numpy()
    tf.random.set_seed(None)
    return weights(encoder, decoder), after


@pytest.mark.parametrize("extra", [False, True])
def test_new_weights_are_the_same_each_time_and_follow_a_seed_of_the_reader(extra):
    (first, after), (again, after_again) = drawn(None, extra), drawn(None, extra)
    np.testing.assert_equal(first, again)
    assert np.all(after != after_again), "TensorFlow's own seed stays unset"
    seeded = drawn(7, extra)
    np.testing.assert_equal(seeded, drawn(7, extra))
    assert not all(map(np.array_equal, seeded[0], first))
