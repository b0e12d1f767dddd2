"""The encoder q(z|x), the decoder p(x|z) and the prior p(z) of the post."""

from vae_helpers.data import to_float
from vae_helpers.support import checks, programs

import contextlib
import functools
import gc
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

# The square reaches exactly 0, where the KL is infinite and its gradient NaN: at
# initialization a blank image does that. This is added to every scale. The scales of the
# trained post's model lie between 0.04 and 1, 400 times as large; the KL of a scale of 0 is
# now about 9 nats a latent, and its gradient bounded.
SCALE_FLOOR = 1e-4

_UNSET = 87654321  # TensorFlow's DEFAULT_GRAPH_SEED: what it draws from if no seed is set
_ONE_AT_A_TIME = threading.RLock()  # threads share TensorFlow's generator and the programs


@contextlib.contextmanager
def weights_from(seed: int, *networks: tf.Module, anyway: bool = True) -> Iterator[None]:
    """Has the weights that are created inside drawn from a seed: the same in each run.

    Nothing is done if the networks have theirs. A seed that the reader has set with
    `tf.random.set_seed` comes first, unless `anyway`; where there was none, there is none after.
    """
    layers = [m for network in networks for m in network.submodules if isinstance(m, snt.Linear)]
    ready = networks and all(map(variables_of, networks)) and all(hasattr(m, "w") for m in layers)
    with _ONE_AT_A_TIME:
        unset = tf.compat.v1.get_seed(0)[0] == _UNSET
        if not ready and (unset or anyway):
            tf.random.set_seed(seed)
        try:
            yield
        finally:
            if not ready and unset:
                tf.random.set_seed(None)


class Encoder(snt.Module):
    """Encoder models the variational q(z|x) as a factorized Gaussian.

    Its scale is `scale_fn` of a linear output, plus SCALE_FLOOR. The weights are drawn at the
    first call: in `training.train` from its seed, elsewhere from that of `tf.random.set_seed`, or
    from 0 if there is none, so that two encoders of one size then begin alike.

    Args:
        hidden_sizes: widths of the hidden layers; [] makes the encoder linear.
        latent_size: number of latents L.
        activation: nonlinearity of the hidden layers.
        scale_fn: link from a real number to a scale, e.g. tf.square (the
            post's), tf.exp or tf.nn.softplus.

    Raises:
        ValueError: if a size is not a positive integer, or a function cannot be called.

    Example:
        >>> q = Encoder(hidden_sizes=[100, 100], latent_size=10)(images)
        >>> q.sample().shape  # [N, L]
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int],
        latent_size: int,
        activation: Callable[[tf.Tensor], tf.Tensor] = tf.nn.relu,
        scale_fn: Callable[[tf.Tensor], tf.Tensor] = tf.square,
    ):
        super().__init__(name="encoder")
        hidden_sizes = checks.positive_integers("hidden_sizes", hidden_sizes)
        latent_size = checks.positive_integer("latent_size", latent_size)
        _check_call("activation", activation, None)
        _check_call("scale_fn", scale_fn, None)

        self._network = snt.Sequential(
            [snt.Flatten(), snt.nets.MLP(hidden_sizes, activation=activation, activate_final=True)]
        )
        self._mu_linear = snt.Linear(latent_size)
        self._sigma_linear = snt.Linear(latent_size)  # Diagonal covariance matrix.
        self._scale_fn = scale_fn
        # What makes two encoders the same function of their weights, but for SCALE_FLOOR.
        self.architecture = hidden_sizes, latent_size, activation, scale_fn

    def __call__(self, x: Any) -> tfd.Normal:
        """Returns q(z|x) with batch shape [N, L] for images [N, H, W, C].

        Raises:
            ValueError: if `x` are not images (see `data.check_images`).
        """
        with weights_from(0, self, anyway=False):
            embedding = self._network(to_float(x, "x"))
            mu = self._mu_linear(embedding)
            sigma = self._scale_fn(self._sigma_linear(embedding))
        return tfd.Normal(loc=mu, scale=sigma + SCALE_FLOOR)


class Decoder(snt.Module):
    """Decoder models p(x|z), by default as a Bernoulli a pixel.

    The weights are drawn at the first call, as those of an `Encoder` are.

    Args:
        hidden_sizes: widths of the hidden layers; [] makes the decoder linear.
        output_shape: shape of an image, e.g. [28, 28, 1].
        activation: nonlinearity of the hidden layers.
        likelihood: distribution of a pixel, built as likelihood(logits=...),
            e.g. tfd.Bernoulli (the post's), tfd.ContinuousBernoulli, or
            lambda logits: tfd.Normal(logits, 0.1).

    Raises:
        ValueError: if a size is not a positive integer, if `activation` cannot be called,
            or if `likelihood` takes no logits.

    Example:
        >>> p = Decoder(hidden_sizes=[100, 100], output_shape=[28, 28, 1])(z)
        >>> p.mean().shape  # [N, 28, 28, 1]
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int],
        output_shape: Sequence[int],
        activation: Callable[[tf.Tensor], tf.Tensor] = tf.nn.relu,
        likelihood: Callable[..., tfd.Distribution] = tfd.Bernoulli,
    ):
        super().__init__(name="decoder")
        hidden_sizes = checks.positive_integers("hidden_sizes", hidden_sizes)
        output_shape = checks.positive_integers("output_shape", output_shape)
        _check_call("activation", activation, None)
        _check_call("likelihood", likelihood, logits=None)

        sizes = [*hidden_sizes, int(np.prod(output_shape))]
        self._network = snt.Sequential(
            [snt.nets.MLP(sizes, activation=activation), snt.Reshape(output_shape)]
        )
        self._likelihood = likelihood
        self.architecture = hidden_sizes, output_shape, activation, likelihood

    def __call__(self, z: Any) -> tfd.Distribution:
        """Returns p(x|z) with batch shape [N, *output_shape] for codes [N, L]."""
        with weights_from(0, self, anyway=False):
            logits = self._network(tf.convert_to_tensor(z, tf.float32))
        return self._likelihood(logits=logits)


def _check_call(name: str, function: Any, *args: Any, **kwargs: Any) -> None:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(f"{name} must be a function of {[*kwargs] or 'x'}: {error}") from error


def standard_normal(latent_size: int) -> tfd.Normal:
    """Returns the post's prior p(z), a standard normal of batch shape [latent_size].

    Raises:
        ValueError: if `latent_size` is not a positive integer.
    """
    latent_size = checks.positive_integer("latent_size", latent_size)
    return tfd.Normal(loc=tf.zeros(latent_size), scale=tf.ones(latent_size))


def copy_weights(source: tf.Module, target: tf.Module) -> None:
    """Copies the variables of a module to another of the same architecture, which has its own."""
    _assign(variables_of(target), variables_of(source))


@contextlib.contextmanager
def compiled(make: Callable, encoder: Any, decoder: Any, prior: Any, *images: Any) -> Iterator:
    """Lends the program `make(encoder, decoder, prior, *images)`, which may move the weights.

    Compiling takes seconds. So a program has networks and a prior of its own, and is lent to all
    models of their architecture: weights are copied in, and back in the end. A model with a
    function of the reader's own, whose globals and closures no key can tell, has a program to
    itself each time.

    Args:
        make: what compiles; the program must depend on nothing but its arguments.
        encoder, decoder, prior: a model that has its weights.
        images: what the program takes, each a TensorSpec [..., H, W, C].
    """
    with _ONE_AT_A_TIME:
        if not _is_shared(encoder, decoder, prior):
            yield make(encoder, decoder, prior, *images)
            return
        architectures = encoder.architecture, decoder.architecture, SCALE_FLOOR
        own, program = _kept(make, *architectures, (prior.loc.shape, prior.scale.shape), images)
        mine = variables_of(encoder, decoder)
        _assign(own, [*mine, prior.loc, prior.scale])
        try:
            yield program
        finally:
            _assign(mine, own[: len(mine)])


def _is_shared(encoder: Any, decoder: Any, prior: Any) -> bool:
    """Tells whether a model depends on nothing but its architecture, weights and prior's moments."""
    if (type(encoder), type(decoder), type(prior)) != (Encoder, Decoder, tfd.Normal):
        return False
    (hidden, _, *functions), (hidden_p, _, *more) = encoder.architecture, decoder.architecture
    num_weights = 2 * (len(hidden) + 2), 2 * (len(hidden_p) + 1)  # unless the reader has added some
    return (
        all(map(programs.is_tensorflows, functions + more))
        and (len(variables_of(encoder)), len(variables_of(decoder))) == num_weights
        and all(isinstance(moment, tf.Tensor) for moment in (prior.loc, prior.scale))
    )


@functools.lru_cache(maxsize=6)  # programs, some 15 MB each
def _kept(make, encoder_made_of, decoder_made_of, scale_floor, prior_shapes, images) -> tuple:
    """Returns the variables and the program of a model of its own; draws no weights."""
    gc.collect()  # programs that were let go: each is a cycle of references
    encoder, decoder = Encoder(*encoder_made_of), Decoder(*decoder_made_of)
    for layer in (*encoder.submodules, *decoder.submodules):
        if isinstance(layer, snt.Linear):
            layer.w_init = snt.initializers.Zeros()
    decoder(encoder(tf.zeros([1, *images[0].shape[-3:]])).loc)
    moments = [tf.Variable(tf.ones(shape), trainable=False) for shape in prior_shapes]
    program = make(encoder, decoder, tfd.Normal(*moments), *images)
    return variables_of(encoder, decoder) + moments, program


def variables_of(*networks: Any) -> list[tf.Variable]:
    """Returns the variables of networks; there are none before the first call."""
    modules = [network for network in networks if isinstance(network, tf.Module)]
    return [variable for m in modules for variable in tf.Module.variables.fget(m)]


def _assign(variables: list[tf.Variable], values: list) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
