"""The encoder q(z|x), the decoder p(x|z) and the prior p(z) of the post."""

from vae_helpers._quiet import refuse_fork  # isort: skip  (before TensorFlow)

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

from vae_helpers.data import to_float
from vae_helpers.support import checks

tfd = tfp.distributions

# The square reaches exactly 0, where the KL is infinite and its gradient NaN: at
# initialization a blank image does that. This is added to every scale. The scales of the
# trained post's model lie between 0.04 and 1, 400 times as large; the KL of a scale of 0 is
# now about 9 nats a latent, and its gradient bounded.
SCALE_FLOOR = 1e-4


class Encoder(snt.Module):
    """Encoder models the variational q(z|x) as a factorized Gaussian.

    Its scale is `scale_fn` of a linear output, plus SCALE_FLOOR.

    Args:
        hidden_sizes: widths of the hidden layers; [] makes the encoder linear.
        latent_size: number of latents L.
        activation: nonlinearity of the hidden layers.
        scale_fn: link from a real number to a scale, e.g. tf.square (the
            post's), tf.exp or tf.nn.softplus.

    Raises:
        ValueError: if a size is not a positive integer, or a function none.

    Example:
        >>> q = Encoder(hidden_sizes=[100, 100], latent_size=10)(images)
        >>> q.sample().shape  # [N, L]
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int],
        latent_size: int,
        *,
        activation: Callable[[tf.Tensor], tf.Tensor] = tf.nn.relu,
        scale_fn: Callable[[tf.Tensor], tf.Tensor] = tf.square,
    ):
        super().__init__(name="encoder")
        hidden_sizes = checks.positive_integers("hidden_sizes", hidden_sizes)
        latent_size = checks.positive_integer("latent_size", latent_size)
        checks.function("activation", activation)
        checks.function("scale_fn", scale_fn)
        # What makes two encoders the same function of their weights (see training).
        self.architecture = (hidden_sizes, latent_size, activation, scale_fn)

        self._network = snt.Sequential(
            [
                snt.Flatten(),
                snt.nets.MLP(hidden_sizes, activation=activation, activate_final=True),
            ]
        )
        self._mu_linear = snt.Linear(latent_size)
        self._sigma_linear = snt.Linear(latent_size)  # Diagonal covariance matrix.
        self._scale_fn = scale_fn
        self._image_shape = None

    def __call__(self, x: Any) -> tfd.Normal:
        """Returns q(z|x) with batch shape [N, L] for images [N, H, W, C].

        Raises:
            ValueError: if `x` are not images (see `data.check_images`), or of
                another size than those of the first call.
        """
        x = to_float(x, "x")
        self._image_shape = self._image_shape or x.shape[1:]
        if x.shape[1:] != self._image_shape:
            raise ValueError(
                f"x must be images of shape {self._image_shape.as_list()}, as at the first call, "
                f"got {x.shape[1:].as_list()}"
            )
        embedding = self._network(x)
        mu = self._mu_linear(embedding)
        sigma = self._scale_fn(self._sigma_linear(embedding))
        return tfd.Normal(loc=mu, scale=sigma + SCALE_FLOOR)


class Decoder(snt.Module):
    """Decoder models p(x|z), by default as a Bernoulli a pixel.

    Args:
        hidden_sizes: widths of the hidden layers; [] makes the decoder linear.
        output_shape: shape of an image, e.g. [28, 28, 1].
        activation: nonlinearity of the hidden layers.
        likelihood: distribution of a pixel, built as likelihood(logits=...),
            e.g. tfd.Bernoulli (the post's) or tfd.ContinuousBernoulli.

    Raises:
        ValueError: if a size is not a positive integer, or a function none.

    Example:
        >>> p = Decoder(hidden_sizes=[100, 100], output_shape=[28, 28, 1])(z)
        >>> p.mean().shape  # [N, 28, 28, 1]
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int],
        output_shape: Sequence[int],
        *,
        activation: Callable[[tf.Tensor], tf.Tensor] = tf.nn.relu,
        likelihood: Callable[..., tfd.Distribution] = tfd.Bernoulli,
    ):
        super().__init__(name="decoder")
        hidden_sizes = checks.positive_integers("hidden_sizes", hidden_sizes)
        output_shape = checks.positive_integers("output_shape", output_shape)
        checks.function("activation", activation)
        checks.function("likelihood", likelihood)
        self.architecture = (hidden_sizes, output_shape, activation, likelihood)

        flat_output_shape = int(np.prod(output_shape))
        self._network = snt.Sequential(
            [
                snt.nets.MLP([*hidden_sizes, flat_output_shape], activation=activation),
                snt.Reshape(output_shape),
            ]
        )
        self._likelihood = likelihood
        self._latent_size = None

    def __call__(self, z: Any) -> tfd.Distribution:
        """Returns p(x|z) with batch shape [N, *output_shape] for codes [N, L].

        Raises:
            ValueError: if `z` are not finite numbers, or have another rank, or another
                latent size than at the first call.
        """
        z = _to_codes(z)
        self._latent_size = self._latent_size or z.shape[1]
        if z.shape[1] != self._latent_size:
            raise ValueError(
                f"z must have the shape [N, {self._latent_size}], got {z.shape.as_list()}"
            )
        return self._likelihood(logits=self._network(z))


def _to_codes(z: Any) -> tf.Tensor:
    """Converts codes to float32 [N, L], after checking what is known of them before they run."""
    refuse_fork()
    try:
        z = tf.convert_to_tensor(z, tf.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"z must be float32 [N, latent_size]: {error}") from error
    if z.shape.rank != 2 or z.shape[1] == 0:
        raise ValueError(f"z must have the shape [N, latent_size], got {z.shape.as_list()}")
    if not tf.is_symbolic_tensor(z) and not np.isfinite(z).all():
        raise ValueError(
            "z must be finite, got NaN or infinity, as an encoder gives whose training went wrong"
        )
    return z


def standard_normal(latent_size: int) -> tfd.Normal:
    """Returns the post's prior p(z), a standard normal of batch shape [latent_size].

    Raises:
        ValueError: if `latent_size` is not a positive integer.
    """
    latent_size = checks.positive_integer("latent_size", latent_size)
    return tfd.Normal(loc=tf.zeros(latent_size), scale=tf.ones(latent_size))
