"""Training over two devices is training on one."""

from vae_helpers import replication
from vae_helpers.data import to_float
from vae_helpers.objective import distortion, original_loss, rate
from vae_helpers.replication import train_replicated
from vae_helpers.training import NonFiniteLossError, batch_indices, train

import contextlib
import inspect
import io
import itertools
import os
import signal
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

# TensorFlow cuts the processor in two only before it starts.
SCRIPT = """
import sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import sonnet as snt
from vae_helpers.data import load_images
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.evaluation import evaluate
from vae_helpers.replication import train_replicated
from vae_helpers.training import check_model, copy_variables, train

ONE_STEP = {"training_steps": 1, "progress": False}
images, _ = load_images("mnist", "test")
devices = [device.name for device in tf.config.list_logical_devices("CPU")]
for number in (1, 2):
    # The post's own link, the square, lets rounding grow: its gradient is -2/u.
    encoder = Encoder([16], 3, scale_fn=tf.nn.softplus)
    model = encoder, Decoder([16], images.shape[1:]), standard_normal(3)
    replicator = snt.distribute.Replicator(devices[:number])
    losses = train_replicated(replicator, *model, images, training_steps=64, progress=False)
    losses.assign(devices=replicator.num_replicas_in_sync).to_csv(sys.stdout, index=False)

# And what comes after it, for weights that lie on two devices.
few, plain = images[:64], (Encoder([16], 3, scale_fn=tf.nn.softplus), Decoder([16], [28, 28, 1]))
check_model(*plain, model[2], few[:1])
copy_variables(model[:2], plain)
for scored in (lambda *m: evaluate(*m, few).mean(), lambda *m: train(*m, few, **ONE_STEP).mean()) * 2:
    one, two = scored(*plain, model[2]), scored(*model)
    assert (abs(one - two) <= 1e-5 * abs(one)).all(), (one, two)
"""


@pytest.mark.slow
def test_two_devices_train_as_one():
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    losses = pd.read_csv(io.StringIO(done)).query("devices != 'devices'").astype(float)
    one, two = (losses[losses["devices"] == number] for number in (1, 2))
    assert len(one) == len(two) == 64
    terms = ["total", "kl", "reconstruction", "rate", "distortion"]
    np.testing.assert_allclose(one[terms], two[terms], rtol=1e-5)
    assert one["distortion"].iloc[-1] < 0.8 * one["distortion"].iloc[0], "it learns"


def test_a_loss_that_is_not_finite_stops_it(images, make_model):
    replicator = snt.distribute.Replicator(["/device:CPU:0"])
    with pytest.raises(NonFiniteLossError, match="learning_rate below 1e\\+06") as caught:
        train_replicated(replicator, *make_model(), images[:64], learning_rate=1e6, progress=False)
    terms = np.isfinite(caught.value.losses[["rate", "distortion"]]).all(axis=1)
    assert terms[:-1].all() and not terms.iloc[-1] and len(terms) < 100


def test_a_collapse_is_said(make_model):
    replicator = snt.distribute.Replicator(["/device:CPU:0"])
    gray = np.full([4, 7, 7, 1], 128, np.uint8)
    options = {"batch_size": 4, "training_steps": 64, "progress": False}
    with pytest.warns(UserWarning, match="none of the 3 latents is active"):
        train_replicated(replicator, *make_model(output_shape=(7, 7, 1)), gray, **options)


def test_what_cannot_be_split_is_named(images, make_model):
    replicator = snt.distribute.Replicator(["/device:CPU:0"])
    with pytest.raises(
        ValueError, match="batch_size must be a multiple of 1.*at most 10, .*got 11"
    ):
        train_replicated(replicator, *make_model(), images[:10], batch_size=11)
    with pytest.raises(ValueError, match="replicator must be one of snt.distribute, got None"):
        train_replicated(None, *make_model(), images[:10])
    with replicator.scope():
        encoder, decoder, _ = make_model()

    class Heavy(tf.Module):  # whose tails the noise of a Gaussian would lack
        def __call__(self, x):
            q = encoder(x)
            return tfd.Laplace(q.loc, q.scale)

    with pytest.raises(ValueError, match="encoder must return a tfd.Normal, got Laplace"):
        train_replicated(replicator, Heavy(), decoder, tfd.Laplace(tf.zeros(3), 1.0), images[:64])
    two = types.SimpleNamespace(num_replicas_in_sync=2)
    with pytest.raises(ValueError, match="batch_size must be a multiple of 2, .* got 5"):
        train_replicated(two, *make_model(), images[:10], batch_size=5)
    encoder, decoder, prior = make_model()
    decoder(encoder(images[:1]).loc)
    with pytest.raises(ValueError, match="given their weights in replicator.scope()"):
        train_replicated(replicator, encoder, decoder, prior, images[:64])


def test_its_defaults_are_those_of_train():
    ours, theirs = (inspect.signature(f).parameters for f in (train_replicated, train))
    names = ("batch_size", "beta", "learning_rate", "training_steps", "seed", "progress")
    assert [ours[n].default for n in names] == [theirs[n].default for n in names]


def test_training_on_does_not_reseed_the_caller(images, make_model):
    replicator, drawn = snt.distribute.Replicator(["/device:CPU:0"]), []
    encoder, decoder, prior = make_model()
    with replicator.scope():
        decoder(encoder(images[:1]).loc)
    for trains in (False, True):
        tf.random.set_seed(7)  # another than that of the training
        if trains:
            train_replicated(replicator, encoder, decoder, prior, images[:64], training_steps=1)
        drawn.append(tf.random.normal([2]).numpy())
    np.testing.assert_array_equal(*drawn)


def test_a_weight_that_the_loss_does_not_use_stays(images, make_model):
    class Idle(snt.Module):
        def __init__(self):
            super().__init__()
            self.idle, self.encoder = tf.Variable([3.0]), make_model()[0]

        def __call__(self, x):
            return self.encoder(x)

    replicator, (_, decoder, prior) = snt.distribute.Replicator(["/device:CPU:0"]), make_model()
    with replicator.scope():
        encoder = Idle()
        decoder(encoder(images[:1]).loc)
    before = decoder.trainable_variables[0].numpy()
    train_replicated(replicator, encoder, decoder, prior, images, training_steps=2, progress=False)
    np.testing.assert_array_equal(encoder.idle, [3.0])
    assert (decoder.trainable_variables[0].numpy() != before).any()


def test_one_device_follows_the_plain_loop(images, make_model):
    replicator = snt.distribute.Replicator(["/device:CPU:0"])
    options = {"batch_size": 8, "beta": 3.0, "learning_rate": 0.01, "seed": 3}
    model = make_model(scale_fn=tf.nn.softplus)
    losses = train_replicated(
        replicator, *model, images[:64], training_steps=12, progress=False, **options
    )
    encoder, decoder, prior = make_model(scale_fn=tf.nn.softplus)
    tf.random.set_seed(3)
    decoder(encoder(images[:1]).loc)
    optimizer, batches = snt.optimizers.Adam(0.01), batch_indices(64, 8, 3)
    known = []
    for step in range(12):
        x = to_float(images[next(batches)])
        with tf.GradientTape() as tape:
            q = encoder(x)
            z = q.loc + q.scale * tf.random.stateless_normal([8, 3], seed=[3, step])
            terms = [tf.reduce_mean(rate(q, prior)), tf.reduce_mean(distortion(decoder(z), x))]
            loss, _, _ = original_loss(*terms, beta=3.0, num_pixels=784, latent_size=3)
        variables = encoder.trainable_variables + decoder.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        known.append(loss)
    np.testing.assert_allclose(losses["total"], known, rtol=1e-4)
    assert losses.attrs["interrupted"] is False


def test_an_interrupt_keeps_model_and_rows(images, make_model, monkeypatch):
    replicator = snt.distribute.Replicator(["/device:CPU:0"])
    encoder, decoder, prior = make_model()
    with replicator.scope():
        decoder(encoder(images[:1]).loc)
    before = encoder.variables[0].numpy()
    steps = itertools.count(1)

    class Bar:
        def update(self):
            if next(steps) == 3:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(replication, "progress_bar", lambda *_: contextlib.nullcontext(Bar()))
    # A process that a shell starts in the background ignores interrupts.
    handler = signal.signal(signal.SIGINT, lambda *_: pytest.fail("it was not held"))
    losses = train_replicated(replicator, encoder, decoder, prior, images[:64])
    signal.signal(signal.SIGINT, handler)
    assert losses.attrs["interrupted"] is True
    assert len(losses) in (3, 4) and np.isfinite(losses).all(axis=None)
    assert (encoder.variables[0].numpy() != before).any()
