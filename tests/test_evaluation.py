from vae_helpers import evaluation
from vae_helpers.evaluation import active_units, evaluate
from vae_helpers.models import Decoder, standard_normal
from vae_helpers.objective import distortion, rate
from vae_helpers.training import check_model, copy_variables

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def test_each_image_has_its_terms(images, make_model):
    encoder, decoder, prior = make_model()
    few = images[:7]
    table = evaluate(encoder, decoder, prior, few, num_samples=400)
    assert list(table.columns) == ["rate", "distortion", "elbo"] and len(table) == 7
    np.testing.assert_allclose(table["elbo"], -table["rate"] - table["distortion"])
    q = encoder(few)
    np.testing.assert_allclose(table["rate"], rate(q, prior), rtol=1e-5)
    samples = np.array([distortion(decoder(q.sample()), few) for _ in range(400)])
    error = samples.std(0) * np.sqrt(2 / 400)
    assert np.all(np.abs(table["distortion"] - samples.mean(0)) < 5 * error)


def test_a_decoder_that_ignores_z_has_the_cross_entropy_of_its_output(images):
    def encoder(x):
        return tfd.Normal(tf.zeros([x.shape[0], 2]), tf.ones([x.shape[0], 2]))

    def decoder(z):
        return tfd.Bernoulli(logits=tf.zeros([z.shape[0], 28, 28, 1]))

    table = evaluate(encoder, decoder, standard_normal(2), images[:2500])
    np.testing.assert_allclose(table["distortion"], 784 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose(table["rate"], 0, atol=1e-6)


def test_the_graph_gives_what_the_networks_give(images, make_model):
    """In blocks of 1,000 images."""
    encoder, decoder, prior = make_model()
    table = evaluate(encoder, decoder, prior, images[:1200], num_samples=2, seed=3)
    for start in (0, 1000):
        x = images[start : min(start + 1000, 1200)]
        q = encoder(x)
        draws = [q.sample(seed=[3, 2 * start + k]) for k in range(2)]
        distortions = np.mean([distortion(decoder(z), x) for z in draws], axis=0)
        rows = table.iloc[start : start + len(x)]
        np.testing.assert_allclose(rows["rate"], rate(q, prior), rtol=1e-6)
        np.testing.assert_allclose(rows["distortion"], distortions, rtol=1e-6)


def test_numbers_out_of_range_are_found_in_hidden_layers(make_model):
    """Infinity less infinity is NaN, which a ReLU would hide if it were fused with its layer."""
    encoder, decoder, prior = make_model(hidden_sizes=(16, 16))
    images = np.ones([7, 28, 28, 1], np.float32)
    images[0] = 0
    encoder(images)
    (weight,) = [v for v in encoder.trainable_variables if "linear_0/w" in v.name]
    weight.assign(tf.fill(weight.shape, 3e38))
    with pytest.raises(ValueError, match="NaN or infinity for 6 of 7 images"):
        evaluate(encoder, decoder, prior, images)


def test_more_images_change_nothing_for_the_others_but_noise(images, make_model):
    encoder, decoder, prior = make_model()
    first = evaluate(encoder, decoder, prior, images[:1000], seed=1)
    more = evaluate(encoder, decoder, prior, images[:1500], seed=1)
    assert first.equals(more.iloc[:1000])
    assert not first.equals(evaluate(encoder, decoder, prior, images[:1000], seed=2))
    assert len(evaluate(encoder, decoder, prior, images[:1])) == 1


def test_dead_units_are_found(images):
    """Latent 0 codes the ink, latent 1 nothing, latent 2 has the variance of the threshold."""

    def encoder(x):
        ink = tf.reduce_mean(tf.cast(x, tf.float32), [1, 2, 3])
        ink = (ink - tf.reduce_mean(ink)) / tf.math.reduce_std(ink)
        loc = tf.stack([ink, 0 * ink + 5, 0.09 * ink], axis=1)
        return tfd.Normal(loc, tf.ones_like(loc))

    assert active_units(encoder, images[:1000]).tolist() == [True, False, False]
    assert active_units(encoder, images[:1000], threshold=0.008).tolist() == [True, False, True]


def test_the_options_of_tensorflow_stay_as_they_are(images, make_model):
    """With others, a program that is compiled already would be compiled again."""
    before = tf.config.optimizer.get_experimental_options()
    evaluate(*make_model(), images[:9])
    assert tf.config.optimizer.get_experimental_options() == before
    try:
        tf.config.optimizer.set_experimental_options({"remapping": False})
        evaluate(*make_model(), images[:9])
        assert tf.config.optimizer.get_experimental_options()["remapping"] is False
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": before.get("remapping")})


def test_each_broken_image_is_counted_once(make_model):
    encoder, decoder, prior = make_model()
    images = np.zeros([1200, 28, 28, 1], np.uint8)  # two blocks, the second one filled up
    images[100:150] = 255
    encoder(images[:1])
    (weight,) = [w for w in encoder.trainable_variables if w.shape == [784, 16]]
    weight.assign(tf.fill(weight.shape, 3e38))
    with pytest.raises(ValueError, match="for 50 of 1200 images"):
        evaluate(encoder, decoder, prior, images)


def test_two_evaluations_take_turns_with_the_options():
    entered, before = threading.Event(), tf.config.optimizer.get_experimental_options()

    def other():
        with evaluation._unfused():
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        with evaluation._unfused():
            waiting = pool.submit(other)
            assert not entered.wait(0.2), "it would take what it finds for the caller's"
        waiting.result()
    assert tf.config.optimizer.get_experimental_options() == before


def test_a_subclass_does_not_share_the_program_of_its_base(images, make_model):
    class Doubled(Decoder):
        def __call__(self, z):
            return super().__call__(2 * z)

    encoder, decoder, prior = make_model()
    few, doubled = images[:9], Doubled([16], [28, 28, 1])
    evaluate(encoder, decoder, prior, few)
    check_model(encoder, doubled, prior, few[:1])
    copy_variables((decoder,), (doubled,))
    z = encoder(few).sample(seed=[0, 0])
    table = evaluate(encoder, doubled, prior, few)
    np.testing.assert_allclose(table["distortion"], distortion(doubled(z), few), rtol=1e-5)


def test_only_models_of_one_architecture_share_a_program(images, make_model):
    few, (encoder, decoder, prior) = images[:9], make_model()
    another, exponential = make_model(), make_model(scale_fn=tf.exp)[0]
    continuous = Decoder([16], [28, 28, 1], likelihood=tfd.ContinuousBernoulli)
    models = (encoder, decoder), another[:2], (exponential, decoder), (encoder, continuous)
    for encoder, decoder in models:
        table = evaluate(encoder, decoder, prior, few)
        q = encoder(few)
        known = rate(q, prior), distortion(decoder(q.sample(seed=[0, 0])), few)
        # The distortion of the continuous one may be near 0.
        np.testing.assert_allclose(table[["rate", "distortion"]].T, known, rtol=1e-4, atol=1e-4)
