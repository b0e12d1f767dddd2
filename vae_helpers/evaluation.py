"""Held-out numbers: the ELBO's two terms, log p(x), what the rate buys, which latents are used."""

from vae_helpers.data import check_images, to_float
from vae_helpers.models import compiled, tfd
from vae_helpers.objective import check_model, distortion, log_density, log_weight, rate
from vae_helpers.support import checks, programs
from vae_helpers.support.diagnosis import ACTIVE_VARIANCE
from vae_helpers.support.progress import progress_bar

from typing import Any

import numpy as np
import pandas as pd
import sonnet as snt
import tensorflow as tf

_IMAGES_PER_CALL = 1000  # bounds the memory; no number depends on it but the draws of z
_IMAGES_PER_BLOCK = 200  # the same, for what is computed k or N times an image


def evaluate(
    encoder: snt.Module,
    decoder: snt.Module,
    prior: tfd.Distribution,
    images: Any,
    *,
    num_samples: int = 1,
    seed: int = 0,
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
    encoder: snt.Module,
    decoder: snt.Module,
    prior: tfd.Distribution,
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
            sums = summed_weights(x, tf.constant(num_samples), tf.constant([seed, start]))
            largest, scaled = (t.numpy().astype(np.float64) for t in sums)
            bounds.append(largest + np.log(scaled) - np.log(num_samples))
            bar.update(min(size, len(images) - start))
    return _finite(np.concatenate(bounds)[: len(images)], encoder, decoder)


def _summed_weights(encoder, decoder, prior, block: tf.TensorSpec):
    """Compiles the largest log weight of each image, and the sum of its weights over the largest."""

    def summed_weights(x, num_samples, seed):
        q = encoder(to_float(x))

        def add(i, largest, scaled):
            z = q.sample(seed=tf.random.experimental.stateless_fold_in(seed, i))
            weight = log_weight(q, prior, distortion(decoder(z), x), z)
            larger = tf.maximum(largest, weight)
            shrunk, added = (tf.exp(w - larger) for w in (largest, weight))
            # In float32 a sum that has come to 2^24 no longer grows by weights of 1.
            scaled = scaled * tf.cast(shrunk, tf.float64) + tf.cast(added, tf.float64)
            return i + 1, larger, scaled

        largest = tf.fill([x.shape[0]], tf.float32.min)
        _, largest, scaled = tf.while_loop(
            lambda i, *_: i < num_samples, add, (0, largest, tf.zeros_like(largest, tf.float64))
        )
        return largest, scaled

    numbers = tf.TensorSpec([], tf.int32), tf.TensorSpec([2], tf.int32)
    return programs.compile_by_xla(summed_weights, block, *numbers)


def _blocks(images: np.ndarray, size: int):
    """Yields the first index of each block of images, and the block, the last one filled up."""
    for start in range(0, len(images), size):
        x = images[start : start + size]
        yield start, tf.constant(np.concatenate([x, images[: size - len(x)]]))


def mutual_information(
    encoder: snt.Module, prior: tfd.Distribution, images: Any, *, seed: int = 0
) -> pd.DataFrame:
    """Splits the rate into what the code says of the image and how ill the prior fits.

    E_x KL(q(z|x) || p(z)) = I(x; z) + KL(q(z) || p(z)), where q(z) = E_x q(z|x) is the
    aggregate posterior (Hoffman and Johnson 2016). Here q(z) is the mean of q(z|x_j) over
    the N images, taken at one draw z_i from q(z|x_i) for each. For x uniform over
    these N images that is unbiased. For the distribution that they are drawn from it
    is low on average and never above log N, 9.2 nats for 10,000 images; leaving x_i
    out of the mean at z_i makes it high on average (Poole et al. 2019, section 2).
    The rate is a further upper bound of I, since KL(q(z) || p(z)) >= 0. Where the two
    are far apart, N images cannot tell how much of the rate is which.

    Args:
        encoder: maps images [N, H, W, C] to q(z|x), batch shape [N, L] (or [N]).
        prior: p(z), batch shape [L] (or []).
        images: [N, H, W, C], two or more; the time grows with N².
        seed: of the draws.

    Returns:
        One row an image, in nats: `rate`; `information`, whose `.mean()` estimates I
        from below; `information_upper`, the same from above; and `marginal_kl`,
        rate - information, which estimates KL(q(z) || p(z)) from above.

    Raises:
        ValueError: for an argument out of its range, or a model that gives NaN or infinity.
    """
    images = check_images(images)
    seed = checks.integer("seed", seed)
    num = len(images)
    if num < 2:
        raise ValueError(f"images must be two or more, got {num}")
    q = encoder(to_float(images))
    rates = rate(q, prior).numpy()
    z = q.sample(seed=[seed, 0])

    size = min(num, _IMAGES_PER_BLOCK)
    others = np.empty(num)
    for start in range(0, num, size):
        own = np.arange(start, start + size, dtype=np.int32) % num
        others[own] = _log_others(q, tf.gather(z, own), tf.constant(own))
    conditional = log_density(q, z).numpy().astype(np.float64)
    table = pd.DataFrame({"rate": rates}, dtype=np.float64)
    table["information"] = conditional - np.logaddexp(others, conditional) + np.log(num)
    table["information_upper"] = conditional - others + np.log(num - 1)
    table["marginal_kl"] = table["rate"] - table["information"]
    _finite(table.to_numpy(), encoder)
    return table


@tf.function(autograph=False)
def _log_others(q, z, own) -> tf.Tensor:
    """Returns log sum_j q(z|x_j) over the images j but `own`, [B], for codes z [B, L]."""
    densities = log_density(q, z[:, None])
    is_own = own[:, None] == tf.range(tf.shape(densities)[1])
    return tf.reduce_logsumexp(tf.where(is_own, -np.inf, densities), axis=1)


def active_units(
    encoder: snt.Module, images: Any, threshold: float = ACTIVE_VARIANCE
) -> np.ndarray:
    """Finds the latents that tell one image from another.

    A latent is active if its posterior mean varies: Var_x(E_q[z|x]) > threshold
    (Burda et al. 2016, section 5.2). The others repeat the prior.

    Args:
        encoder: maps images to q(z|x), batch shape [N, L].
        images: [N, H, W, C], some hundreds at least.
        threshold: variance above which a latent is active.

    Returns:
        bool [L].

    Raises:
        ValueError: if `images` are not images, or `threshold` is negative.
    """
    threshold = checks.number("threshold", threshold)
    images = check_images(images)
    blocks = np.split(images, range(_IMAGES_PER_CALL, len(images), _IMAGES_PER_CALL))
    means = _finite(np.concatenate([encoder(to_float(block)).mean() for block in blocks]), encoder)
    return np.var(means, axis=0, dtype=np.float64) > threshold


def _finite(numbers: np.ndarray, *networks: Any) -> np.ndarray:
    """Returns what networks give for N images, [N, ...], if it and their weights are finite."""
    broken = ~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)
    # TensorFlow may fuse a layer with its ReLU, which makes a 0 of NaN on some processors.
    modules = [network for network in networks if isinstance(network, tf.Module)]
    weights = [w for module in modules for w in tf.Module.variables.fget(module)]
    if broken.any() or not all(np.isfinite(weight).all() for weight in weights):
        raise ValueError(
            "encoder, decoder and prior must be finite and give finite numbers, got NaN or infinity "
            f"for {broken.sum()} of {len(numbers)} images, as a training leaves them that went wrong"
        )
    return numbers
