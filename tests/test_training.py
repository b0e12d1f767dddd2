"""Training: the loop of the post, steps of one's own, what goes wrong, and what is compiled once."""

from vae_helpers import models
from vae_helpers.data import binarize, to_float
from vae_helpers.evaluation import active_units, evaluate, log_likelihood
from vae_helpers.models import Decoder, Encoder, standard_normal, tfd
from vae_helpers.objective import distortion, rate
from vae_helpers.support.diagnosis import NonFiniteLossError
from vae_helpers.training import batch_indices, post_step, run_steps, train

import copy
import functools
import gc
import signal
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf

BLANK = np.zeros([64, 7, 7, 1], np.uint8)
X = np.random.default_rng(0).integers(0, 256, [64, 7, 7, 1], np.uint8)
TERMS = ["total", "kl", "reconstruction"]
ONE_STEP = {"training_steps": 1, "progress": False}


def make(decoder_class=Decoder, likelihood=tfd.Bernoulli, prior=None, **encoder_options):
    """Makes a model of X with weights, always the same."""
    encoder = Encoder([16], 2, **encoder_options)
    decoder = decoder_class([16], [7, 7, 1], likelihood=likelihood)
    decoder(encoder(X).loc)
    return encoder, decoder, prior or standard_normal(2)


def weights(model):
    return [variable.numpy() for network in model[:2] for variable in network.variables]


# TensorFlow's generator gives other numbers outside a compiled program than inside.
@tf.function(jit_compile=True, autograph=False)
def draw(loc, scale, seed):
    return tfd.Normal(loc, scale).sample(seed=seed)


def written_out(encoder, decoder, prior, optimizer):
    """The step of the post, to the letter but for a seed of its noise."""

    def step(x, seed):
        with tf.GradientTape() as tape:
            q = encoder(x)
            z = draw(q.loc, q.scale, seed)
            p = decoder(z)
            kl_loss = tf.reduce_mean(q.kl_divergence(prior))
            reconstruction_loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(logits=p.logits, labels=x)
            )
            loss = reconstruction_loss + 0.01 * kl_loss
        variables = encoder.trainable_variables + decoder.trainable_variables
        gradients = tape.gradient(loss, variables)
        optimizer.apply(gradients, variables)
        return dict(zip(TERMS, [loss, kl_loss, reconstruction_loss], strict=True))

    return step


def run_eagerly(step, images, training_steps, seed):
    """The rows of `run_steps`, by the plain loop of the post."""
    indices = batch_indices(len(images), 64, seed)
    seeds = [tf.constant([seed, i]) for i in range(training_steps)]
    return [list(step(to_float(images[next(indices)]), seed).values()) for seed in seeds]


@pytest.mark.slow
def test_train_and_steps_of_ones_own_follow_the_loop_of_the_post():
    """Softplus, since the gradient of the square's KL is unbounded and amplifies rounding."""
    plain, compiled, own = (make(scale_fn=tf.nn.softplus) for _ in range(3))
    optimizers = snt.optimizers.Adam(1e-3), snt.optimizers.Adam(1e-3)
    known = run_eagerly(written_out(*plain, optimizers[0]), X, 24, seed=5)
    losses = run_steps(written_out(*own, optimizers[1]), X, training_steps=24, seed=5)
    np.testing.assert_allclose(losses[TERMS], known, rtol=1e-4)
    losses = train(*compiled, X, training_steps=24, seed=5)
    np.testing.assert_allclose(losses[TERMS], known, rtol=1e-4)
    for ours, theirs in zip(weights(compiled), weights(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    # Another call goes on with the moments that the first one created.
    known = run_eagerly(written_out(*plain, optimizers[0]), X, 24, seed=5)
    losses = run_steps(post_step(*own, optimizers[1], 0.01), X, training_steps=24, seed=5)
    np.testing.assert_allclose(losses[TERMS], known, rtol=1e-3)


@pytest.mark.slow
def test_the_loop_of_the_post_and_train_give_the_published_numbers(images, make_model):
    plain, compiled = (make_model(10, [100, 100], [28, 28, 1]) for _ in range(2))
    for encoder, decoder, _ in (plain, compiled):
        decoder(encoder(images[:1]).loc)
    known = run_eagerly(written_out(*plain, snt.optimizers.Adam(1e-3)), images, 33, seed=0)
    losses = train(*compiled, images, training_steps=33)[TERMS]
    np.testing.assert_allclose(losses[:1], known[:1], rtol=1e-4)
    for totals in (losses["total"].to_numpy(), np.array(known)[:, 0]):
        assert abs(totals[0] - 0.74) < 0.03  # published: 0.7367
        assert 0.25 < totals[-1] < 0.36  # published: 0.2977 at step 32, 0.2678 at 64


def test_any_number_of_steps_is_exact_and_rows_agree_in_both_units(small_images, make_model, capfd):
    longest = train(*make_model(), small_images, training_steps=130)
    for steps in (1, 63, 64, 65):
        losses = train(*make_model(), small_images, training_steps=steps)
        assert losses["step"].tolist() == list(range(1, steps + 1))
        assert losses.equals(longest[:steps])
    np.testing.assert_allclose(longest["rate"], 2 * longest["kl"])
    np.testing.assert_allclose(longest["distortion"], 49 * longest["reconstruction"])
    assert longest["total"].tail(10).mean() < longest["total"].head(10).mean() - 0.2
    assert capfd.readouterr() == ("", ""), "the progress bar leaves no trace"


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(small_images, make_model):
    images = small_images
    model, again, other = make_model(), make_model(), make_model()
    first = train(*model, images, training_steps=70, seed=3)
    train(*other, images, training_steps=5, beta=1.0, seed=8)
    tf.random.normal([3])
    assert first.equals(train(*again, images, training_steps=70, seed=3))
    np.testing.assert_equal(weights(model), weights(again))
    assert first["total"][0] != train(*make_model(), images, training_steps=1)["total"][0]
    assert train(*model, images, training_steps=5)["total"][0] < first["total"][0] - 0.1
    called = make_model(), make_model()
    for encoder, *_ in called:
        encoder(images[:1])  # before it is trained
    first, second = (train(*model, images, training_steps=2) for model in called)
    assert first.equals(second)


@pytest.mark.slow
def test_tensorflows_own_seed_stays_as_the_reader_has_it():
    def drawn_after_training(model):
        train(*model, X, **ONE_STEP)
        evaluate(*model, X)
        return tf.random.normal([3]).numpy()

    assert np.all(drawn_after_training(make()) != drawn_after_training(make()))
    model = make()
    tf.random.set_seed(7)
    drawn = drawn_after_training(model)
    tf.random.set_seed(7)
    known = tf.random.normal([3])
    tf.random.set_seed(None)
    np.testing.assert_array_equal(drawn, known)


def test_batches_cover_an_epoch_and_are_shuffled_anew():
    batches = batch_indices(10, 3, seed=0)
    epochs = [np.concatenate([next(batches) for _ in range(3)]) for _ in range(2)]
    assert [len(set(epoch)) for epoch in epochs] == [9, 9] and set(epochs[0]) <= set(range(10))
    assert epochs[0].tolist() != epochs[1].tolist()
    again, other = (next(batch_indices(10, 3, seed)).tolist() for seed in (0, 1))
    assert again == epochs[0][:3].tolist() != other
    assert sorted(next(batch_indices(4, 4, seed=0))) == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_step_may_create_its_weights_and_moves_what_it_says(images):
    """Written in a cell: free bits, a learned prior, and a variable that counts."""

    def trained():
        encoder, decoder = Encoder([16], 3), snt.nets.MLP([16, 784])
        optimizer, seen, spread = snt.optimizers.Adam(1e-3), tf.Variable(0), tf.Variable(1.0)

        def step(x, seed):
            with tf.GradientTape() as tape:
                q = encoder(x)
                logits = decoder(q.sample(seed=seed))
                kl = tf.reduce_mean(q.kl_divergence(tfd.Normal(0.0, spread)), axis=0)
                nats = tf.nn.sigmoid_cross_entropy_with_logits(snt.flatten(x), logits)
                loss = tf.reduce_sum(nats) / 64 + tf.reduce_sum(tf.maximum(kl, 0.5))
            variables = [*encoder.trainable_variables, *decoder.trainable_variables, spread]
            optimizer.apply(tape.gradient(loss, variables), variables)
            return {"loss": loss, "seen": seen.assign_add(1)}

        losses = run_steps(step, images, training_steps=70)
        assert active_units(encoder, images[:9]).shape == (3,) and spread != 1
        return losses

    losses = trained()
    assert losses.columns.tolist() == ["step", "loss", "seen"]
    assert losses["seen"].tolist() == losses["step"].tolist() == list(range(1, 71))
    assert losses["loss"].iloc[-1] < losses["loss"][0] - 100 and losses.equals(trained())


def test_a_step_sees_images_labels_and_its_seed_in_the_order_of_batch_indices():
    labels = np.arange(100)
    images = np.tile(np.uint8(labels).reshape(-1, 1, 1, 1), [1, 2, 2, 1])

    def step(x, y, seed):
        error = tf.reduce_max(tf.abs(255 * x[:, 0, 0, 0] - tf.cast(y, tf.float32)))
        return {"first": y[0], "last": y[-1], "error": error, "seed": seed[0], "i": seed[1]}

    table = run_steps(step, images, labels=labels, batch_size=7, training_steps=130, seed=4)
    indices = batch_indices(100, 7, seed=4)
    taken = np.array([next(indices) for _ in range(130)])
    np.testing.assert_array_equal(table[["first", "last"]], taken[:, [0, -1]])
    assert table["error"].max() < 1e-4 and set(table["seed"]) == {4}
    assert table["i"].tolist() == list(range(130))


@pytest.mark.slow
def test_a_transform_draws_anew_each_time_and_follows_the_seed(small_images, make_model):
    def sums(seed, transform=binarize):
        options = {"batch_size": 4, "training_steps": 130, "seed": seed, "transform": transform}
        step = lambda x, seed: {"sum": tf.reduce_sum(snt.flatten(x) * tf.range(784.0) / 784)}
        return run_steps(step, np.full([64, 28, 28, 1], np.uint8(128)), **options)["sum"]

    first = sums(0)
    assert first.nunique() > 120 and first.equals(sums(0)) and (first != sums(1)).mean() > 0.9
    np.testing.assert_allclose(sums(0, lambda x, _: x / np.float32(128)), 2 * 783, rtol=1e-5)
    ink, options = (
        binarize(small_images[:200]),
        {"training_steps": 2},
    )  # pixels that are drawn as is
    drawn = train(*make_model(), ink, transform=binarize, **options)
    assert drawn.equals(train(*make_model(), ink, **options))


# What goes wrong


def interrupting():
    """A transform that interrupts, as Ctrl-C does, when the third call of 64 steps is prepared."""
    calls = iter([False, False, True])

    def transform(x, generator):
        if next(calls):
            signal.raise_signal(signal.SIGINT)
        return x

    return transform


def test_an_interrupt_keeps_the_rows_and_the_model(small_images, make_model):
    images = small_images
    model, known, count = make_model(), make_model(), tf.Variable(0)
    handler, full = signal.getsignal(signal.SIGINT), train(*known, images, training_steps=192)
    losses = train(*model, images, training_steps=1000, transform=interrupting())
    assert losses.attrs["interrupted"] and not full.attrs["interrupted"]
    assert losses.equals(full)
    np.testing.assert_equal(weights(model), weights(known))
    step = lambda x, seed: {"count": count.assign_add(1)}
    losses = run_steps(step, BLANK, training_steps=1000, transform=interrupting())
    assert losses.attrs["interrupted"] and len(losses) == count == losses["count"].max() == 192
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_loss_that_is_not_finite_stops_with_step_terms_and_cause(small_images, make_model):
    images = small_images
    with pytest.raises(NonFiniteLossError) as caught:
        train(*make_model(), images, learning_rate=1e6, training_steps=100)
    for error in (caught.value, copy.deepcopy(caught.value)):  # as between processes
        losses = error.losses
        finite = np.isfinite(losses[["rate", "distortion"]]).all(axis=1)
        assert finite.tolist() == [True] * (len(losses) - 1) + [False] and 2 <= len(losses) < 100
        assert f"loss is not finite at step {len(losses)} (total " in str(error)
        assert "learning_rate below 1e+06, or a beta below 0.01" in str(error)
    known = train(*make_model(), images, learning_rate=1e6, training_steps=len(losses) - 1)
    assert losses[:-1].equals(known)


@pytest.mark.parametrize(("scale", "beta"), [(1.0, 1e38), (np.nan, 0.01), (-1.0, 0.01)])
def test_what_is_broken_from_the_start_is_not_blamed_on_the_step(make_model, scale, beta):
    prior = tfd.Normal(tf.zeros(2), tf.fill([2], scale))
    message = r"not finite at step 1 \(.* encoder, decoder or prior as they were given.* beta"
    with pytest.raises(NonFiniteLossError, match=message):
        train(*make_model()[:2], prior, X, beta=beta, training_steps=3)


@pytest.mark.slow
def test_weights_that_the_last_step_throws_out_of_range_are_said(make_model):
    model = make_model(scale_fn=tf.sqrt)  # whose gradient at 0, for a blank image, is infinite
    with pytest.raises(NonFiniteLossError, match="weights are not finite at step 1 ") as caught:
        train(*model, BLANK, training_steps=1)
    assert np.isfinite(caught.value.losses).all(axis=None)


def test_a_step_of_ones_own_stops_where_a_value_is_not_finite():
    def step(x, seed):
        return {"loss": 1.0, "other": tf.where(seed[1] == 69, np.nan, 2.0)}

    with pytest.raises(NonFiniteLossError, match=r"step 70 \(loss 1, other nan\)") as caught:
        run_steps(step, BLANK, training_steps=200)
    assert caught.value.losses["other"].tolist()[:-1] == [2.0] * 69


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["digits", "gray", "blank"])
def test_a_posterior_that_collapses_is_said(make_model, kind):
    """A weight that leaves no room for a code, or images that need none."""
    given = {"digits": X, "gray": BLANK + np.uint8(128), "blank": BLANK}[kind]
    beta = 1e9 if kind == "digits" else 0.01
    with pytest.warns(UserWarning, match="none of the 2 latents is active.*posterior collapse"):
        losses = train(*make_model(), given, beta=beta, training_steps=256)
    assert np.isfinite(losses).all(axis=None)


@pytest.mark.slow
def test_no_collapse_is_said_where_there_is_none(small_images, make_model):
    with warnings.catch_warnings(action="error", category=UserWarning):
        train(*make_model(), small_images, training_steps=64)
        train(*make_model(), small_images, beta=1e9, training_steps=63)  # it is too soon to say


@pytest.mark.slow
def test_checks_of_numerics_that_xla_cannot_compile_are_said():
    tf.debugging.enable_check_numerics()
    try:
        with pytest.raises(RuntimeError, match="XLA cannot compile"):
            run_steps(lambda x, seed: {"loss": tf.reduce_mean(x)}, X, **ONE_STEP)
    finally:
        tf.debugging.disable_check_numerics()


# What is compiled once and lent again gives no model the numbers of another.

NUMBER = np.ones(1, np.float32)  # read by the functions below
VARIABLE = tf.Variable([1.0], trainable=False)


def closure(number):
    return lambda x: number * tf.nn.softplus(x)


READS = {
    "a likelihood": {"likelihood": lambda logits: tfd.Normal(logits, NUMBER)},
    "an activation": {"activation": lambda x: tf.nn.leaky_relu(x, NUMBER)},
    "a closure": {"scale_fn": closure(NUMBER)},
    "a partial": {"scale_fn": functools.partial(tf.maximum, NUMBER)},
    "a wrapper": {"scale_fn": functools.wraps(tf.nn.softplus)(closure(NUMBER))},
    "a variable": {"scale_fn": closure(VARIABLE)},
    "SCALE_FLOOR": {},
}
RUN = {
    "evaluate": lambda model: evaluate(*model, X)[["rate", "distortion"]].mean(),
    "train": lambda model: train(*model, X, **ONE_STEP)[["rate", "distortion"]].iloc[0],
    "log_likelihood": lambda model: log_likelihood(*model, X, num_samples=1, progress=False),
}
CASES = [(what, "evaluate") for what in READS]
CASES += [
    pytest.param("a closure", "train", marks=pytest.mark.slow),
    pytest.param("SCALE_FLOOR", "log_likelihood", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("what", "run"), CASES)
def test_what_a_function_reads_is_read_anew(what, run, monkeypatch):
    """The decoder ignores its code, so that the terms of its ELBO are known without a draw."""
    seen = []
    for value in (1.0, 0.1):
        monkeypatch.setattr(models, "SCALE_FLOOR", value if what == "SCALE_FLOOR" else 1e-4)
        NUMBER[:] = value
        VARIABLE.assign([value])
        encoder, decoder, prior = make(**READS[what])
        for weight in decoder.variables:
            weight.assign(tf.zeros_like(weight))
        terms = rate(encoder(X), prior), distortion(decoder(np.zeros([64, 2])), X)
        known, found = np.mean(terms, axis=1), RUN[run]((encoder, decoder, prior))
        if run == "log_likelihood":  # with one draw it is the ELBO on average
            error = 5 * np.std(found) / np.sqrt(64)
            assert abs(np.mean(found) + known.sum()) < error
        else:
            np.testing.assert_allclose(found, known, rtol=1e-5)
        seen.append(np.mean(found))
    assert seen[0] != seen[1]


class Doubled(Decoder):
    def __call__(self, z):
        return super().__call__(2 * z)


@pytest.mark.slow
def test_models_of_other_kinds_have_numbers_of_their_own():
    kinds = [{}, {"scale_fn": tf.exp}, {"activation": tf.tanh}, {"decoder_class": Doubled}]
    kinds += [{"likelihood": tfd.ContinuousBernoulli}, {"prior": tfd.Normal([1.0] * 2, 2.0)}, {}]
    for kind in kinds:
        encoder, decoder, prior = make(**kind)
        q = encoder(X)
        known = rate(q, prior), distortion(decoder(q.sample(seed=[0, 0])), X)
        table = evaluate(encoder, decoder, prior, X)  # whose draw is that one
        np.testing.assert_allclose(table[["rate", "distortion"]].T, known, rtol=1e-4, atol=1e-4)


def test_models_of_a_kind_are_compiled_once(monkeypatch):
    train(*make(), X, **ONE_STEP)
    log_likelihood(*make(), X, progress=False)
    monkeypatch.setattr(tf, "function", None)
    for options in ({"beta": 0.5, "learning_rate": 1.0}, {"training_steps": 2}, {"seed": 1}):
        train(*make(), X, **ONE_STEP | options)
    log_likelihood(*make(), X, num_samples=3, seed=1, progress=False)


@pytest.mark.slow
def test_trainings_side_by_side_give_the_numbers_of_one_alone():
    def run(seed):
        model = make()
        losses = train(*model, X, training_steps=130, seed=seed, progress=False)
        return [*losses["total"], *model[0].variables[0].numpy()]

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(run, range(6))) == list(map(run, range(6)))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"activation": lambda x: tf.nn.relu(x)}])
def test_nothing_of_the_readers_is_kept_alive(options):
    images, model = X.copy(), make(**options)
    train(*model, images, **ONE_STEP)
    evaluate(*model, images)
    references = [weakref.ref(thing) for thing in (images, *model[:2])]
    del images, model
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]


SPREAD = tf.Variable([0.5], name="spread")
USES = {
    "likelihood": {"likelihood": lambda logits: tfd.Normal(logits, SPREAD)},
    "activation": {"activation": lambda x: SPREAD * tf.nn.relu(x)},
    "prior": {"prior": tfd.Normal(tf.zeros(2), SPREAD)},
}


@pytest.mark.parametrize("use", USES)
def test_a_variable_that_no_network_owns_is_named(use):
    with pytest.raises(ValueError, match=r"must own every variable .*\['spread:0'\] would stay"):
        train(*make(**USES[use]), X, **ONE_STEP)


@pytest.mark.slow
def test_a_variable_that_a_network_owns_is_trained():
    model = make(**USES["likelihood"])
    model[1].spread = SPREAD
    SPREAD.assign([0.5])
    train(*model, X, **ONE_STEP)
    assert abs(float(SPREAD[0]) - 0.5) == pytest.approx(0.001, rel=0.1)


@pytest.mark.slow
def test_an_unusual_model_and_a_plain_one_of_its_sizes_give_the_same_numbers():
    def numbers(model):
        return [*evaluate(*model, X)["elbo"], *train(*model, X, **ONE_STEP)["total"]]

    plain, unusual = make(), make()
    unusual[0].extra = tf.Variable([[1.0, 2.0]])
    assert numbers(plain) == numbers(unusual)


@pytest.mark.slow
def test_an_exported_decoder_trains_again_and_is_evaluated(tmp_path):
    exported, plain = make(), make()
    signature = [tf.TensorSpec([None, 2])]
    exported[1].decode = tf.function(lambda z: exported[1](z).mean(), input_signature=signature)
    tf.saved_model.save(exported[1], str(tmp_path))
    assert train(*exported, X, **ONE_STEP).equals(train(*plain, X, **ONE_STEP))
    assert evaluate(*exported, X).equals(evaluate(*plain, X))
    z = np.zeros([2, 2], np.float32)
    np.testing.assert_allclose(exported[1].decode(z), plain[1](z).mean(), rtol=1e-5)
