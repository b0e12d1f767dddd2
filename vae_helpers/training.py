"""The post's training step, and the loop that runs it or any other, compiled."""

from vae_helpers.data import check_images, to_float
from vae_helpers.models import compiled, tfd, variables_of, weights_from
from vae_helpers.objective import check_model, distortion, original_loss, rate
from vae_helpers.support import checks, diagnosis
from vae_helpers.support.diagnosis import NonFiniteLossError
from vae_helpers.support.programs import STEPS_PER_CALL, CompiledSteps
from vae_helpers.support.progress import deferred_interrupts, progress_bar

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import sonnet as snt
import tensorflow as tf


def post_step(
    encoder: snt.Module, decoder: snt.Module, prior: tfd.Distribution, optimizer: Any, beta: Any
) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """Makes the training step of the post, for `run_steps`."""

    def step(x: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            # Encode & decode to create the output distribution.
            q = encoder(x)
            z = q.sample(seed=seed)
            p = decoder(z)

            # loss = -ELBO = KL(q(z|x) || p(z)) - log p(x|z), averaged as in the post
            nats = tf.reduce_mean(rate(q, prior)), tf.reduce_mean(distortion(p, x))
            sizes = {"num_pixels": x.shape[1:].num_elements(), "latent_size": z.shape[-1]}
            loss, kl_loss, reconstruction_loss = original_loss(*nats, beta=beta, **sizes)

        # Compute & apply gradients.
        variables = encoder.trainable_variables + decoder.trainable_variables
        diagnosis.check_all_trained(tape.watched_variables(), variables)
        gradients = tape.gradient(loss, variables)
        optimizer.apply(gradients, variables)
        averages = {"total": loss, "kl": kl_loss, "reconstruction": reconstruction_loss}
        return averages | {"rate": nats[0], "distortion": nats[1]}

    return step


def train(
    encoder: snt.Module,
    decoder: snt.Module,
    prior: tfd.Distribution,
    images: Any,
    *,
    batch_size: int = 64,
    beta: float = 0.01,
    learning_rate: float = 1e-3,
    training_steps: int = 1024,
    transform: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Trains the encoder and the decoder in place, as the loop of the post does.

    It is `run_steps` with `post_step` and Adam, whose moments start at zero at each call.
    Networks that have no weights yet are given them from `seed`; those that have go on from
    there. The same seed gives the same numbers, bit for bit. It also means the same shuffle: ten
    calls of 100 steps with one seed take the same 6,400 images ten times, so give each call a
    seed of its own.

    Compiling takes some 2 s, once for each architecture, batch size and image type: another
    model of the same sizes, another β, learning rate, seed or number of steps reuses the
    program. A model with an activation, link or likelihood of your own is compiled each time.

    Args:
        encoder: maps images [B, H, W, C] to q(z|x), batch shape [B, L].
        decoder: maps codes [B, L] to p(x|z), batch shape [B, H, W, C].
        prior: p(z), batch shape [L].
        images: [N, H, W, C], uint8 or floats in [0, 1].
        batch_size: images per step.
        beta: weight of the KL averaged over latents, against the distortion
            averaged over pixels (see `objective.effective_beta`).
        learning_rate: Adam's step size.
        training_steps: number of steps.
        transform, progress: as `run_steps` takes them.
        seed: of initial weights, shuffles and samples.

    Returns:
        One row a step: `step` from 1; `total`, `kl` and `reconstruction` as the
        post names and averages them; `rate` and `distortion`, their sums in nats
        per image. An interrupt returns the rows so far, with the weights after the last
        of them, and sets `.attrs["interrupted"]`.

    Raises:
        ValueError: for an argument out of its range; or if the loss depends on a variable that
            neither network owns, which would stay as it is.
        NonFiniteLossError: if a loss stops being finite. It says the step, the term and the
            likely cause, and holds the rows so far; the networks are broken.

    Warns:
        UserWarning: if no latent is active in the end (see `evaluation.active_units`).
    """
    images = check_images(images)
    beta = checks.number("beta", beta)
    learning_rate = checks.number("learning_rate", learning_rate, positive=True)
    specs, calls = _batches(images, None, batch_size, training_steps, seed, transform)
    with weights_from(seed, encoder, decoder):
        check_model(encoder, decoder, prior, images[:1])
    with compiled(_CompiledPost, encoder, decoder, prior, *specs) as program:
        program.reset(beta, learning_rate)
        losses, finite = _run(program.steps, calls, training_steps, seed, progress)
    if not finite or not all(np.isfinite(w).all() for w in variables_of(encoder, decoder)):
        raise NonFiniteLossError(losses, diagnosis.cause(losses, learning_rate, beta))
    if len(losses) >= STEPS_PER_CALL:  # sooner, few latents are active
        diagnosis.warn_of_collapse(encoder(to_float(images[:1000])).mean(), learning_rate, beta)
    return losses


def run_steps(
    step: Callable[..., dict[str, Any]],
    images: Any,
    *,
    labels: Any = None,
    batch_size: int = 64,
    training_steps: int = 1024,
    seed: int = 0,
    transform: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Runs a training step of your own over shuffled batches, compiled by XLA, 64 steps a call.

    The step is called a few times to trace it, some 2 s to compile; then Python no longer sees
    it. So it must be made of TensorFlow's operations, and what changes from step to step must be
    an argument or a `tf.Variable`. What it creates at its first use (weights, Adam's moments) is
    created before it runs. Two calls with one optimizer go on with its moments.

    Args:
        step: called as step(x, seed), or step(x, y, seed) with `labels`. x is a batch of
            float32 [B, H, W, C] in [0, 1], y one of `labels`; seed is int32 [2], [seed, i] at
            step i = 0, 1, …, for TFP's and TensorFlow's stateless draws. It moves the weights, as
            the post does, and returns a dictionary of scalars.
        images: [N, H, W, C], uint8 or floats in [0, 1].
        labels: [N, ...], what else belongs to each image.
        batch_size: images per step B.
        training_steps: number of steps.
        seed: of the shuffles (see `batch_indices`) and of what the step draws; and of the
            weights that are created in the step, if `tf.random.set_seed` was not called.
        transform: changes images just before they are trained on, anew each time that they are
            taken: transform(x, generator), with x [n, H, W, C] as given, some thousand, and a
            NumPy generator made from `seed`; `data.binarize` is one.
        progress: whether to show a progress bar.

    Returns:
        One row a step: `step` from 1, and a column for each scalar. An interrupt returns the
        rows so far, and sets `.attrs["interrupted"]`.

    Raises:
        ValueError: for an argument out of its range, or if `step` returns no dictionary of
            scalars.
        NonFiniteLossError: if a scalar is not finite; it holds the rows so far.

    Example:
        >>> encoder, decoder = Encoder([100, 100], 10), Decoder([100, 100], [28, 28, 1])
        >>> prior, optimizer = standard_normal(10), snt.optimizers.Adam(1e-3)
        >>> def step(x, seed):
        ...     with tf.GradientTape() as tape:
        ...         q = encoder(x)
        ...         p = decoder(q.sample(seed=seed))
        ...         kl = tf.reduce_mean(q.kl_divergence(prior), axis=0)  # of each latent
        ...         free = tf.reduce_sum(tf.maximum(kl, 0.5))  # free bits: half a nat each
        ...         loss = free + tf.reduce_mean(distortion(p, x))
        ...     variables = encoder.trainable_variables + decoder.trainable_variables
        ...     optimizer.apply(tape.gradient(loss, variables), variables)
        ...     return {"loss": loss, "rate": tf.reduce_sum(kl)}
        >>> losses = run_steps(step, images)
    """
    specs, calls = _batches(
        check_images(images), labels, batch_size, training_steps, seed, transform
    )
    with weights_from(seed, anyway=False):
        steps = CompiledSteps(step, specs)
    losses, finite = _run(steps, calls, training_steps, seed, progress)
    if not finite:
        raise NonFiniteLossError(losses)
    return losses


def batch_indices(num_images: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Yields which images each training step takes, without end.

    Each epoch is a new shuffle; its last, partial batch is left out.

    Args:
        num_images: number of images N to choose from, at least `batch_size`.
        batch_size: images per step B.
        seed: of the shuffles.

    Yields:
        int64 [B], indices from 0 to N - 1.

    Raises:
        ValueError: at the first, for an argument out of its range.
    """
    batch_size = checks.positive_integer("batch_size", batch_size)
    if batch_size > num_images:
        raise ValueError(f"batch_size must be at most {num_images}, all images, got {batch_size}")
    generator = np.random.default_rng(checks.integer("seed", seed))
    while True:
        order = generator.permutation(num_images)
        for i in range(0, num_images - batch_size + 1, batch_size):
            yield order[i : i + batch_size]


class _CompiledPost:
    """The post's step with Adam, compiled; its β and learning rate can change."""

    def __init__(self, encoder, decoder, prior, *batches: tf.TensorSpec):
        self._beta, self._learning_rate = (tf.Variable(0.0, trainable=False) for _ in range(2))
        self._optimizer = snt.optimizers.Adam(self._learning_rate)
        variables = encoder.trainable_variables + decoder.trainable_variables
        self._optimizer.apply([tf.zeros_like(v) for v in variables], variables)  # moments
        step = post_step(encoder, decoder, prior, self._optimizer, self._beta)
        self.steps = CompiledSteps(step, batches)

    def reset(self, beta: float, learning_rate: float) -> None:
        for moment in self._optimizer.variables:
            moment.assign(tf.zeros_like(moment))
        self._beta.assign(beta)
        self._learning_rate.assign(learning_rate)


def _batches(images, labels, batch_size, training_steps, seed, transform) -> tuple[list, Iterator]:
    """Returns what a program takes; and of each call its first step, their number and batches."""
    training_steps = checks.positive_integer("training_steps", training_steps)
    seed = checks.integer("seed", seed)
    arrays = [images] if labels is None else [images, np.asarray(labels)]
    if len(arrays[-1]) != len(images):
        raise ValueError(f"labels must be as many as the images, {len(images)}, got {len(labels)}")
    indices = batch_indices(len(images), batch_size, seed)
    generator = np.random.default_rng([seed, 1])

    def call(first: int) -> tuple[int, int, list[tf.Tensor]]:
        count = min(STEPS_PER_CALL, training_steps - first)
        taken = np.stack([next(indices) for _ in range(count)])
        batches = [array[taken] for array in arrays]
        if transform is not None:
            x = transform(batches[0].reshape(-1, *images.shape[1:]), generator)
            batches[0] = check_images(x, "what transform returns").reshape(batches[0].shape)
        unused = STEPS_PER_CALL - count  # of a program that takes one shape
        filled = [np.concatenate([b, b[:1].repeat(unused, 0)]) for b in batches]
        return first, count, [tf.constant(batch) for batch in filled]

    calls = map(call, range(0, training_steps, STEPS_PER_CALL))
    *_, batches = first_call = next(calls)
    specs = [tf.TensorSpec(batch.shape, batch.dtype) for batch in batches]
    return specs, itertools.chain([first_call], calls)


def _run(
    steps: CompiledSteps, calls: Iterator, training_steps: int, seed: int, progress: bool
) -> tuple[pd.DataFrame, bool]:
    """Returns the table of a training, and whether its last row is finite."""
    rows, finite = [], True
    with deferred_interrupts() as interrupts, progress_bar(training_steps, progress) as bar:
        for first, count, batches in calls:
            done, finite, chunk = steps.run(*map(tf.constant, (first, count, seed)), *batches)
            rows.append(chunk[:done].numpy())
            bar.update(count)
            bar.set_postfix_str(f"{steps.names[0]} {rows[-1][-1, 0]:.4g}")
            if interrupts or not finite:
                break
    losses = pd.DataFrame(np.concatenate(rows), columns=steps.names, dtype=np.float64)
    losses.insert(0, "step", np.arange(1, len(losses) + 1))
    losses.attrs["interrupted"] = bool(interrupts)
    return losses, bool(finite)
