"""Training over two devices is training on one."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sonnet as snt

from vae_helpers.replication import train_replicated
from vae_helpers.training import NonFiniteLossError

# TensorFlow cuts the processor in two only before it starts.
SCRIPT = """
import sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import sonnet as snt
from vae_helpers.data import load_images
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.replication import train_replicated

images, _ = load_images("mnist", "test")
devices = [device.name for device in tf.config.list_logical_devices("CPU")]
for number in (1, 2):
    # The post's own link, the square, lets rounding grow: its gradient is -2/u.
    encoder = Encoder([16], 3, scale_fn=tf.nn.softplus)
    model = encoder, Decoder([16], images.shape[1:]), standard_normal(3)
    replicator = snt.distribute.Replicator(devices[:number])
    losses = train_replicated(replicator, *model, images, training_steps=64, progress=False)
    losses.assign(devices=replicator.num_replicas_in_sync).to_csv(sys.stdout, index=False)
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
    encoder, decoder, prior = make_model()
    decoder(encoder(images[:1]).loc)
    with pytest.raises(ValueError, match="given their weights in replicator.scope()"):
        train_replicated(replicator, encoder, decoder, prior, images[:64])
