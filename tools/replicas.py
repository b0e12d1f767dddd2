"""The post's training step on one device, on several, or on several hosts.

Its numbers are those of `training.train`: on one CPU bit for bit, elsewhere up to rounding. Each
replica takes its part of a batch, and of the noise that is drawn for the whole batch; then all move
their weights by the average of their gradients.
"""

from vae_helpers.models import tfd, variables_of
from vae_helpers.objective import distortion, original_loss, rate
from vae_helpers.support.programs import STEPS_PER_CALL, CompiledSteps
from vae_helpers.training import post_step

import os
from collections.abc import Callable

import numpy as np
import sonnet as snt
import tensorflow as tf
import tf_keras


def make_strategy(devices: int) -> tf.distribute.Strategy:
    """Takes the hosts of TF_CONFIG, or devices of this one: it must come before other operations."""
    gpus = tf.config.list_physical_devices("GPU")
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    count = devices or len(gpus) or 1
    if gpus and count > len(gpus):
        raise ValueError(f"devices must be at most {len(gpus)}, all GPUs, got {count}")
    if count == 1:
        return tf.distribute.get_strategy()
    if not gpus:
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, parts)
    kind = "GPU" if gpus else "CPU"
    return snt.distribute.Replicator([f"{kind}:{i}" for i in range(count)])


def compile_steps(
    strategy: tf.distribute.Strategy,
    model: tuple,
    images: np.ndarray,
    batch_size: int,
    beta: float,
    learning_rate: float,
    seed: int,
) -> tuple[Callable[[int, np.ndarray], np.ndarray], list[tf.Variable]]:
    """Makes the post's step with Adam for all replicas of a model, which has its weights.

    Args:
        strategy: in whose scope the weights were made.
        model: encoder, decoder, prior.
        images: to train on, [N, H, W, C].
        batch_size, beta, learning_rate, seed: as `training.train` takes them.

    Returns:
        run: called as run(first, taken) with the number of steps before and which images each of
            the next takes, [S, B]; returns their losses, [S, 5] or up to one that is not finite.
        state: all that it changes: the number of steps, Adam's moments, the weights.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"batch_size must be divisible by the number of replicas, {replicas}, got {batch_size}"
        )
    hosts = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    weights = variables_of(*model)
    with strategy.scope():
        # Variables, as in `training.train`: XLA rounds otherwise what constants are folded into.
        beta, rate_of_adam = (tf.Variable(v, trainable=False) for v in (beta, learning_rate))
        optimizer = (HostsAdam if hosts else snt.optimizers.Adam)(rate_of_adam)
        none = [tf.zeros_like(weight) for weight in weights]
        tf.function(lambda: strategy.run(optimizer.apply, (none, weights)), autograph=False)()
    moments = optimizer.weights if hosts else [optimizer.step, *optimizer.m, *optimizer.v]
    moments[0].assign(0)  # that step has made the moments, and moved nothing
    arguments = model, optimizer, beta, images, batch_size, seed
    alone = strategy is tf.distribute.get_strategy()
    run = _on_one_device(*arguments) if alone else _on_several(strategy, *arguments)
    return run, [*moments, *weights]


def _on_one_device(model, optimizer, beta, images, batch_size, seed) -> Callable:
    shape = [STEPS_PER_CALL, batch_size, *images.shape[1:]]
    step = post_step(*model, optimizer, beta)
    steps = CompiledSteps(step, [tf.TensorSpec(shape, images.dtype)])

    def run(first: int, taken: np.ndarray) -> np.ndarray:
        filled = np.concatenate([taken, taken[:1].repeat(STEPS_PER_CALL - len(taken), 0)])
        integers = map(tf.constant, (first, len(taken), seed))
        done, _, rows = steps.run(*integers, tf.constant(images[filled]))
        return rows[:done].numpy()

    return run


def _on_several(strategy, model, optimizer, beta, images, batch_size, seed) -> Callable:
    (encoder, decoder, prior), replicas = model, strategy.num_replicas_in_sync
    variables = encoder.trainable_variables + decoder.trainable_variables
    latent_size = prior.loc.shape[0]

    def step(x, noise):
        with tf.GradientTape() as tape:
            q = encoder(tf.image.convert_image_dtype(x, tf.float32))
            p = decoder(q.loc + q.scale * noise)
            nats = tf.reduce_mean(rate(q, prior)), tf.reduce_mean(distortion(p, x))
            sizes = {"num_pixels": x.shape[1:].num_elements(), "latent_size": latent_size}
            losses = original_loss(*nats, beta=beta, **sizes)
        mean = tf.distribute.get_replica_context().all_reduce
        optimizer.apply(mean("mean", tape.gradient(losses[0], variables)), variables)
        return mean("mean", tf.stack([*losses, *nats]))

    @tf.function(autograph=False)
    def step_of_all(x, noise):
        return strategy.experimental_local_results(strategy.run(step, (x, noise)))[0]

    @tf.function(autograph=False, jit_compile=True)  # as on one device: XLA has draws of its own
    def draw(seed):
        noise = tfd.Normal(tf.zeros([batch_size, latent_size]), 1.0).sample(seed=seed)
        return tf.reshape(noise, [replicas, -1, latent_size])

    def one_step(i: int, indices: np.ndarray) -> tf.Tensor:
        noise = draw(tf.constant([seed, i]))

        def part_of(replica):
            part = replica.replica_id_in_sync_group
            return tf.constant(images[indices[part]]), noise[part]

        parts = strategy.experimental_distribute_values_from_function(part_of)
        return step_of_all(*parts)

    def run(first: int, taken: np.ndarray) -> np.ndarray:
        parts = taken.reshape(len(taken), replicas, -1)
        return np.stack([one_step(i, indices) for i, indices in enumerate(parts, first)])

    return run


class HostsAdam(tf_keras.optimizers.legacy.Adam):
    """Adam for several hosts, whose strategy Sonnet's refuses; it makes the steps of Sonnet's."""

    def __init__(self, learning_rate: float):
        super().__init__(learning_rate, epsilon=1e-8)

    def _prepare_local(self, device, dtype, state):
        super()._prepare_local(device, dtype, state)
        terms = state[device, dtype]  # Keras adds epsilon before it corrects the second moment
        terms["epsilon"] *= tf.sqrt(1 - terms["beta_2_power"])

    def apply(self, gradients, variables):
        pairs = zip(gradients, variables, strict=True)
        self.apply_gradients(pairs, experimental_aggregate_gradients=False)
