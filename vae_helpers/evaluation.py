"""Held-out numbers: the ELBO's two terms, the codes, and which latents are used."""

import vae_helpers._quiet  # noqa: F401  # isort: skip  (before TensorFlow)

from typing import Any

import numpy as np
import pandas as pd
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

from vae_helpers import checks
from vae_helpers.data import check_images
from vae_helpers.objective import distortion, rate

tfd = tfp.distributions

_IMAGES_PER_CALL = 1000  # bounds the memory; no number depends on it but the draws of z


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
        ValueError: for an argument out of its range.
    """
    images = check_images(images)
    num_samples = checks.positive_integer("num_samples", num_samples)
    seed = checks.integer("seed", seed)
    rows = []
    for start, x in _chunks(images):
        q = encoder(x)
        distortions = [
            distortion(decoder(q.sample(seed=[seed, start * num_samples + k])), x)
            for k in range(num_samples)
        ]
        rows.append(tf.stack([rate(q, prior), tf.reduce_mean(distortions, axis=0)], axis=1))
    table = pd.DataFrame(np.concatenate(rows), columns=["rate", "distortion"], dtype=np.float64)
    return table.assign(elbo=-table["distortion"] - table["rate"])


def active_units(encoder: snt.Module, images: Any, threshold: float = 0.01) -> np.ndarray:
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
    means = [encoder(x).mean() for _, x in _chunks(check_images(images))]
    return np.var(np.concatenate(means), axis=0) > threshold


def _chunks(images: np.ndarray):
    for start in range(0, len(images), _IMAGES_PER_CALL):
        yield start, images[start : start + _IMAGES_PER_CALL]
