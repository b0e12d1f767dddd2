"""The two terms of the ELBO, the post's average of them, and importance weights.

ELBO(x) = E_q[log p(x|z)] - KL(q(z|x) || p(z)) = -distortion - rate (Kingma and
Welling 2014, equation 3; rate and distortion as named by Alemi et al. 2018).
"""

from vae_helpers.data import to_float
from vae_helpers.models import tfd
from vae_helpers.support import checks

from typing import Any

import tensorflow as tf


def rate(q: tfd.Distribution, prior: tfd.Distribution) -> tf.Tensor:
    """Computes KL(q(z|x) || p(z)), summed over the latents.

    Args:
        q: approximate posterior of N images, batch shape [N, L], or [N] with the
            event shape [L].
        prior: p(z), batch shape [L], or [] with the event shape [L].

    Returns:
        [N], nats per image, in closed form.

    Raises:
        ValueError: if `prior` is not of the shape that `q` has for each image.
        NotImplementedError: from TFP, if it has no closed form for the pair.
    """
    if (prior.batch_shape, prior.event_shape) != (q.batch_shape[1:], q.event_shape):
        raise ValueError(
            "prior must have the shapes that q has for an image, batch "
            f"{q.batch_shape[1:]} and event {q.event_shape}, got batch {prior.batch_shape} and "
            f"event {prior.event_shape}: models.standard_normal fits a factorized q"
        )
    kl = q.kl_divergence(prior)
    return tf.reduce_sum(kl, axis=list(range(1, kl.shape.rank)))


def distortion(p: tfd.Distribution, x: Any) -> tf.Tensor:
    """Computes -log p(x|z), summed over the pixels.

    Its mean over z ~ q(z|x) is the ELBO's first term with the sign changed. For
    gray levels under a Bernoulli it is a cross-entropy, not a likelihood.

    Args:
        p: p(x|z) of N codes, batch shape [N, H, W, C]; or some of these axes in
            its event shape.
        x: images [N, H, W, C], uint8 or floats in [0, 1].

    Returns:
        [N], nats per image.

    Raises:
        ValueError: if `x` are not images, or not of the shape of `p`.
    """
    x = to_float(x, "x")
    if x.shape != p.batch_shape + p.event_shape:
        raise ValueError(
            f"x must have the shape of p, {p.batch_shape + p.event_shape}, got {x.shape}"
        )
    if isinstance(p, tfd.Bernoulli) and p.logits is not None:
        # The post's own expression: one softplus a pixel, where log_prob takes two.
        pixels = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=p.logits)
    else:
        pixels = -p.log_prob(x)
    # Summed as a product with ones, which XLA does in a fraction of the time of its own sum.
    pixels = tf.reshape(pixels, [-1, pixels.shape[1:].num_elements()])
    return tf.linalg.matvec(pixels, tf.ones([pixels.shape[1]]))


def check_model(encoder: Any, decoder: Any, prior: Any, image: Any) -> None:
    """Runs one image [1, H, W, C] through, which creates the weights that are not there yet.

    Raises:
        ValueError: if one does not fit the other, or is not what TFP calls a distribution.
    """
    q = _distribution("what encoder returns", encoder(to_float(image)))
    rate(q, _distribution("prior", prior))
    distortion(_distribution("what decoder returns", decoder(q.sample(seed=[0, 0]))), image)


def _distribution(name: str, value: Any) -> tfd.Distribution:
    if not isinstance(value, tfd.Distribution):
        raise ValueError(f"{name} must be a distribution of TFP, got a {type(value).__name__}")
    return value


def log_density(distribution: tfd.Distribution, z: tf.Tensor) -> tf.Tensor:
    """Computes the log density of codes [..., L], summed over latents that are independent.

    Args:
        distribution: over codes: batch shape [..., L], or [...] with the event shape [L].
        z: codes [..., L].

    Returns:
        [...], nats.

    Raises:
        InvalidArgumentError: if `z` has another latent size, which would be broadcast.
    """
    size = (distribution.batch_shape + distribution.event_shape)[-1:]
    density = distribution.log_prob(tf.ensure_shape(z, z.shape[:-1] + size))
    return density if distribution.event_shape.rank else tf.reduce_sum(density, axis=-1)


def log_weight(
    q: tfd.Distribution, prior: tfd.Distribution, distortion: tf.Tensor, z: tf.Tensor
) -> tf.Tensor:
    """Computes log w = log p(x|z) + log p(z) - log q(z|x), the log importance weight of a code.

    The mean of w over z ~ q is the evidence p(x), that of log w the ELBO.

    Args:
        q: approximate posterior of N images, batch shape [N, L] (or [N]).
        prior: p(z), batch shape [L] (or []).
        distortion: -log p(x|z) of these codes, [..., N], nats.
        z: codes [..., N, L].

    Returns:
        [..., N], nats.

    Raises:
        InvalidArgumentError: if `z` has another latent size than `q` or `prior`, or other numbers
            of draws or images than `distortion`.
    """
    distortion = tf.ensure_shape(distortion, z.shape[:-1])  # else it would be broadcast
    return log_density(prior, z) - log_density(q, z) - distortion


def original_loss(
    rate: Any, distortion: Any, *, beta: float, num_pixels: int, latent_size: int
) -> tuple[Any, Any, Any]:
    """Averages the two terms as the post does: the rate over latents, the distortion over pixels.

    Args:
        rate, distortion: nats per image, numbers or arrays of one shape.
        beta: the post's weight of the averaged KL.
        num_pixels, latent_size: what the post's means divide by.

    Returns:
        (total, kl, reconstruction), each of that shape, with
        total = reconstruction + beta * kl.
    """
    kl, reconstruction = rate / latent_size, distortion / num_pixels
    return reconstruction + beta * kl, kl, reconstruction


def effective_beta(beta: float, num_pixels: int, latent_size: int) -> float:
    """Computes the weight of the rate in D + β R that the post's averaged β amounts to.

    Args:
        beta: weight of the KL averaged over latents, against the cross-entropy
            averaged over pixels.
        num_pixels, latent_size: what the two averages divide by.

    Raises:
        ValueError: if `beta` is negative or not finite, or a size not a
            positive integer.

    Example:
        >>> effective_beta(0.01, num_pixels=784, latent_size=10)
        0.784
    """
    num_pixels = checks.positive_integer("num_pixels", num_pixels)
    latent_size = checks.positive_integer("latent_size", latent_size)
    return checks.number("beta", beta) * num_pixels / latent_size


def averaged_beta(effective_beta: float, num_pixels: int, latent_size: int) -> float:
    """Computes the post's β from the weight of the rate in D + β R: `effective_beta` undone.

    Raises:
        ValueError: as `effective_beta`.

    Example:
        >>> averaged_beta(1.0, num_pixels=784, latent_size=10)
        0.012755102040816327
    """
    num_pixels = checks.positive_integer("num_pixels", num_pixels)
    latent_size = checks.positive_integer("latent_size", latent_size)
    return checks.number("effective_beta", effective_beta) * latent_size / num_pixels
