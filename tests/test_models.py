from vae_helpers.models import SCALE_FLOOR, Decoder, Encoder, standard_normal

import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


@pytest.mark.parametrize("hidden_sizes", [[], [16], [32, 16, 8]])
@pytest.mark.parametrize("latent_size", [1, 3, 32])
def test_shapes_and_kinds(images, hidden_sizes, latent_size):
    q = Encoder(hidden_sizes, latent_size)(images[:5])
    p = Decoder(hidden_sizes, [28, 28, 1])(q.sample())
    assert isinstance(q, tfd.Normal) and q.batch_shape == (5, latent_size)
    assert isinstance(p, tfd.Bernoulli) and p.batch_shape == (5, 28, 28, 1)
    assert np.all(q.scale > 0)
    assert standard_normal(latent_size).batch_shape == (latent_size,)


def test_the_encoder_is_that_of_the_post(images):
    """Written out from its own weights: ReLU layers, then a mean and a squared scale."""
    encoder = Encoder([16, 8], 3)
    q = encoder(images[:5])
    h = images[:5].reshape(5, -1) / 255
    for layer in encoder._network.submodules:
        if isinstance(layer, snt.Linear):
            h = np.maximum(h @ layer.w + layer.b, 0)
    mu, sigma = encoder._mu_linear, encoder._sigma_linear
    np.testing.assert_allclose(q.loc, h @ mu.w + mu.b, atol=1e-5)
    np.testing.assert_allclose(q.scale, (h @ sigma.w + sigma.b) ** 2 + SCALE_FLOOR, atol=1e-5)


def test_the_loop_of_the_post_runs_with_our_networks(images):
    """Its training cell, to the letter but for the number of steps."""
    batch_size, beta, hidden_sizes, latent_size, learning_rate = 64, 0.01, [100, 100], 10, 1e-3
    image_shape = [28, 28, 1]
    dataset = tf.data.Dataset.from_tensor_slices(images)
    dataset = dataset.map(lambda x: tf.image.convert_image_dtype(x, tf.float32))
    dataset = iter(dataset.batch(batch_size, drop_remainder=True).repeat())

    encoder = Encoder(hidden_sizes=hidden_sizes, latent_size=latent_size)
    decoder = Decoder(hidden_sizes=hidden_sizes, output_shape=image_shape)
    prior = tfd.Normal(loc=tf.zeros(shape=latent_size), scale=tf.ones(shape=latent_size))
    optimizer = snt.optimizers.Adam(learning_rate)
    results = []
    for _ in range(40):
        x = next(dataset)
        with tf.GradientTape() as tape:
            q = encoder(x)
            z = q.sample()
            p = decoder(z)
            kl_loss = tf.reduce_mean(q.kl_divergence(prior))
            reconstruction_loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(logits=p.logits, labels=x)
            )
            loss = reconstruction_loss + beta * kl_loss
            variables = encoder.trainable_variables + decoder.trainable_variables
            gradients = tape.gradient(loss, variables)
            optimizer.apply(gradients, variables)
        results.append(loss.numpy())
    assert abs(results[0] - 0.74) < 0.03  # published: 0.7367
    assert 0.25 < results[-1] < 0.36  # published: 0.2977 at step 32, 0.2678 at 64


def test_a_blank_image_has_a_finite_kl_and_gradient():
    blank = np.zeros([2, 28, 28, 1], np.uint8)
    encoder = Encoder([16], 3)
    prior = standard_normal(3)
    with tf.GradientTape() as tape:
        q = encoder(blank)
        kl = tf.reduce_sum(q.kl_divergence(prior))
    np.testing.assert_allclose(q.scale, SCALE_FLOOR)
    assert np.isfinite(kl)
    assert all(np.isfinite(g).all() for g in tape.gradient(kl, encoder.trainable_variables))
    with pytest.raises(AssertionError):  # the same without the floor: what it is there for
        np.testing.assert_array_less(tfd.Normal(0.0, 0.0).kl_divergence(tfd.Normal(0.0, 1.0)), 99)


def test_links_activations_and_likelihoods_can_be_changed(images):
    for scale_fn in (tf.exp, tf.nn.softplus):
        q = Encoder([8], 2, scale_fn=scale_fn, activation=tf.tanh)(np.zeros([1, 28, 28, 1]))
        np.testing.assert_allclose(q.scale, float(scale_fn(0.0)) + SCALE_FLOOR, rtol=1e-6)
    p = Decoder([8], [28, 28, 1], likelihood=tfd.ContinuousBernoulli)(np.zeros([1, 2]))
    assert isinstance(p, tfd.ContinuousBernoulli)


def test_what_is_no_function_is_named():
    for name in ("activation", "scale_fn"):
        with pytest.raises(ValueError, match=f"{name} must be a function, got None"):
            Encoder([8], 2, **{name: None})
    for name in ("activation", "likelihood"):
        with pytest.raises(ValueError, match=f"{name} must be a function, got 'relu'"):
            Decoder([8], [28, 28, 1], **{name: "relu"})


def test_inputs_of_another_size_are_named(images):
    encoder, decoder = Encoder([8], 2), Decoder([8], [28, 28, 1])
    encoder(images[:1])
    with pytest.raises(ValueError, match=r"x must be images of shape \[28, 28, 1\].*\[14, 28, 1\]"):
        encoder(images[:1, :14])
    decoder(np.zeros([1, 2]))
    with pytest.raises(ValueError, match=r"z must have the shape \[N, 2\], got \[1, 3\]"):
        decoder(np.zeros([1, 3]))
    with pytest.raises(ValueError, match="z must have the shape"):
        Decoder([8], [28, 28, 1])(np.zeros(3))
    with pytest.raises(ValueError, match="x must be uint8, or floats in"):
        encoder(images[:1].astype(np.float32))
