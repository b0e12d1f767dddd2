"""The training loop over several devices of one machine, each with its part of every batch."""

from vae_helpers.data import check_images
from vae_helpers.objective import distortion, original_loss, rate
from vae_helpers.support import checks
from vae_helpers.support.progress import deferred_interrupts, progress_bar
from vae_helpers.training import (
    batch_indices,
    check_end,
    check_model,
    loss_table,
    seed_new_weights,
)

from typing import Any

import numpy as np
import pandas as pd
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def train_replicated(
    replicator: snt.distribute.Replicator,
    encoder: snt.Module,
    decoder: snt.Module,
    prior: tfd.Distribution,
    images: Any,
    *,
    batch_size: int = 64,
    beta: float = 0.01,
    learning_rate: float = 1e-3,
    training_steps: int = 1024,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Trains in place, as the loop of the post does, with each batch split over devices.

    Every device holds the weights, takes its part of the batch, and averages its gradient
    with those of the others (data parallelism; Buchlovsky et al. 2019). So the losses are those
    of one device, up to the rounding of the averages. The noise of z is drawn for the whole
    batch, from the seed [seed, i] at step i; the images are those of `training.batch_indices`.

    Args:
        replicator: over the devices; `Replicator()` takes all GPUs.
        encoder: maps images [B, H, W, C] to a Normal q(z|x), batch shape [B, L]; it and the
            decoder have no weights yet, or were given them in `replicator.scope()`.
        decoder: maps codes [B, L] to p(x|z), batch shape [B, H, W, C].
        prior: p(z), batch shape [L].
        images: [N, H, W, C], uint8 or floats in [0, 1].
        batch_size: images per step on all devices together, a multiple of their number.
        beta, learning_rate, training_steps, seed, progress: as `training.train` takes them.

    Returns:
        One row a step, as `training.train` returns them, after an interrupt, too.

    Raises:
        ValueError: for an argument out of its range.
        NonFiniteLossError: as `training.train`, but one step was taken on that loss.

    Warns:
        UserWarning: as `training.train`.
    """
    images = check_images(images)
    if not hasattr(replicator, "num_replicas_in_sync"):
        raise ValueError(f"replicator must be one of snt.distribute, got {replicator!r}")
    num_replicas = replicator.num_replicas_in_sync
    batch_size = checks.positive_integer("batch_size", batch_size)
    if batch_size % num_replicas or batch_size > len(images):
        raise ValueError(
            f"batch_size must be a multiple of {num_replicas}, the number of devices, and at most "
            f"{len(images)}, the number of images, got {batch_size}"
        )
    beta = checks.number("beta", beta)
    learning_rate = checks.number("learning_rate", learning_rate, positive=True)
    training_steps = checks.positive_integer("training_steps", training_steps)
    seed = checks.integer("seed", seed)
    with replicator.scope():
        seed_new_weights(encoder, decoder, seed)
        latent_size = check_model(encoder, decoder, prior, images[:1])
        if not isinstance(q := encoder(images[:1]), tfd.Normal):  # whose noise is drawn below
            raise ValueError(f"encoder must return a tfd.Normal, got {type(q).__name__}")
        optimizer = snt.optimizers.Adam(learning_rate)
    weights = encoder.trainable_variables + decoder.trainable_variables
    if not all(isinstance(weight, tf.distribute.DistributedValues) for weight in weights):
        raise ValueError("encoder and decoder must be given their weights in replicator.scope()")

    def step(x, noise):
        with tf.GradientTape() as tape:
            q = encoder(x)
            z = q.loc + q.scale * noise
            terms = [tf.reduce_mean(rate(q, prior)), tf.reduce_mean(distortion(decoder(z), x))]
            loss, _, _ = original_loss(
                *terms, beta=beta, num_pixels=images[0].size, latent_size=latent_size
            )
        unused = tf.UnconnectedGradients.ZERO  # for a weight that the loss does not depend on
        gradients = tape.gradient(loss, weights, unconnected_gradients=unused)
        context = tf.distribute.get_replica_context()
        optimizer.apply(context.all_reduce("mean", gradients), weights)
        return context.all_reduce("mean", tf.stack(terms))

    @tf.function(autograph=False)
    def step_on_all(*batch):
        parts = [tf.split(value, num_replicas) for value in batch]
        mine = [
            replicator.experimental_distribute_values_from_function(
                lambda context, part=part: part[context.replica_id_in_sync_group]
            )
            for part in parts
        ]
        return replicator.experimental_local_results(replicator.run(step, args=mine))[0]

    @tf.function(autograph=False)
    def create_moments():  # Sonnet does it at the first use, which must not be in a loop
        replicator.run(lambda: optimizer.apply([tf.zeros_like(w) for w in weights], weights))

    create_moments()
    for variable in optimizer.variables:
        variable.assign(tf.zeros_like(variable))
    batches = batch_indices(len(images), batch_size, seed)
    terms = np.empty([training_steps, 2], np.float32)
    with deferred_interrupts() as interrupts, progress_bar(training_steps, progress) as bar:
        for i in range(training_steps):
            noise = tf.random.stateless_normal([batch_size, latent_size], seed=[seed, i])
            terms[i] = step_on_all(tf.constant(images[next(batches)]), noise)
            bar.update()
            finite = bool(np.isfinite(terms[i]).all())
            if not finite or interrupts:
                break
    losses = loss_table(terms[: i + 1], beta, images[0].size, latent_size)
    losses.attrs["interrupted"] = bool(interrupts)
    check_end((encoder, decoder), images, losses, finite, beta, learning_rate)
    return losses
