"""The post's training loop, compiled: many steps a call."""

import vae_helpers._quiet  # noqa: F401  # isort: skip  (before TensorFlow)

import copy
import functools
import gc
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp

from vae_helpers import _memory
from vae_helpers.data import check_images, draw_pixels
from vae_helpers.models import Decoder, Encoder
from vae_helpers.objective import (
    averaged_beta,
    distortion,
    importance_weighted_bound,
    log_weight,
    original_loss,
    rate,
)
from vae_helpers.support import checks
from vae_helpers.support.progress import deferred_interrupts, progress_bar

tfd = tfp.distributions

STEPS_PER_CALL = 64
ACTIVE_VARIANCE = 0.01  # of a latent's posterior mean over images (Burda et al. 2016, section 5.2)
_IMAGES_FOR_ACTIVITY = 1000
_KEPT = 6  # programs
_LARGE = 4096  # elements; copying so many costs more than operations of their own

_INITIALIZATION = threading.Lock()  # all threads draw weights from one generator
_COMPILATION = threading.Lock()  # one at a time: each takes 90 MB while it lasts


class NonFiniteLossError(ArithmeticError):
    """Raised by `train` when a loss is NaN or infinite; `losses` holds the rows until then."""

    def __init__(self, message: str, losses: pd.DataFrame):
        super().__init__(message)
        self.losses = losses

    def __reduce__(self):  # which lets it come from another process
        return type(self), (str(self), self.losses)


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
    num_samples: int = 1,
    binarized: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Trains the encoder and the decoder in place, as the loop of the post does.

    Each step samples one z per image, averages the loss as `original_loss` does,
    and applies Adam, whose moments start at zero at each call. The images are
    those of `batch_indices`; z is drawn with TFP's stateless seed [seed, i], i
    being 0 at the first step. A model that has no weights yet is given them from
    `seed`, by way of `tf.random.set_seed`; one that has goes on from there. The
    same seed gives the same numbers, bit for bit.

    With `num_samples` k > 1 it maximizes the importance-weighted bound of k draws
    of z instead (Burda et al. 2016, equation 8), which is a bound at β = 1 alone.

    The steps run in an XLA program, compiled once for each architecture, batch
    size, image type and `num_samples`, in some 2 s; another model of the same
    sizes, another β, learning rate, seed or number of steps reuses it, in another
    thread at the same time, too. The last six programs are kept.

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
        num_samples: draws of z per image, k; above 1, the effective β must be 1.
        binarized: whether to draw each pixel anew, as `data.binarize` does, each
            time that a step takes its image.
        seed: of initial weights, shuffles and samples.
        progress: whether to show a progress bar.

    Returns:
        One row a step: `step` from 1; `total`, `kl` and `reconstruction` as the
        post names and averages them; `rate` and `distortion`, their sums in nats
        per image. With `num_samples` > 1 the last four are means over the draws,
        and `total` is the negative bound in nats per pixel, which is at most their
        sum. An interrupt returns the rows so far, with the weights after the last of
        them, and sets `.attrs["interrupted"]`.

    Raises:
        ValueError: for an argument out of its range. Nothing is trained, but a model
            without weights may have been given them.
        NonFiniteLossError: if a loss stops being finite, or the weights after the last
            step are not. It says the step, the term and the likely cause, and holds the
            rows so far; the weights are those that gave the loss.

    Warns:
        UserWarning: if no latent is active in the end (see `evaluation.active_units`).
    """
    images = check_images(images)
    batch_size = checks.positive_integer("batch_size", batch_size)
    if batch_size > len(images):
        raise ValueError(
            f"batch_size must be at most the number of images, {len(images)}, got {batch_size}"
        )
    beta = checks.number("beta", beta)
    learning_rate = checks.number("learning_rate", learning_rate, positive=True)
    training_steps = checks.positive_integer("training_steps", training_steps)
    num_samples = checks.positive_integer("num_samples", num_samples)
    if not isinstance(binarized, bool):
        raise ValueError(f"binarized must be True or False, got {binarized!r}")
    seed = checks.integer("seed", seed)

    with _INITIALIZATION:
        seed_new_weights(encoder, decoder, seed)
        latent_size = check_model(encoder, decoder, prior, images[:1])
    one = averaged_beta(1.0, images[0].size, latent_size)
    if num_samples > 1 and not np.isclose(beta, one):
        raise ValueError(
            f"beta must be {one:.8g}, an effective β of 1, with num_samples > 1, got {beta}"
        )
    batch_shape = [STEPS_PER_CALL, batch_size, *images.shape[1:]]
    batches_spec = tf.TensorSpec(batch_shape, np.uint8 if binarized else images.dtype)
    steps = compiled(_CompiledSteps, encoder, decoder, prior, batches_spec, num_samples)
    finished, finite = 0, True
    calls = _calls(images, batch_size, training_steps, binarized, seed)
    with (
        deferred_interrupts() as interrupts,
        ThreadPoolExecutor(1) as loader,
        progress_bar(training_steps, progress) as bar,
    ):
        networks = steps.start(Networks(encoder, decoder))
        variables = steps.given(networks)
        terms = [np.empty([0, steps.num_terms], np.float32)]
        try:
            following = loader.submit(next, calls, None)
            while finite and not interrupts and (call := following.result()):
                following = loader.submit(next, calls, None)  # while these are trained on
                count, x = call
                numbers = map(tf.constant, (finished, count, seed, beta, learning_rate))
                done, finite, chunk = (t.numpy() for t in steps.run(variables, prior, x, *numbers))
                terms.append(chunk[:done])
                finished += int(done)
                bar.update(done)
                bar.set_postfix_str("rate {:.1f}, distortion {:.1f} nats".format(*terms[-1][-1]))
        except KeyboardInterrupt as interrupt:
            interrupts.append(interrupt)  # the rows so far are the answer
        finally:
            copy_variables((networks.encoder, networks.decoder), (encoder, decoder))

    losses = loss_table(np.concatenate(terms), beta, images[0].size, latent_size)
    losses.attrs["interrupted"] = bool(interrupts)
    check_end((encoder, decoder), images, losses, finite, beta, learning_rate)
    return losses


def _calls(
    images: np.ndarray, batch_size: int, training_steps: int, binarized: bool, seed: int
) -> Iterator[tuple[int, tf.Tensor]]:
    """Yields how many steps each call of the program takes, and their batches [S, B, H, W, C]."""
    indices = batch_indices(len(images), batch_size, seed)
    pixels = np.random.default_rng([seed, 1])
    for first in range(0, training_steps, STEPS_PER_CALL):
        count = min(STEPS_PER_CALL, training_steps - first)
        x = np.zeros([STEPS_PER_CALL, batch_size, *images.shape[1:]], images.dtype)
        for i in range(count):
            x[i] = images[next(indices)]
        yield count, tf.constant(draw_pixels(x, pixels) if binarized else x)


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
    num_images = checks.positive_integer("num_images", num_images)
    batch_size = checks.positive_integer("batch_size", batch_size)
    seed = checks.integer("seed", seed)
    if batch_size > num_images:
        raise ValueError(
            f"batch_size must be at most the number of images, {num_images}, got {batch_size}"
        )
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(num_images)
        for i in range(0, num_images - batch_size + 1, batch_size):
            yield order[i : i + batch_size]


class Networks(tf.Module):
    """An encoder and a decoder, with `.variables` of both: each once, and always in one order."""

    def __init__(self, encoder: Any, decoder: Any):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder


class Program:
    """A compiled function of networks.

    Args:
        networks: what it is compiled with.
        shared: whether it takes the variables of networks as an argument, so that all of one
            architecture can use it, side by side, too. Else those of `networks` are built in.
    """

    def __init__(self, networks: Networks, shared: bool):
        self.networks, self.shared = networks, shared

    def given(self, networks: Networks) -> Sequence[tf.Variable]:
        """Returns the variables that the function takes of these networks, or copies of them."""
        if not self.shared:
            return ()
        # A replicated one would be built into the function: a copy is enough to read.
        replicated = tf.distribute.DistributedValues
        return [tf.Variable(v) if isinstance(v, replicated) else v for v in networks.variables]

    def with_given(self, variables: Sequence[tf.Variable]) -> Networks:
        """Returns networks that are made of the variables that the function was given."""
        if not self.shared:
            return self.networks
        own = map(id, self.networks.variables)
        return copy.deepcopy(self.networks, dict(zip(own, variables, strict=True)))


def copied(networks: Networks) -> Networks:
    """Copies networks; of replicated weights it makes plain ones."""
    plain = {id(v): tf.Variable(v, trainable=v.trainable) for v in networks.variables}
    return copy.deepcopy(networks, plain)


class _Trained(Networks):
    """Networks with what Adam keeps of them."""

    def __init__(self, encoder: snt.Module, decoder: snt.Module):
        super().__init__(encoder, decoder)
        weights = encoder.trainable_variables + decoder.trainable_variables
        self.large = [w for w in weights if w.shape.num_elements() >= _LARGE]
        self.small = [w for w in weights if w.shape.num_elements() < _LARGE]
        # One vector of the small ones: fewer operations to compile, and to keep in memory.
        self.flat = tf.Variable(_flattened(self.small))
        self.optimizer = snt.optimizers.Adam()
        # Sonnet creates the moments at the first use, which must not be inside the program.
        self.apply([tf.zeros_like(weight) for weight in (*self.large, self.flat)])
        self.optimizer.step.assign(0)

    def gradients(self, tape: tf.GradientTape, loss: tf.Tensor) -> list[tf.Tensor]:
        """Computes what `apply` takes."""
        unused = tf.UnconnectedGradients.ZERO  # for a weight that the loss does not depend on
        large, small = tape.gradient(loss, (self.large, self.small), unconnected_gradients=unused)
        return [*large, _flattened(small)]

    def apply(self, gradients: Sequence[tf.Tensor]) -> None:
        """Takes a step."""
        self.optimizer.apply(gradients, [*self.large, self.flat])
        sizes = [0, *(w.shape.num_elements() for w in self.small)]  # not none, for tf.split
        for weight, value in zip(self.small, tf.split(self.flat, sizes)[1:], strict=True):
            weight.assign(tf.reshape(value, weight.shape))


class _CompiledSteps(Program):
    """The training steps of the post, in one XLA program."""

    def __init__(
        self,
        encoder: snt.Module,
        decoder: snt.Module,
        prior: tfd.Distribution,
        batches: tf.TensorSpec,
        num_samples: int,
        shared: bool,
    ):
        super().__init__(_Trained(encoder, decoder), shared)
        self.num_samples = num_samples
        # Rate, distortion and, with several samples, the bound with the sign changed.
        self.num_terms = 2 if num_samples == 1 else 3
        integer, real = tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)
        given = self.given(self.networks)
        # AutoGraph is not needed, and warns of lambdas that it cannot read.
        self.run = tf.function(
            self._steps, jit_compile=True, autograph=False
        ).get_concrete_function(given, prior, batches, integer, integer, integer, real, real)
        # No steps: TensorFlow compiles at the first call.
        x = tf.zeros(batches.shape, batches.dtype)
        self.run(given, prior, x, *map(tf.constant, (0, 0, 0, 0.0, 0.0)))

    def start(self, networks: Networks) -> _Trained:
        """Returns networks to train, which have the weights of these."""
        if not self.shared:
            return self.networks
        plain = copied(networks)
        return _Trained(plain.encoder, plain.decoder)

    def _step(self, networks, prior, x, seed, beta, learning_rate) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes one step on the batch x, unless its loss is not finite.

        Returns whether it is, and its terms (see `loss_table`) averaged over the batch.
        """
        num_pixels = x.shape[1:].num_elements()
        with tf.GradientTape() as tape:
            # Encode & decode to create the output distribution.
            q = networks.encoder(x)
            if self.num_samples == 1:
                z = q.sample(seed=seed)
                p = networks.decoder(z)
                # loss = -ELBO = KL(q(z|x) || p(z)) - log p(x|z), averaged as in the post
                terms = [tf.reduce_mean(rate(q, prior)), tf.reduce_mean(distortion(p, x))]
                loss, _, _ = original_loss(
                    *terms, beta=beta, num_pixels=num_pixels, latent_size=z.shape[-1]
                )
            else:
                z = q.sample(self.num_samples, seed=seed)  # [k, B, L]
                p = networks.decoder(tf.reshape(z, [-1, z.shape[-1]]))
                distortions = distortion(p, tf.tile(x, [self.num_samples, 1, 1, 1]))
                distortions = tf.reshape(distortions, z.shape[:2])
                bound = importance_weighted_bound(log_weight(q, prior, distortions, z))
                terms = [rate(q, prior), distortions, -bound]
                terms = [tf.reduce_mean(term) for term in terms]
                loss = terms[-1] / num_pixels
        finite = tf.math.is_finite(loss)
        # Zeros instead of a branch, which XLA could not fuse with what is around it.
        gradients = networks.gradients(tape, loss)
        networks.optimizer.learning_rate = tf.where(finite, learning_rate, 0.0)
        networks.apply([tf.where(finite, g, tf.zeros_like(g)) for g in gradients])
        return finite, tf.stack(terms)

    def _steps(
        self, variables, prior, x, first, count, seed, beta, learning_rate
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Takes `count` steps on the batches x [S, B, H, W, C], fewer if a loss is not finite.

        Returns how many, whether the last loss was finite, and the terms of each,
        [S, 2 or 3] in nats per image.
        """
        networks = self.with_given(variables)

        def body(i, finite, terms):
            step_seed = tf.stack([seed, first + i])
            finite, term = self._step(networks, prior, x[i], step_seed, beta, learning_rate)
            return i + 1, finite, terms.write(i, term)

        terms = tf.TensorArray(tf.float32, size=STEPS_PER_CALL, element_shape=[self.num_terms])
        i, finite, terms = tf.while_loop(
            lambda i, finite, terms: finite & (i < count), body, (0, True, terms)
        )
        return i, finite, terms.stack()


def compiled(
    make: Callable,
    encoder: Any,
    decoder: Any,
    prior: Any,
    images: tf.TensorSpec,
    *options: Hashable,
) -> Program:
    """Returns a program for these networks and images, one that was compiled before if it fits.

    Models of the package's classes share one if they are of one architecture. Others have a
    program of their own.

    Args:
        encoder, decoder: with their weights.
        make: compiles, called as `make(encoder, decoder, prior, images, *options, shared)`.
        images: what the program takes, [..., H, W, C].
    """
    ours = (type(encoder), type(decoder), type(prior)) == (Encoder, Decoder, tfd.Normal)
    if not ours or prior.loc.shape != prior.scale.shape:  # tfd.Normal(tf.zeros(L), 1.0), say
        return make(encoder, decoder, prior, images, *options, False)
    key = make, encoder.architecture, decoder.architecture, images, *options
    kept = _kept_programs(*key)
    if not kept:
        with _COMPILATION:
            kept = _kept_programs(*key)
            if not kept:  # still, after others have compiled
                if _kept_programs.cache_info().currsize == _KEPT:
                    gc.collect()  # frees what was let go, in 0.2 s
                _memory.release()  # compiling takes 90 MB for a moment
                # Copies, since new networks would draw weights from the generator that the caller
                # draws from.
                own = copied(Networks(encoder, decoder))
                kept.append(make(own.encoder, own.decoder, prior, images, *options, True))
                _memory.release()
    return kept[0]


@functools.lru_cache(maxsize=_KEPT)
def _kept_programs(*key: Hashable) -> list[Program]:
    """Keeps the program of one kind, once it is compiled.

    One that is let go gives back some 10 of its 25 MB; the rest stays with TensorFlow.
    """
    return []


def _flattened(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Lays tensors end to end, [the number of all their elements]."""
    return tf.concat([tf.zeros([0]), *(tf.reshape(tensor, [-1]) for tensor in tensors)], axis=0)


def seed_new_weights(encoder: snt.Module, decoder: snt.Module, seed: int) -> None:
    """Sets TensorFlow's seed, from which weights are drawn, unless the networks have theirs.

    Raises:
        ValueError: if one of them is not a module.
    """
    for name, module in {"encoder": encoder, "decoder": decoder}.items():
        if not isinstance(module, tf.Module):
            raise ValueError(f"{name} must be a module of Sonnet, got {module!r}")
    # Sonnet's own property refuses to be asked before the first call.
    if not any(tf.Module.variables.fget(module) for module in (encoder, decoder)):
        tf.random.set_seed(seed)


def copy_variables(source: Any, target: Any) -> None:
    """Copies the weights of modules to others of the same sizes.

    Args:
        source, target: (encoder, decoder), each with its weights.

    Raises:
        ValueError: if they have other numbers or shapes of weights.
    """
    pairs = list(zip(source, target, strict=True))
    for a, b in pairs:
        sizes, others = ([v.shape.as_list() for v in module.variables] for module in (a, b))
        if sizes != others:
            raise ValueError(f"target must have weights of the shapes {sizes}, got {others}")
    for a, b in pairs:
        for mine, yours in zip(a.variables, b.variables, strict=True):
            yours.assign(mine)


def check_model(encoder, decoder, prior, image) -> int:
    """Runs one image through, which creates the weights.

    Args:
        encoder, decoder, prior: as `train` takes them.
        image: [1, H, W, C], uint8 or floats in [0, 1].

    Returns:
        The latent size L.

    Raises:
        ValueError: if a network is no function or returns no distribution; if `prior` or the
            image that `decoder` makes has another size.
    """
    q = checks.called("encoder", encoder, image)
    rate(q, prior)
    z = q.sample(seed=[0, 0])
    distortion(checks.called("decoder", decoder, z), image)
    return z.shape[-1]


def loss_table(terms: np.ndarray, beta: float, num_pixels: int, latent_size: int) -> pd.DataFrame:
    """Makes the table that `train` returns.

    Args:
        terms: [S, 2], rate and distortion of each step, or [S, 3] with the bound of several
            samples, its sign changed; means over the batch, in nats per image.
        beta, num_pixels, latent_size: as `original_loss` takes them.
    """
    rates, distortions, *bounds = terms.astype(np.float64).T
    total, kl, reconstruction = original_loss(
        rates, distortions, beta=beta, num_pixels=num_pixels, latent_size=latent_size
    )
    if bounds:
        total = bounds[0] / num_pixels
    return pd.DataFrame(
        {
            "step": np.arange(1, len(terms) + 1),
            "total": total,
            "kl": kl,
            "reconstruction": reconstruction,
            "rate": rates,
            "distortion": distortions,
        }
    )


def check_end(
    networks: tuple[snt.Module, snt.Module],
    images: np.ndarray,
    losses: pd.DataFrame,
    finite: bool,
    beta: float,
    learning_rate: float,
) -> None:
    """Says after a training what went wrong, if anything did.

    Args:
        networks: the encoder and the decoder that were trained.
        images: [N, H, W, C], those that they were trained on.
        losses: the table of `loss_table`.
        finite: whether the last loss is.
        beta, learning_rate: for the likely cause.

    Raises:
        NonFiniteLossError: if the last loss or a weight is not finite.

    Warns:
        UserWarning: if no latent is active, which is a collapsed posterior, mostly.
    """
    if not finite:
        raise NonFiniteLossError(_diagnosis(losses.iloc[-1], learning_rate, beta), losses)
    weights = [*networks[0].trainable_variables, *networks[1].trainable_variables]
    if not all(np.isfinite(weight).all() for weight in weights):
        raise NonFiniteLossError(
            f"the weights are not finite after step {len(losses)}. {_cause(learning_rate, beta)}",
            losses,
        )
    if len(losses) < STEPS_PER_CALL:  # few latents are active yet
        return
    means = networks[0](images[:_IMAGES_FOR_ACTIVITY]).mean()
    if np.var(means, axis=0).max() <= ACTIVE_VARIANCE:
        one = averaged_beta(1.0, images[0].size, means.shape[-1])
        warnings.warn(
            f"none of the {means.shape[-1]} latents is active after these {len(losses)} steps: the "
            "code of an image is that of any other (posterior collapse, if the rate is near 0). "
            f"Likely causes are a beta too large, {beta:g} where an effective β of 1 is {one:.3g}; "
            f"a learning_rate too large, {learning_rate:g}; or images that are all alike.",
            stacklevel=3,
        )


def _diagnosis(row: pd.Series, learning_rate: float, beta: float) -> str:
    terms = ["rate", "distortion", "total"]
    term = next((t for t in terms if not np.isfinite(row[t])), "total")
    found = (
        f"the {term} is {row[term]} at step {row['step']:.0f} (rate {row['rate']:g}, distortion "
        f"{row['distortion']:g} nats). "
    )
    if row["step"] == 1:  # nothing was trained before it
        if term == "total" and beta > 1:
            return f"{found}The likely cause is the beta: try one below {beta:g}."
        return (
            f"{found}The likely cause is in encoder, decoder or prior, as they were given. "
            "Make them anew."
        )
    return found + _cause(learning_rate, beta)


def _cause(learning_rate: float, beta: float) -> str:
    return (
        "The likely cause is a step size that threw the weights out of range: try a learning_rate "
        f"below {learning_rate:g}"
        + (f" or a beta below {beta:g}" if beta > 1 else "")
        + ", on freshly made networks. The rows until then are in the attribute losses."
    )
