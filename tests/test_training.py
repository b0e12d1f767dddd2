from vae_helpers import training
from vae_helpers.data import load_images, to_float
from vae_helpers.evaluation import active_units, evaluate, log_likelihood, mutual_information
from vae_helpers.models import Encoder, standard_normal
from vae_helpers.objective import (
    averaged_beta,
    distortion,
    importance_weighted_bound,
    log_weight,
)
from vae_helpers.training import (
    NonFiniteLossError,
    batch_indices,
    check_model,
    copy_variables,
    train,
)

import _thread
import contextlib
import gc
import itertools
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import nbformat
import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp
from nbclient import NotebookClient

tfd = tfp.distributions
LOSSES = ["total", "kl", "reconstruction"]


def plain_loop(encoder, decoder, prior, images, *, num_steps, seed, beta=0.01, batch_size=64):
    """The loop of the post, with the batches and the noise of `train`."""
    draw = tf.function(lambda q, seed: q.sample(seed=seed), jit_compile=True, autograph=False)
    batches = batch_indices(len(images), batch_size, seed)
    optimizer = snt.optimizers.Adam(1e-3)
    rows = []
    for step in range(num_steps):
        x = to_float(images[next(batches)])
        with tf.GradientTape() as tape:
            q = encoder(x)
            # TensorFlow's generator gives other numbers outside a compiled program than inside.
            z = draw(q, tf.constant([seed, step]))
            p = decoder(z)
            kl = tf.reduce_mean(q.kl_divergence(prior))
            reconstruction = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(logits=p.logits, labels=x)
            )
            loss = reconstruction + beta * kl
        variables = encoder.trainable_variables + decoder.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        rows.append([loss, kl, reconstruction])
    return np.array(rows)


def initialize(encoder, decoder, images, seed):
    tf.random.set_seed(seed)
    decoder(encoder(images[:1]).loc)


def test_train_follows_the_plain_loop_for_64_steps(images, make_model):
    """Softplus, since the gradient of the square's KL is unbounded and amplifies rounding."""
    sizes = {"latent_size": 10, "hidden_sizes": [100, 100], "scale_fn": tf.nn.softplus}
    encoder, decoder, prior = make_model(**sizes)
    initialize(encoder, decoder, images, seed=5)
    plain = plain_loop(encoder, decoder, prior, images, num_steps=64, seed=5)
    compiled = train(*make_model(**sizes), images, training_steps=64, seed=5)
    np.testing.assert_allclose(compiled[LOSSES], plain, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 5, 63, 70])
def test_train_takes_the_steps_of_the_plain_loop_with_the_square(images, make_model, steps):
    """From the weights that `train` leaves after some steps, the plain loss is that of the next."""
    sizes = {"latent_size": 10, "hidden_sizes": [100, 100]}
    encoder, decoder, prior = make_model(**sizes)
    train(encoder, decoder, prior, images, training_steps=steps, seed=5)
    following = train(*make_model(**sizes), images, training_steps=steps + 1, seed=5).iloc[-1]
    indices = list(zip(range(steps + 1), batch_indices(len(images), 64, 5), strict=False))[-1][1]
    x = to_float(images[indices])
    q = encoder(x)
    draw = tf.function(lambda q, seed: q.sample(seed=seed), jit_compile=True, autograph=False)
    p = decoder(draw(q, tf.constant([5, steps])))
    kl = np.mean(q.kl_divergence(prior))
    reconstruction = -np.mean(p.log_prob(x))
    known = [reconstruction + 0.01 * kl, kl, reconstruction]
    np.testing.assert_allclose(following[LOSSES].astype(float), known, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 63, 64, 65, 130])
def test_any_number_of_steps_is_exact(images, make_model, steps):
    longest = train(*make_model(), images, training_steps=130)
    losses = train(*make_model(), images, training_steps=steps)
    assert losses["step"].tolist() == list(range(1, steps + 1))
    assert losses.equals(longest.iloc[:steps])


def test_rows_are_consistent_in_both_units(images, make_model):
    losses = train(*make_model(latent_size=3), images, training_steps=70, beta=0.5)
    np.testing.assert_allclose(losses["rate"], 3 * losses["kl"])
    np.testing.assert_allclose(losses["distortion"], 784 * losses["reconstruction"])
    np.testing.assert_allclose(losses["total"], losses["reconstruction"] + 0.5 * losses["kl"])
    assert losses["total"].tail(10).mean() < losses["total"].head(10).mean()


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(images, make_model):
    model = make_model()
    first = train(*model, images, training_steps=70, seed=3)
    train(*make_model(latent_size=2), images, training_steps=5, beta=1.0, seed=8)
    tf.random.normal([3])
    again = make_model()
    assert first.equals(train(*again, images, training_steps=70, seed=3))
    for ours, theirs in zip(model[0].variables, again[0].variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not first.equals(train(*make_model(), images, training_steps=70, seed=4))


def test_a_trained_model_goes_on_from_its_weights(images, make_model):
    model = make_model()
    first = train(*model, images, training_steps=200)
    second = train(*model, images, training_steps=5)
    assert second["total"].iloc[0] < first["total"].iloc[0] - 0.2


@pytest.fixture
def compilations(monkeypatch):
    """Lists what has been compiled, from no program on."""
    training._kept_programs.cache_clear()
    made = []

    class Counted(training._CompiledSteps):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(training, "_CompiledSteps", Counted)
    return made


def test_numbers_do_not_recompile_and_models_of_a_size_share_a_program(
    images, make_model, compilations
):
    for beta, rate, steps, seed in [(0, 1e-3, 3, 0), (0.5, 1e-2, 70, 1), (2, 1e-4, 1, 2)]:
        options = {"beta": beta, "learning_rate": rate, "training_steps": steps, "seed": seed}
        train(*make_model(), images, **options)
    assert len(compilations) == 1
    train(*make_model(), images, batch_size=7, training_steps=1)
    assert len(compilations) == 2
    train(*make_model(), images, training_steps=1, num_samples=2, beta=averaged_beta(1.0, 784, 3))
    assert len(compilations) == 3


def test_threads_wait_for_one_program_and_the_last_six_are_kept(make_model, images):
    encoder, decoder, prior = make_model()
    initialize(encoder, decoder, images, seed=0)
    made = []

    def make(encoder, decoder, prior, spec, shared):
        made.append(spec.shape[0])
        time.sleep(0.05)
        return object()

    def program(size):
        spec = tf.TensorSpec([size, 28, 28, 1])
        return training.compiled(make, encoder, decoder, prior, spec)

    with ThreadPoolExecutor(3) as threads:
        same = set(threads.map(program, [1] * 6))
    assert len(same) == 1 and made == [1]
    for size in (2, 3, 4, 5, 6, 7, 6, 5, 4, 3, 2, 1):
        program(size)
    assert made == [1, 2, 3, 4, 5, 6, 7, 1]


@pytest.mark.slow
def test_a_model_that_cannot_be_copied_is_trained_by_itself(images, make_model):
    class Locked(Encoder):
        def __init__(self):
            super().__init__([16], 3)
            self.lock = threading.Lock()

    _, decoder, prior = make_model(latent_size=3, hidden_sizes=[16])
    locked, ours = (Locked(), decoder), make_model(latent_size=3, hidden_sizes=[16])
    losses = [train(*m[:2], prior, images, training_steps=70, seed=2) for m in (locked, ours)]
    assert losses[0].equals(losses[1])
    for a, b in zip(locked, ours[:2], strict=True):
        np.testing.assert_array_equal(
            np.concatenate([v.numpy().ravel() for v in a.variables]),
            np.concatenate([v.numpy().ravel() for v in b.variables]),
        )


@pytest.mark.slow
def test_trainings_side_by_side_give_the_numbers_of_one_alone(images, make_model, compilations):
    def run(seed):
        model = make_model()
        losses = train(*model, images, training_steps=130, seed=seed)
        return losses, [*model[0].variables, *model[1].variables]

    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(run, range(6)))
    assert len(compilations) == 1
    for seed, (losses, weights) in enumerate(together):
        alone, known = run(seed)
        assert losses.equals(alone)
        for a, b in zip(weights, known, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_weight_that_the_loss_does_not_use_stays(images, make_model):
    class Idle(snt.Module):
        def __init__(self):
            super().__init__()
            self.idle, self.encoder = tf.Variable([3.0]), make_model()[0]
            self.calls = tf.Variable(0, trainable=False)

        def __call__(self, x):
            return self.encoder(x)

    encoder, (_, decoder, prior) = Idle(), make_model()
    losses = train(encoder, decoder, prior, images, training_steps=100)
    assert losses["total"].iloc[-1] < 0.7 * losses["total"].iloc[0]
    np.testing.assert_array_equal(encoder.idle, [3.0])


def test_weights_of_other_sizes_are_not_copied_by_half(images, make_model):
    (first, second, prior), (ours, _, _) = make_model(), make_model()
    other = make_model(hidden_sizes=[8])[1]
    for encoder, decoder in ((first, second), (ours, other)):
        check_model(encoder, decoder, prior, images[:1])
    before = ours.trainable_variables[0].numpy()
    with pytest.raises(ValueError, match="target must have weights of the shapes"):
        copy_variables((first, second), (ours, other))
    np.testing.assert_array_equal(ours.trainable_variables[0], before)


def test_networks_of_another_make_are_trained_too(images, make_model):
    class Linear(snt.Module):
        def __init__(self):
            super().__init__()
            self.linear = snt.Linear(2)

        def __call__(self, x):
            x = tf.image.convert_image_dtype(x, tf.float32)
            return tfd.Laplace(self.linear(snt.flatten(x)), 1.0)

    _, decoder, _ = make_model(latent_size=2)
    prior = tfd.Laplace(tf.zeros(2), tf.ones(2))
    losses = train(Linear(), decoder, prior, images, training_steps=100, beta=0.001)
    assert losses["distortion"].iloc[-1] < losses["distortion"].iloc[0] - 200


def test_nothing_is_kept_alive(images, make_model):
    training._kept_programs.cache_clear()  # or that of another test would serve
    few = images[:100].copy()
    model = make_model()
    train(*model, few, training_steps=2)
    references = [weakref.ref(thing) for thing in (few, *model[:2])]
    del few, model
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]


def test_batches_cover_an_epoch_and_are_shuffled_anew():
    batches = batch_indices(10, 3, seed=0)
    epochs = [np.concatenate([next(batches) for _ in range(3)]) for _ in range(2)]
    for epoch in epochs:
        assert len(set(epoch)) == 9
    assert list(epochs[0]) != list(epochs[1])
    whole = batch_indices(4, 4, seed=0)
    assert sorted(next(whole)) == [0, 1, 2, 3]


@pytest.mark.parametrize("beta", [0.0, 0.01])
def test_blank_images_train_without_nan(make_model, beta):
    blank = np.zeros([64, 28, 28, 1], np.uint8)
    losses = train(*make_model(), blank, beta=beta, training_steps=100)
    assert np.isfinite(losses).all(axis=None)
    assert losses["distortion"].iloc[-1] < losses["distortion"].iloc[0] - 100


def test_floats_train_as_uint8_does(images, make_model):
    kept = images[:500]
    known = train(*make_model(), kept, training_steps=20)
    for given in (kept / np.float32(255), tf.constant(kept), tf.constant(kept / 255)):
        np.testing.assert_allclose(train(*make_model(), given, training_steps=20), known, rtol=1e-2)


def test_one_image_in_a_batch_of_one_trains(images, make_model):
    losses = train(*make_model(latent_size=1, hidden_sizes=[]), images[:1], batch_size=1)
    assert losses["distortion"].iloc[-1] < losses["distortion"].iloc[0] / 2


def test_a_loss_that_is_not_finite_stops_with_step_term_and_cause(images, make_model):
    encoder, decoder, prior = make_model()
    with pytest.raises(NonFiniteLossError) as caught:
        train(encoder, decoder, prior, images, learning_rate=1e6, training_steps=100)
    losses = caught.value.losses
    bad = losses[~np.isfinite(losses[["rate", "distortion"]]).all(axis=1)]
    assert bad.index.tolist() == [len(losses) - 1] and 2 <= len(losses) < 100
    message = str(caught.value)
    assert f"at step {len(losses)} " in message and "learning_rate below 1e+06" in message
    assert "rate is" in message or "distortion is" in message
    assert "beta below" not in message, "a beta of 0.01 is not the cause"
    known = make_model()
    train(*known, images, learning_rate=1e6, training_steps=len(losses) - 1)
    for trained, weight in zip((encoder, decoder), known, strict=False):
        for mine, yours in zip(trained.variables, weight.variables, strict=True):
            np.testing.assert_array_equal(mine, yours, "the weights that gave the last loss")


def test_a_total_that_overflows_is_named(images, make_model):
    with pytest.raises(NonFiniteLossError, match=r"the total .* at step 1 .* below 1e\+38\.$"):
        train(*make_model(), images, beta=1e38, training_steps=3)


@pytest.mark.parametrize("scale", [np.nan, -1.0, 0.0])
def test_what_is_broken_from_the_start_is_not_blamed_on_the_step(images, make_model, scale):
    encoder, decoder, _ = make_model()
    prior = tfd.Normal(tf.zeros(3), tf.fill([3], scale))
    with pytest.raises(NonFiniteLossError, match="rate .* at step 1 .* prior, as they were given"):
        train(encoder, decoder, prior, images, training_steps=3)


@pytest.mark.parametrize("name", ["encoder", "decoder", "prior"])
@pytest.mark.parametrize("value", [None, 3, "mnist", Encoder, lambda x: tf.zeros([len(x), 3])])
def test_what_is_no_model_is_named(images, make_model, name, value):
    model = dict(zip(["encoder", "decoder", "prior"], make_model(), strict=True)) | {name: value}
    calls = {
        train: ["encoder", "decoder", "prior"],
        evaluate: ["encoder", "decoder", "prior"],
        log_likelihood: ["encoder", "decoder", "prior"],
        mutual_information: ["encoder", "prior"],
        active_units: ["encoder"],
    }
    for call, names in calls.items():
        if name in names:
            with pytest.raises(ValueError, match=f"^{name} must (be|return) .* got"):
                call(*(model[n] for n in names), images[:99])


@pytest.mark.parametrize("value", [None, "False", 1])
def test_whether_to_binarize_is_true_or_false(images, make_model, value):
    with pytest.raises(ValueError, match=f"binarized must be True or False, got {value!r}"):
        train(*make_model(), images, binarized=value)


def test_weights_that_the_last_step_throws_out_of_range_are_said(images, make_model):
    encoder, decoder, prior = make_model(scale_fn=tf.sqrt)
    blank = np.zeros([64, 28, 28, 1], np.uint8)  # a scale's gradient at 0 is infinite
    with pytest.raises(NonFiniteLossError, match="weights are not finite after step 1") as caught:
        train(encoder, decoder, prior, blank, training_steps=1)
    assert np.isfinite(caught.value.losses).all(axis=None)


@pytest.mark.parametrize("kind", ["digits", "gray", "black"])
def test_a_posterior_that_collapses_is_said(images, make_model, kind):
    """A weight that leaves no room for a code, or images that need none."""
    gray = np.full([64, 28, 28, 1], 128 * (kind == "gray"), np.uint8)
    given, beta = (images, 1e9) if kind == "digits" else (gray, 0.01)
    match = (
        r"none of the 3 latents is active.* (1e\+09|0.01) where an effective β of 1 is 0\.00383; "
    )
    with pytest.warns(UserWarning, match=match + r"a learning_rate too large, 0\.001;"):
        train(*make_model(), given, beta=beta, training_steps=256)


@pytest.mark.slow
def test_no_collapse_is_said_where_there_is_none(images, make_model, recwarn):
    train(*make_model(latent_size=1), images, training_steps=64)
    train(*make_model(), images, beta=1e9, training_steps=63)  # it is too soon to say
    encoder, decoder, prior = make_model()
    decoder(encoder(images[:1]).loc)
    weight = encoder._mu_linear.w
    weight.assign(weight * [10.0, 0.0, 0.0])  # one active latent is enough
    train(encoder, decoder, prior, images, learning_rate=1e-30, training_steps=64)
    assert not [w for w in recwarn if "active" in str(w.message)]


def test_an_interrupt_keeps_the_rows_and_the_model(images, make_model, monkeypatch):
    def interrupted(*arguments):
        yield from itertools.islice(batch_indices(*arguments), 200)
        raise KeyboardInterrupt

    encoder, decoder, prior = make_model()
    monkeypatch.setattr(training, "batch_indices", interrupted)
    losses = train(encoder, decoder, prior, images, training_steps=1_000)
    monkeypatch.undo()
    assert losses.attrs["interrupted"] and len(losses) == 192  # three whole calls
    known = make_model()
    assert losses.equals(train(*known, images, training_steps=192))
    for ours, theirs in zip(encoder.variables, known[0].variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    again = train(encoder, decoder, prior, images, training_steps=2)
    assert not again.attrs["interrupted"]
    assert again["total"].iloc[0] < losses["total"].iloc[0]


def test_a_real_interrupt_stops_training(images, make_model):
    model = make_model()
    # A process that a shell starts in the background ignores interrupts.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    train(*model, images, training_steps=1)
    timer = threading.Timer(3.0, _thread.interrupt_main)
    timer.start()
    losses = train(*model, images, training_steps=100_000)
    timer.join()
    signal.signal(signal.SIGINT, handler)
    assert losses.attrs["interrupted"] and len(losses) < 100_000


def test_an_interrupt_after_the_last_step_is_not_lost(images, make_model, monkeypatch):
    class Bar(contextlib.nullcontext):
        def __enter__(self):
            return self

        def update(self, _):
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "progress_bar", lambda *_: Bar())
    losses = train(*make_model(), images, training_steps=5)
    assert losses.attrs["interrupted"] and len(losses) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 10_001}, "batch_size must be at most the number of images, 10000"),
        ({"beta": -0.1}, "beta must be a finite number, 0 or above, got -0.1"),
        ({"beta": 1e39}, r"beta must be .* got 1e\+39, beyond float32"),
        ({"learning_rate": 1e-39}, "learning_rate must be .* above 0, got 1e-39, beyond float32"),
        ({"images": np.arange(10)}, r"\[N, H, W, C\], got \[10\], the shape of labels"),
        ({"images": load_images("mnist", "test[:9]")}, "images must be one array .* got a tuple"),
        ({"prior": standard_normal(4)}, "prior must have the latent size of q"),
    ],
)
def test_bad_arguments_are_named(images, make_model, options, message):
    encoder, decoder, prior = make_model()
    arguments = {"prior": prior, "images": images} | options
    with pytest.raises(ValueError, match=message):
        train(encoder, decoder, arguments.pop("prior"), arguments.pop("images"), **arguments)


def test_the_progress_bar_leaves_no_trace(images, make_model, capfd):
    train(*make_model(), images, training_steps=3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_the_progress_bar_leaves_no_trace_in_a_notebook():
    """Not even TensorFlow's log: the outputs of this cell are one line, and an empty display."""
    source = """
from vae_helpers.training import progress_bar
import tensorflow as tf
print(float(tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(1.0))))
with progress_bar(3) as bar:
    shown = bar.fp._handle
    for _ in range(3):
        bar.update()
        bar.refresh()
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    printed, display = notebook.cells[0].outputs
    assert (printed.name, printed.text) == ("stdout", "2.0\n")
    assert (display.output_type, display.data) == ("display_data", {})


def test_shuffles_and_drawn_pixels_follow_the_seed():
    first, second = (next(batch_indices(100, 9, seed)).tolist() for seed in (0, 1))
    assert first != second
    gray = np.full([10, 4, 4, 1], 128, np.uint8)
    drawn = [next(training._calls(gray, 10, 1, True, seed))[1].numpy() for seed in (0, 1)]
    assert (drawn[0] != drawn[1]).any()


TINY = {"latent_size": 2, "hidden_sizes": [], "output_shape": [4, 4, 1]}


def uses_of_a_prior(make_model):
    """Lists what takes a prior, as functions of it that give numbers."""
    x = np.random.default_rng(0).integers(0, 256, [9, 4, 4, 1], np.uint8)
    options = {"batch_size": 3, "training_steps": 2, "progress": False}
    encoder, decoder, _ = make_model(**TINY)
    initialize(encoder, decoder, x, seed=0)
    return [
        lambda prior: evaluate(encoder, decoder, prior, x)["elbo"],
        lambda prior: log_likelihood(encoder, decoder, prior, x, num_samples=9, progress=False),
        lambda prior: train(*make_model(**TINY)[:2], prior, x, **options)["total"],
    ]


@pytest.mark.slow
def test_a_prior_of_one_scale_is_that_of_as_many(make_model):
    for use in uses_of_a_prior(make_model):
        given = use(tfd.Normal(tf.zeros(2), 1.0))
        np.testing.assert_allclose(given, use(standard_normal(2)), rtol=1e-6)


def test_a_prior_of_other_codes_is_named(make_model):
    double = tfd.Normal(tf.zeros(2, tf.float64), tf.ones(2, tf.float64))
    for use in uses_of_a_prior(make_model):
        with pytest.raises(ValueError, match="prior must have the latent size of q"):
            use(standard_normal(3))
        with pytest.raises(ValueError, match="prior must be float32, as q is, got float64"):
            use(double)


@pytest.mark.slow
def test_the_random_generator_of_the_caller_stays_where_it_is(images, make_model):
    model = make_model(latent_size=2, hidden_sizes=[7])
    initialize(*model[:2], images, seed=0)
    drawn = []
    training._kept_programs.cache_clear()
    for _ in range(2):  # compiled, then from the cache
        tf.random.set_seed(7)  # another than that of the training
        train(*model, images[:64], training_steps=1, progress=False)
        evaluate(*model, images[:9])
        log_likelihood(*model, images[:9], num_samples=1, progress=False)
        drawn.append(tf.random.normal([2]).numpy())
    tf.random.set_seed(7)
    np.testing.assert_array_equal(drawn, [tf.random.normal([2])] * 2)


@pytest.mark.slow
def test_several_draws_follow_the_plain_loop_on_their_bound(make_model):
    ink = np.random.default_rng(0).integers(0, 2, [8, 4, 4, 1], np.uint8) * 255
    sizes = {"hidden_sizes": [8], "output_shape": [4, 4, 1], "scale_fn": tf.nn.softplus}
    options = {"batch_size": 8, "beta": averaged_beta(1.0, 16, 3), "learning_rate": 0.05}
    losses = train(*make_model(**sizes), ink, num_samples=5, training_steps=3, seed=4, **options)
    encoder, decoder, prior = make_model(**sizes)
    initialize(encoder, decoder, ink, seed=4)
    optimizer, batches = snt.optimizers.Adam(0.05), batch_indices(8, 8, 4)
    draw = tf.function(lambda q, seed: q.sample(5, seed=seed), jit_compile=True, autograph=False)
    known = []
    for step in range(3):
        x = ink[next(batches)]
        with tf.GradientTape() as tape:
            q = encoder(x)
            z = draw(q, tf.constant([4, step]))
            distortions = tf.stack([distortion(decoder(z[i]), x) for i in range(5)])
            weights = log_weight(q, prior, distortions, z)
            loss = -tf.reduce_mean(importance_weighted_bound(weights)) / 16
        variables = encoder.trainable_variables + decoder.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        known.append(loss)
    np.testing.assert_allclose(losses["total"], known, rtol=1e-4)
