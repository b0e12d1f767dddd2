"""Every public function, given whatever: a result in its range, or an error that names an argument.

Examples are the same in each run. What compiles an XLA program is tried on few of them, all of
one architecture.
"""

import base64
import contextlib
import functools
import json
import numbers
import re
from fractions import Fraction

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from vae_helpers import checks, elbo, evaluation, training
from vae_helpers.claims import claim
from vae_helpers.data import binarize, check_images, load_images, to_float
from vae_helpers.evaluation import active_units, evaluate, log_likelihood, mutual_information
from vae_helpers.explorers.latents import latent_explorer
from vae_helpers.models import SCALE_FLOOR, Decoder, Encoder, standard_normal
from vae_helpers.objective import (
    averaged_beta,
    distortion,
    effective_beta,
    importance_weighted_bound,
    log_density,
    log_weight,
    original_loss,
    rate,
)
from vae_helpers.explorers.page import encoded
from vae_helpers.plots import plot_losses, plot_reconstructions, plot_tiles
from vae_helpers.training import NonFiniteLossError, batch_indices, loss_table, train
from vae_helpers.traversals import interpolate, plane, quantiles, rows, tile

tfd = tfp.distributions

settings.register_profile("same", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("same")

# What callers may pass.

SIZES = st.integers(1, 6)
SEEDS = st.integers(0, 2**31 - 1)
POSITIVE = st.floats(2.0**-126, 2.0**127, width=32)
REALS = st.floats(-(2.0**100), 2.0**100, width=32)
FLOATS = st.sampled_from([np.float16, np.float32, np.float64])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.complex_numbers(),
    st.fractions(),
    st.text(max_size=3),
)
ARRAYS = st.one_of(
    hnp.scalar_dtypes(), st.sampled_from([np.uint8, np.float32]).map(np.dtype)
).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)
    )
)
ANYTHING = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.lists(st.lists(st.floats(), max_size=3), max_size=3),
    st.dictionaries(SCALARS, SCALARS, max_size=2),
    ARRAYS,
    st.tuples(ARRAYS, ARRAYS),
)


def pixels(shape) -> st.SearchStrategy[np.ndarray]:
    """Gray levels of one of the types that are taken."""
    floats = FLOATS.flatmap(
        lambda dtype: hnp.arrays(dtype, shape, elements=st.floats(0, 1, width=16))
    )
    return hnp.arrays(np.uint8, shape) | floats


IMAGES = st.tuples(SIZES, SIZES, SIZES, st.integers(1, 3)).flatmap(pixels)


def named(call, *names: str):
    """Returns what a call gives, or None if it raises a ValueError about one of these arguments."""
    try:
        return call()
    except ValueError as error:
        assert re.match(rf"({'|'.join(names)})\b.* must ", str(error)), error
        return None


class Reached(Exception):
    """Raised in the place of work that is not to be done."""


@contextlib.contextmanager
def nothing_done(place, name: str, valid: bool = True):
    """Replaces the function that follows the checks of arguments, which stop what is not valid."""

    def reached(*_, **__):
        raise Reached

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, reached)
        try:
            yield
        except Reached:
            assert valid


CHECKS = {
    "images": lambda name, value: check_images(value, name),
    "beta": checks.number,
    "learning_rate": functools.partial(checks.number, positive=True),
    "threshold": checks.number,
    "seed": checks.integer,
    "batch_size": checks.positive_integer,
    "num_images": checks.positive_integer,
    "training_steps": checks.positive_integer,
    "num_samples": checks.positive_integer,
    "latent_size": checks.positive_integer,
    "hidden_sizes": checks.positive_integers,
}


def is_valid(name: str, value) -> bool:
    return named(lambda: CHECKS[name]("x", value), r"x(\[\d\])?") is not None


# Arguments.


@given(SCALARS | ANYTHING)
def test_a_checked_number_is_one_that_a_program_holds(value):
    if (size := named(lambda: checks.positive_integer("n", value), "n")) is not None:
        assert type(size) is int and size == value and value is not True and np.int32(size) > 0
    if (seed := named(lambda: checks.integer("n", value), "n")) is not None:
        assert type(seed) is int and seed == value and np.int32(seed) >= 0
        assert not isinstance(value, bool)
    for positive in (False, True):
        number = named(lambda: checks.number("n", value, positive=positive), "n")  # noqa: B023
        if number is not None:
            assert type(number) is float and np.isfinite(np.float32(number))
            assert number == float(value) and not isinstance(value, bool)
            assert np.float32(number) > 0 if positive else number >= 0
    sizes = named(lambda: checks.positive_integers("n", value), r"n(\[\d\])?")
    assert sizes is None or all(size > 0 for size in sizes)


@given(POSITIVE, st.integers(1, 2**31 - 1))
def test_numbers_in_range_are_taken(real, size):
    assert checks.number("n", real, positive=True) == checks.number("n", Fraction(real)) == real
    assert checks.positive_integer("n", np.int64(size)) == checks.integer("n", size) == size


@given(st.booleans(), st.text(max_size=9))
def test_a_claim_fails_if_it_is_false(condition, claim):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAE_STRICT", "1")
        with contextlib.nullcontext() if condition else pytest.raises(AssertionError):
            check(condition, claim)


# Images.


@given(ANYTHING | ARRAYS.map(lambda images: {"image": images}))
def test_what_is_no_image_is_named(given_):
    taken = named(lambda: check_images(given_, "x"), "x")
    assert (taken is None) == (named(lambda: to_float(given_, "x"), "x") is None)
    assert (taken is None) == (named(lambda: binarize(given_), "images") is None)
    if taken is not None:
        assert taken.ndim == 4 and taken.size and taken.dtype in (np.uint8, np.float32)


@given(IMAGES, SEEDS)
def test_every_image_is_taken(images, seed):
    x = to_float(images)
    high = 255 if images.dtype == np.uint8 else 1
    assert x.dtype == tf.float32
    np.testing.assert_allclose(x, images.astype(np.float64) / high, rtol=1e-6)
    for same in (tf.constant(images), {"image": tf.constant(images)}):
        np.testing.assert_array_equal(to_float(same), x)
    drawn = binarize(images, seed)
    assert drawn.dtype == np.uint8 and drawn.shape == images.shape
    assert set(np.unique(drawn)) <= {0, 255}
    assert not drawn[images == 0].any() and np.all(drawn[images == high] == 255)
    np.testing.assert_array_equal(drawn, binarize(images, seed))


BORDERS = st.none() | st.integers(-10_100, 10_100)


@settings(max_examples=8)
@given(BORDERS, BORDERS)
def test_a_slice_of_a_split_is_that_of_python(images, start, stop):
    split = "test[{}:{}]".format(*("" if i is None else i for i in (start, stop)))
    loaded = named(lambda: load_images("mnist", split), "split")
    if loaded is not None:
        np.testing.assert_array_equal(loaded[0], images[slice(start, stop)])


@settings(max_examples=20)
@given(st.text("tes[]:+%-0 ", max_size=12) | SCALARS.filter(lambda value: value != "test"))
def test_what_is_no_split_is_named(split):
    assert named(lambda: load_images("mnist", split), "split") is None


# Networks.


@settings(max_examples=20)
@given(IMAGES, st.lists(SIZES, max_size=2), SIZES, ANYTHING)
def test_networks_of_any_size_give_finite_distributions(images, hidden_sizes, latent_size, bad):
    encoder = Encoder(hidden_sizes, latent_size)
    decoder, prior = Decoder(hidden_sizes, images.shape[1:]), standard_normal(latent_size)
    with contextlib.suppress(ValueError):
        decoder(bad)
        decoder = Decoder(hidden_sizes, images.shape[1:])
    q = encoder(images)
    assert q.batch_shape == (len(images), latent_size)
    assert np.isfinite(q.loc).all() and np.all(q.scale >= SCALE_FLOOR)
    p = decoder(q.sample())
    assert p.batch_shape == images.shape
    assert np.all(rate(q, prior) > 0)
    assert np.isfinite(distortion(p, images)).all()


@given(ANYTHING | hnp.arrays(np.float32, (2, 2)))
def test_what_is_no_code_is_named(z):
    p = named(lambda: Decoder([], [1, 1, 1])(z), "z")
    assert p is None or (np.isfinite(z).all() and np.isfinite(p.logits).all())


@given(ANYTHING)
def test_what_is_no_size_is_named(size):
    valid = is_valid("latent_size", size)
    assert (named(lambda: Encoder([], size), "latent_size") is not None) == valid
    if not valid or size < 10**4:
        assert (named(lambda: standard_normal(size), "latent_size") is not None) == valid
    valid = is_valid("hidden_sizes", size)
    assert (named(lambda: Encoder(size, 1), r"hidden_sizes(\[\d\])?") is not None) == valid
    assert (named(lambda: Decoder(size, [1]), r"hidden_sizes(\[\d\])?") is not None) == valid
    assert (named(lambda: Decoder([], size), r"output_shape(\[\d\])?") is not None) == valid


# The objective.

CODES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)


@given(
    CODES.flatmap(
        lambda shape: st.tuples(
            hnp.arrays(np.float32, shape, elements=st.floats(-1e3, 1e3, width=32)),
            hnp.arrays(np.float32, shape, elements=st.floats(-9, 9, width=32)),
        )
    )
)
def test_the_rate_is_never_negative_and_0_for_the_prior(moments):
    loc, log_scale = moments
    q, prior = tfd.Normal(loc, np.exp(log_scale)), standard_normal(loc.shape[1])
    exact = 0.5 * (loc.astype(float) ** 2 + np.exp(2.0 * log_scale) - 1) - log_scale
    nats = rate(q, prior)
    assert nats.shape == (len(loc),) and np.all(nats >= 0)
    np.testing.assert_allclose(nats, exact.sum(1), rtol=1e-5, atol=1e-5)
    same = tfd.Normal(prior.loc + np.zeros_like(loc), prior.scale)
    np.testing.assert_array_equal(rate(same, prior), np.zeros(len(loc)))


@given(IMAGES, st.data())
def test_the_distortion_is_never_negative(images, data):
    logits = data.draw(hnp.arrays(np.float32, images.shape, elements=REALS))
    nats = distortion(tfd.Bernoulli(logits=logits), images)
    assert nats.shape == (len(images),)
    assert np.isfinite(nats).all() and np.all(nats >= 0)
    certain = tfd.Bernoulli(logits=np.where(np.asarray(to_float(images)) > 0.5, 1e30, -1e30))
    assert np.all(distortion(certain, np.round(to_float(images))) == 0)


@given(ANYTHING)
def test_a_distortion_of_what_is_no_image_is_named(x):
    p = tfd.Bernoulli(logits=tf.zeros([1, 2, 2, 1]))
    assert named(lambda: distortion(p, x), "x") is None or np.shape(x) == (1, 2, 2, 1)


@given(POSITIVE, st.integers(1, 10**4), st.integers(1, 10**4), st.data())
def test_the_original_loss_and_nats_agree(beta, num_pixels, latent_size, data):
    terms = data.draw(hnp.arrays(np.float64, (2, 3), elements=st.just(0.0) | st.floats(1e-9, 1e9)))
    sizes = {"num_pixels": num_pixels, "latent_size": latent_size}
    total, kl, reconstruction = original_loss(*terms, beta=beta, **sizes)
    np.testing.assert_allclose(kl * latent_size, terms[0])
    np.testing.assert_allclose(reconstruction * num_pixels, terms[1])
    weight = effective_beta(beta, **sizes)
    np.testing.assert_allclose(total * num_pixels, terms[1] + weight * terms[0])
    if weight < 3e38:
        assert averaged_beta(weight, **sizes) == pytest.approx(beta)
    table = loss_table(terms.T, beta, **sizes)
    assert table["step"].tolist() == [1, 2, 3]
    for name, values in {"total": total, "kl": kl, "reconstruction": reconstruction}.items():
        np.testing.assert_allclose(table[name], values)
    np.testing.assert_array_equal(table[["rate", "distortion"]].T, terms)


@given(ANYTHING | st.floats(-9, 0))
def test_a_bad_weight_or_size_is_named(value):
    for function in (effective_beta, averaged_beta):
        weight = named(lambda: function(value, 1, 1), function.__code__.co_varnames[0])  # noqa: B023
        assert (weight is not None) == is_valid("beta", value)
        assert weight is None or weight >= 0 and np.isfinite(weight)
        named(lambda: function(1.0, value, 1), "num_pixels")  # noqa: B023
        named(lambda: function(1.0, 1, value), "latent_size")  # noqa: B023
    for name, kind in [("beta", "beta"), ("num_pixels", "latent_size"), ("latent_size",) * 2]:
        arguments = {"beta": 1, "num_pixels": 1, "latent_size": 1} | {name: value}
        losses = named(lambda: original_loss(1.0, 1.0, **arguments), name)  # noqa: B023
        assert (losses is not None) == is_valid(kind, value)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6),
        elements=st.floats(-1e4, 1e4, width=32),
    )
)
def test_the_bound_lies_between_the_mean_and_the_largest_log_weight(log_weights):
    if log_weights.shape[0] == 0:
        with pytest.raises(ValueError, match="log_weights must hold one draw or more"):
            importance_weighted_bound(log_weights)
        return
    bound = importance_weighted_bound(log_weights).numpy()
    assert bound.shape == log_weights.shape[1:]
    slack = 1e-6 * (1 + np.abs(log_weights).max(initial=0))
    assert np.all(bound >= log_weights.mean(0) - slack)
    assert np.all(bound <= log_weights.max(0) + slack)
    impossible = np.concatenate([log_weights, np.full_like(log_weights, -np.inf)])
    np.testing.assert_allclose(
        importance_weighted_bound(impossible), bound - np.log(2), atol=2 * slack
    )


@settings(max_examples=15)
@given(CODES, SEEDS)
def test_a_log_weight_is_the_same_for_either_kind_of_gaussian(shape, seed):
    generator = np.random.default_rng(seed)
    loc, z = generator.normal(size=[2, *shape]).astype(np.float32)
    scale = np.exp(generator.normal(size=shape)).astype(np.float32)
    distortions = generator.normal(size=shape[0]).astype(np.float32)
    weights = [
        log_weight(q, prior, distortions, z)
        for q, prior in [
            (tfd.Normal(loc, scale), standard_normal(shape[1])),
            (
                tfd.MultivariateNormalDiag(loc, scale),
                tfd.MultivariateNormalDiag(tf.zeros(shape[1])),
            ),
        ]
    ]
    exact = (0.5 * ((z - loc) / scale) ** 2 + np.log(scale) - 0.5 * z**2).sum(1) - distortions
    for weight in weights:
        np.testing.assert_allclose(weight, exact, rtol=1e-4, atol=1e-4)
    prior = standard_normal(shape[1])
    np.testing.assert_allclose(
        log_density(prior, z), -0.5 * (z**2 + np.log(2 * np.pi)).sum(1), rtol=1e-5, atol=1e-5
    )


# The bounds, where log p(x) is known.


def gaussian(logits):
    return tfd.Normal(logits, 0.5)


@pytest.fixture(scope="module")
def linear_gaussian():
    """A model of two latents and three pixels, whose program is compiled once."""
    return Encoder([], 2, scale_fn=tf.nn.softplus), Decoder([], [1, 3, 1], likelihood=gaussian)


@settings(max_examples=10)
@given(SEEDS, st.floats(0.1, 1.0), st.sampled_from([1, 2, 30]))
def test_the_elbo_is_below_the_bound_and_the_bound_below_the_evidence(
    linear_gaussian, seed, size, num_samples
):
    generator = np.random.default_rng(seed)
    encoder, decoder = linear_gaussian
    x = np.tile(generator.random([1, 1, 3, 1], np.float32), [400, 1, 1, 1])
    decoder(encoder(x[:1]).loc)
    for weight in (*encoder.variables, *decoder.variables):
        weight.assign(size * generator.normal(size=weight.shape))
    (bias, weights), prior = (np.float64(w) for w in decoder.variables), standard_normal(2)
    covariance = weights.T @ weights + 0.25 * np.eye(3)
    marginal = tfd.MultivariateNormalTriL(bias, np.linalg.cholesky(covariance))
    evidence = float(marginal.log_prob(np.float64(x[0].ravel())))

    elbos = evaluate(encoder, decoder, prior, x, seed=seed)["elbo"]
    model = encoder, decoder, prior
    bound = log_likelihood(*model, x, num_samples=num_samples, seed=seed, progress=False)
    errors = [5 * draws.std() / np.sqrt(len(x)) + 1e-4 for draws in (elbos, bound)]
    assert elbos.mean() - bound.mean() < sum(errors)
    assert bound.mean() - evidence < errors[1]
    assert np.any(bound[:200] != bound[200:]), "each block of images has its own draws"
    if num_samples == 1:
        assert abs(elbos.mean() - bound.mean()) < sum(errors)


# Training and evaluation, in any order.

SHAPE = (4, 4, 1)
TINY = {"batch_size": 4, "progress": False}


def tiny_model():
    return Encoder([8], 2), Decoder([8], SHAPE), standard_normal(2)


def some_images(kind: str, seed: int) -> np.ndarray:
    if kind == "noise":
        return np.random.default_rng(seed).integers(0, 256, [9, *SHAPE], np.uint8)
    return np.full([4, *SHAPE], {"black": 0, "gray": 128, "white": 255}[kind], np.uint8)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    st.sampled_from(["noise", "black", "gray", "white"]),
    st.floats(0, 2.0**127, width=32) | st.sampled_from([0.0, 0.01, 1e9]),
    POSITIVE | st.sampled_from([1e-3, 1.0, 1e6]),
    st.sampled_from([1, 63, 64, 65, 130]),
    SEEDS,
)
@pytest.mark.filterwarnings("ignore:none of the 2 latents is active:UserWarning")
def test_training_gives_finite_rows_or_says_where_it_went_wrong(kind, beta, step, steps, seed):
    options = {"beta": beta, "learning_rate": step, "training_steps": steps, "seed": seed}
    model, images = tiny_model(), some_images(kind, seed)
    terms = ["rate", "distortion", "total"]
    try:
        losses = train(*model, images, **TINY, **options)
    except NonFiniteLossError as error:
        assert re.search(
            rf"step {len(error.losses)}[. ].*try (a learning_rate|one) below", str(error)
        )
        assert np.isfinite(error.losses[terms][:-1]).all(axis=None)
        assert step > 1e-2 or beta > 1e30, "only what is too large"
        return
    assert losses["step"].tolist() == list(range(1, steps + 1))
    assert np.isfinite(losses).all(axis=None) and np.all(losses["rate"] >= 0)
    weights = [*model[0].variables, *model[1].variables]
    assert all(np.isfinite(weight).all() for weight in weights)
    table = named(lambda: evaluate(*model, images), "encoder, decoder and prior", "z")
    assert table is None or np.isfinite(table).all(axis=None)


CALLS = {
    "train": lambda model, x: train(*model, x, **TINY, training_steps=3),
    "evaluate": lambda model, x: evaluate(*model, x),
    "log_likelihood": lambda model, x: log_likelihood(*model, x, num_samples=3, progress=False),
    "mutual_information": lambda model, x: mutual_information(model[0], model[2], x),
    "active_units": lambda model, x: active_units(model[0], x),
    "forget": lambda model, x: training._kept_programs.cache_clear(),
    "another": lambda model, x: train(*tiny_model(), x, **TINY, training_steps=2, seed=1),
    "bad": lambda model, x: named(lambda: train(*model, x[0], **TINY), "images"),
}


@settings(max_examples=6)
@given(st.lists(st.sampled_from(sorted(CALLS)), min_size=2, max_size=6))
@pytest.mark.slow
def test_no_order_of_calls_changes_a_number(calls):
    """What a model gives depends on how often it was trained, and on nothing else."""
    images = some_images("noise", 0)
    model, known = tiny_model(), {}
    train(*model, images, **TINY, training_steps=5)
    weights = [w.numpy() for w in (*model[0].variables, *model[1].variables)]
    for name in calls:
        result = CALLS[name](model, images)
        if name == "train":
            assert np.any(model[0].variables[0] != weights[0]), "it trains in place"
            for weight, value in zip((*model[0].variables, *model[1].variables), weights):
                weight.assign(value)
        if name in known:
            np.testing.assert_array_equal(result, known[name])
        known[name] = result
    for weight, value in zip((*model[0].variables, *model[1].variables), weights):
        np.testing.assert_array_equal(weight, value)


ARGUMENTS = [
    "images", "batch_size", "beta", "learning_rate", "training_steps", "num_samples", "seed"
]  # fmt: skip


@given(st.sampled_from(ARGUMENTS), ANYTHING)
def test_what_cannot_be_trained_with_is_named(name, value):
    arguments = {"images": some_images("gray", 0), "batch_size": 2, "progress": False}
    arguments |= {name: value}
    named_too = {"images": ["batch_size", "x"], "num_samples": ["beta"]}.get(name, [])
    valid = is_valid(name, value)
    with nothing_done(training, "compiled", valid):
        assert named(lambda: train(*tiny_model(), **arguments), name, *named_too) is None


@given(st.integers(1, 30), st.integers(1, 30), SEEDS)
def test_batches_take_each_image_once_an_epoch(num_images, batch_size, seed):
    batches = batch_indices(num_images, batch_size, seed)
    if batch_size > num_images:
        assert named(lambda: next(batches), "batch_size") is None
        return
    epoch = np.concatenate([next(batches) for _ in range(num_images // batch_size)])
    assert len(set(epoch)) == len(epoch) and set(epoch) <= set(range(num_images))


@given(st.sampled_from(["num_images", "batch_size", "seed"]), ANYTHING)
def test_what_makes_no_batches_is_named(name, value):
    arguments = {"num_images": 3, "batch_size": 1, "seed": 0} | {name: value}
    valid = is_valid(name, value)
    if not (valid and name == "num_images" and value > 10**6):  # of memory
        batch = named(lambda: next(batch_indices(**arguments)), name, "batch_size")
        assert valid or batch is None


@given(st.sampled_from(["images", "num_samples", "seed", "threshold"]), ANYTHING)
def test_what_cannot_be_evaluated_is_named(name, value):
    encoder, decoder, prior = tiny_model()
    arguments, valid = {"images": some_images("gray", 0)} | {name: value}, is_valid(name, value)
    if name == "threshold":
        active = named(lambda: active_units(encoder, **arguments), "threshold")
        assert (active is not None) == valid
        return
    if name != "num_samples":
        table = named(lambda: mutual_information(encoder, prior, **arguments), name)
        assert valid or table is None
    if not (valid and name == "num_samples" and value > 100):  # of time
        table = named(lambda: evaluate(encoder, decoder, prior, **arguments), name, "x")
        assert valid or table is None
    with nothing_done(evaluation, "compiled", valid):
        named(lambda: log_likelihood(encoder, decoder, prior, **arguments), name, "x")


@given(hnp.arrays(np.float32, st.tuples(st.integers(2, 9), st.just(2)), elements=REALS), POSITIVE)
def test_active_units_are_those_whose_means_vary(means, threshold):
    def encoder(x):
        return tfd.Normal(means[: len(x)], 1.0)

    images = np.zeros([len(means), 1, 1, 1], np.uint8)
    active = active_units(encoder, images, threshold=threshold)
    assert active.tolist() == (np.var(means.astype(np.float64), axis=0) > threshold).tolist()
    assert not active_units(encoder, images[:1], threshold=0).any()


@settings(max_examples=10)
@given(SEEDS, st.floats(0.01, 100))
def test_the_information_is_at_most_the_log_of_the_number_of_images(seed, size):
    encoder, _, prior = tiny_model()
    images = some_images("noise", seed)
    encoder(images)
    for weight in encoder.variables:
        weight.assign(size * weight)
    table = mutual_information(encoder, prior, images, seed=seed)
    assert np.isfinite(table).all(axis=None)
    assert np.all(table["information"] <= np.log(len(images)) + 1e-9)
    np.testing.assert_allclose(table["marginal_kl"], table["rate"] - table["information"])


@pytest.mark.parametrize("network", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_training_has_broken_is_named(network, value):
    model, images = tiny_model(), some_images("noise", 0)
    encoder, decoder, prior = model
    decoder(encoder(images).loc)
    weight = model[network].trainable_variables[0]
    weight.assign(tf.fill(weight.shape, value))
    names = "encoder, decoder and prior", "z"
    assert named(lambda: evaluate(*model, images), *names) is None
    assert named(lambda: log_likelihood(*model, images, progress=False), *names) is None
    if network == 0:
        assert named(lambda: active_units(encoder, images), *names) is None
        assert named(lambda: mutual_information(encoder, prior, images), *names) is None


# Traversals and figures.

VALUES = st.lists(REALS, min_size=1, max_size=5)


def assert_decodes(z: np.ndarray, latent_size: int) -> None:
    assert z.dtype == np.float32 and z.ndim == 2 and z.shape[1] == latent_size
    x_hat = Decoder([4], [2, 3, 1])(z).mean().numpy()
    assert np.all((x_hat >= 0) & (x_hat <= 1))


@settings(max_examples=25)
@given(VALUES, st.integers(2, 5), st.data())
def test_traversals_vary_what_they_say_and_decode_to_gray_levels(values, latent_size, data):
    pair = data.draw(st.lists(st.integers(0, latent_size - 1), min_size=2, max_size=2, unique=True))
    n = len(values)
    z = plane(values, latent_size, pair)
    assert_decodes(z, latent_size)
    np.testing.assert_array_equal(z[:, pair[0]], np.tile(values, n))
    np.testing.assert_array_equal(z[:, pair[1]], np.repeat(values, n))
    assert not np.delete(z, pair, axis=1).any()

    z = rows(values, latent_size)
    assert_decodes(z, latent_size)
    np.testing.assert_array_equal(z, np.kron(np.eye(latent_size), np.float32(values)[:, None]))

    center = data.draw(st.lists(REALS, min_size=latent_size, max_size=latent_size))
    z = rows(values, latent_size, pair, center)
    assert_decodes(z, latent_size)
    for row, latent in zip(z.reshape(2, n, latent_size), pair, strict=True):
        np.testing.assert_array_equal(row[:, latent], values)
        assert np.all(np.delete(row, latent, 1) == np.delete(np.float32(center), latent))

    start = data.draw(st.lists(REALS, min_size=latent_size, max_size=latent_size))
    z = interpolate(start, center, n + 1)
    assert_decodes(z, latent_size)
    np.testing.assert_array_equal(z[[0, -1]], np.float32([start, center]))
    slack = 1e-5 * np.abs(z).max()
    np.testing.assert_allclose(np.diff(z, axis=0), np.tile((z[-1] - z[0]) / n, [n, 1]), atol=slack)


@given(st.integers(1, 2000))
def test_quantiles_are_finite_ascending_and_symmetric(num):
    values = quantiles(num)
    assert values.dtype == np.float32 and values.shape == (num,) and np.isfinite(values).all()
    assert np.all(np.diff(values) > 0)
    np.testing.assert_allclose(values, -values[::-1], atol=1e-6)


@given(SIZES, SIZES, st.data())
def test_each_tile_is_its_image(num_rows, columns, data):
    images = data.draw(
        st.tuples(st.just(num_rows * columns), SIZES, SIZES, st.integers(1, 3)).flatmap(pixels)
    )
    _, height, width, channels = images.shape
    tiled = tile(images, columns)
    assert tiled.dtype == images.dtype
    tiled = tiled.reshape(num_rows * height, columns * width, channels)
    for i, image in enumerate(images):
        top, left = height * (i // columns), width * (i % columns)
        np.testing.assert_array_equal(tiled[top : top + height, left : left + width], image)
    for wrong in {columns + 1, 2 * columns} - {c for c in range(1, 99) if len(images) % c == 0}:
        assert named(lambda: tile(images, wrong), "columns") is None  # noqa: B023


@given(ANYTHING)
def test_what_is_no_traversal_is_named(value):
    named(lambda: plane(value, 2), "values")
    named(lambda: plane([0.0], 3, value), "latents")
    named(lambda: rows(value, 2), "values")
    named(lambda: rows([0.0], 2, value), "latents")
    named(lambda: rows([0.0], 2, center=value), "center")
    named(lambda: interpolate(value, [0.0], 2), "start", "end")
    named(lambda: interpolate([0.0], value, 2), "end")
    named(lambda: tile(value, 1), "images")
    named(lambda: tile(np.zeros([2, 1, 1, 1]), value), "columns")
    if not isinstance(value, int) or value < 10**4:
        named(lambda: quantiles(value), "num")
        named(lambda: plane([0.0], value), "latent_size", "latents")
        named(lambda: rows([0.0], value), "latent_size", "latents")
        named(lambda: interpolate([0.0], [0.0], value), "num")


@settings(max_examples=8)
@given(IMAGES.filter(lambda images: images.shape[3] != 2))
def test_images_of_any_size_are_drawn(images):
    figure = plot_reconstructions({"truth": images, "again": images})
    assert [len(axis.images) for axis in figure.axes] == [1, 1]
    figure.canvas.draw()
    figure = plot_tiles(tile(np.asarray(to_float(images)), 1))
    figure.canvas.draw()
    assert plt.get_fignums() == []


def in_range(value) -> bool:
    try:
        return bool(np.min(value) >= -1e-6 and np.max(value) <= 1 + 1e-6)
    except (TypeError, ValueError):
        return False


@given(ANYTHING)
def test_what_is_no_picture_is_named(value):
    with nothing_done(plt, "subplots", in_range(value)):
        named(lambda: plot_tiles(value), "image")
    named(lambda: plot_reconstructions(value), "rows")
    named(lambda: plot_reconstructions({"a": value}), "rows", "images")


@settings(max_examples=5)
@given(
    hnp.arrays(np.float64, st.tuples(SIZES, st.just(2)), elements=st.floats(1e-9, 1e9)), POSITIVE
)
def test_losses_of_any_size_are_drawn(terms, beta):
    figure = plot_losses(loss_table(terms, beta, 4, 2), beta).draw()
    figure.canvas.draw()
    plt.close(figure)


@given(ANYTHING)
def test_losses_that_cannot_be_drawn_are_named(value):
    losses = loss_table(np.ones([2, 2]), 1.0, 4, 2)
    named(lambda: plot_losses(losses, value), "beta")
    assert named(lambda: plot_losses(losses[:0], 1.0), "losses") is None


# Pages.

HUGE = st.floats(-(2.0**127), 2.0**127, width=32)


@settings(max_examples=6)
@given(HUGE, HUGE, POSITIVE, HUGE, HUGE, POSITIVE)
@pytest.mark.filterwarnings("ignore:No contour levels were found:UserWarning")
@pytest.mark.filterwarnings("ignore:Attempting to set identical low and high ylims:UserWarning")
def test_the_bound_of_any_model_is_drawn(weight, bias, noise_scale, x, q_mean, q_scale):
    page = elbo.bound_explorer(weight, bias, noise_scale, x, q_mean=q_mean, q_scale=q_scale)
    text = page._repr_mimebundle_()["text/html"]
    data = json.loads(re.search(r"const DATA = (.*);\n", text)[1])
    assert np.isfinite([*data["means"], *data["scales"], *data["guess"]]).all()


@given(st.sampled_from(["weight", "bias", "noise_scale", "x", "q_mean", "q_scale"]), ANYTHING)
def test_a_bad_number_of_the_bound_is_named(name, value):
    model = dict.fromkeys(["weight", "bias", "noise_scale", "x", "q_mean", "q_scale"], 1.0)
    valid = isinstance(value, numbers.Real) and abs(value) < 3.5e38
    with nothing_done(elbo, "_picture", valid and (value > 0 or "scale" not in name)):
        named(lambda: elbo.bound_explorer(**model | {name: value}), name)


@settings(max_examples=4)
@given(
    st.tuples(SIZES, SIZES, SIZES, st.just(1)).flatmap(pixels), st.lists(SIZES, max_size=2), SIZES
)
def test_a_decoder_of_any_size_has_its_page(images, hidden_sizes, latent_size):
    decoder, encoder = Decoder(hidden_sizes, images.shape[1:]), Encoder(hidden_sizes, latent_size)
    page = latent_explorer(decoder, encoder, standard_normal(latent_size), images)
    assert f"{latent_size} latents" in repr(page)


@given(ANYTHING)
def test_a_page_of_no_images_is_named(value):
    model = Decoder([], SHAPE), Encoder([], 2), standard_normal(2)
    with nothing_done(Decoder, "__call__"):
        named(lambda: latent_explorer(*model, value), "images")
        named(lambda: latent_explorer(*model, some_images("gray", 0), value), "examples")


@given(hnp.arrays(hnp.floating_dtypes(endianness="<"), hnp.array_shapes()))
def test_numbers_come_back_from_a_page(numbers):
    stored = np.frombuffer(base64.b64decode(encoded(numbers)), numbers.dtype)
    np.testing.assert_array_equal(stored, numbers.ravel())
