"""Held-out numbers: the ELBO's two terms, log p(x), and which latents are used."""

from vae_helpers.data import check_images, to_float
from vae_helpers.models import compiled, variables_of
from vae_helpers.objective import check_model, distortion, log_weight, rate
from vae_helpers.support import checks, programs
from vae_helpers.support.diagnosis import ACTIVE_VARIANCE
from vae_helpers.support.progress import progress_bar

from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_probability as tfp

_IMAGES_PER_CALL = 1000  # bounds the memory; no number depends on it but the draws of z
_IMAGES_PER_BLOCK = 200  # the same, for what is computed k or N times an image


def evaluate(
    encoder: Any, decoder: Any, prior: Any, images: Any, *, num_samples: int = 1, seed: int = 0
) -> pd.DataFrame:
    """Estimates the ELBO of each image, term by term.

    The rate is exact. The distortion is the mean over `num_samples` draws of z;
    averaged over thousands of images, one draw is enough.

    Args:
        encoder, decoder, prior: as `training.train` takes them.
        images: [N, H, W, C], uint8 or floats in [0, 1], best not trained on.
        num_samples: draws of z per image.
        seed: of the draws.

    Returns:
        One row an image, in nats: `rate`, `distortion`, and `elbo`, which is
        -distortion - rate. Its `.mean()` gives the numbers of the set.

    Raises:
        ValueError: for an argument out of its range, or a model that gives NaN or infinity.
    """
    images = check_images(images)
    num_samples = checks.positive_integer("num_samples", num_samples)
    seed = checks.integer("seed", seed)
    check_model(encoder, decoder, prior, images[:1])
    size = min(len(images), _IMAGES_PER_CALL)
    block = tf.TensorSpec([size, *images.shape[1:]], images.dtype)
    with compiled(_terms, encoder, decoder, prior, block) as terms_of:
        terms = [
            terms_of(x, *map(tf.constant, (num_samples, seed, start)))
            for start, x in _blocks(images, size)
        ]
    terms = _finite(np.concatenate(terms)[: len(images)], encoder, decoder)
    table = pd.DataFrame(terms, columns=["rate", "distortion"], dtype=np.float64)
    return table.assign(elbo=-table["distortion"] - table["rate"])


def _terms(encoder, decoder, prior, block: tf.TensorSpec):
    """Compiles the rate and the distortion of a block of images, [B, 2]."""

    def terms(x, num_samples, seed, start):
        q = encoder(to_float(x))

        def add(k, distortions):
            z = q.sample(seed=tf.stack([seed, start * num_samples + k]))
            return k + 1, distortions + distortion(decoder(z), x)

        zeros = tf.zeros([x.shape[0]])
        _, distortions = tf.while_loop(
            lambda k, _: k < num_samples, add, (0, zeros), parallel_iterations=1
        )
        return tf.stack([rate(q, prior), distortions / tf.cast(num_samples, tf.float32)], axis=1)

    integers = [tf.TensorSpec([], tf.int32)] * 3
    return tf.function(terms, autograph=False).get_concrete_function(block, *integers)


def log_likelihood(
    encoder: Any,
    decoder: Any,
    prior: Any,
    images: Any,
    *,
    num_samples: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> np.ndarray:
    """Estimates log p(x) of each image from below, by importance sampling.

    L_k = log(1/k sum_i w_i) with w_i = p(x|z_i) p(z_i) / q(z_i|x) and k draws z_i
    from q(z|x) (Burda et al. 2016, equation 8). Its expectation is the ELBO for
    k = 1, grows with k, and tends to log p(x).

    The draws stream through a running log-sum-exp, so k costs time and no memory:
    about 10 µs a draw and image for the post's model. With the same seed, a smaller
    k takes the first of the draws that a larger one takes.

    Args:
        encoder: maps images [N, H, W, C] to q(z|x), batch shape [N, L] (or [N]).
        decoder: maps codes [N, L] to p(x|z), batch shape [N, H, W, C].
        prior: p(z), batch shape [L] (or []).
        images: [N, H, W, C], uint8 or floats in [0, 1], best not trained on.
        num_samples: draws of z per image, k.
        seed: of the draws; the same seed gives the same bits.
        progress: whether to show a progress bar.

    Returns:
        float64 [N], nats. Its `.mean()` is the bound of the set.

    Raises:
        ValueError: for an argument out of its range, or a model that gives NaN or infinity.

    Example:
        >>> log_likelihood(encoder, decoder, prior, test_images, num_samples=100).mean()
    """
    images = check_images(images)
    num_samples = checks.positive_integer("num_samples", num_samples)
    seed = checks.integer("seed", seed)
    decoder(encoder(to_float(images[:1])).sample(seed=[0, 0]))  # creates missing weights
    size = min(len(images), _IMAGES_PER_BLOCK)
    block = tf.TensorSpec([size, *images.shape[1:]], images.dtype)
    bounds = []
    with (
        compiled(_summed_weights, encoder, decoder, prior, block) as summed_weights,
        progress_bar(len(images), progress) as bar,
    ):
        for start, x in _blocks(images, size):
            summed = summed_weights(x, tf.constant(num_samples), tf.constant([seed, start]))
            bounds.append(summed.numpy() - np.log(num_samples))
            bar.update(min(size, len(images) - start))
    return _finite(np.concatenate(bounds)[: len(images)], encoder, decoder)


def _summed_weights(encoder, decoder, prior, block: tf.TensorSpec):
    """Compiles the logarithm of the sum of the importance weights of each image, float64 [B]."""

    def summed_weights(x, num_samples, seed):
        q = encoder(to_float(x))

        def add(i, summed):
            z = q.sample(seed=tf.random.experimental.stateless_fold_in(seed, i))
            weight = log_weight(q, prior, distortion(decoder(z), x), z)
            # In float32 a sum that has come to 2^24 no longer grows by weights of 1.
            return i + 1, tfp.math.log_add_exp(summed, tf.cast(weight, tf.float64))

        nothing = tf.fill([x.shape[0]], tf.constant(-np.inf, tf.float64))
        return tf.while_loop(lambda i, _: i < num_samples, add, (0, nothing))[1]

    numbers = tf.TensorSpec([], tf.int32), tf.TensorSpec([2], tf.int32)
    return programs.compile_by_xla(summed_weights, block, *numbers)


def _blocks(images: np.ndarray, size: int):
    """Yields the first index of each block of images, and the block, the last one filled up."""
    for start in range(0, len(images), size):
        x = images[start : start + size]
        yield start, tf.constant(np.concatenate([x, images[: size - len(x)]]))


def active_units(encoder: Any, images: Any) -> np.ndarray:
    """Finds the latents that tell one image from another.

    A latent is active if its posterior mean varies: Var_x(E_q[z|x]) > 0.01
    (Burda et al. 2016, section 5.2). The others repeat the prior.

    Args:
        encoder: maps images to q(z|x), batch shape [N, L].
        images: [N, H, W, C], some hundreds at least.

    Returns:
        bool [L].

    Raises:
        ValueError: if `images` are not images, or the model gives NaN or infinity.
    """
    images = check_images(images)
    blocks = np.split(images, range(_IMAGES_PER_CALL, len(images), _IMAGES_PER_CALL))
    means = _finite(np.concatenate([encoder(to_float(block)).mean() for block in blocks]), encoder)
    return np.var(means, axis=0, dtype=np.float64) > ACTIVE_VARIANCE


def _finite(numbers: np.ndarray, *networks: Any) -> np.ndarray:
    """Returns what networks give for N images, [N, ...], if it and their weights are finite."""
    broken = ~np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1)
    # Weights, too: fused with a layer, ReLU makes a 0 of NaN on some processors.
    if broken.any() or not all(np.isfinite(w).all() for w in variables_of(*networks)):
        raise ValueError(
            "encoder, decoder and prior must be finite and give finite numbers, got NaN or infinity "
            f"for {broken.sum()} of {len(numbers)} images, as a training leaves them that went wrong"
        )
    return numbers
