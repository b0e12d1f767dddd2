from vae_helpers import experiments
from vae_helpers.evaluation import evaluate
from vae_helpers.experiments import sweep
from vae_helpers.training import NonFiniteLossError, train

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import types
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

SMALL = {"hidden_sizes": [16], "latent_size": 2, "training_steps": 30}


def test_each_configuration_is_a_row_with_its_held_out_numbers(images, make_model):
    kept, held_out = images[:2000], images[2000:3000]
    configurations = [SMALL | {"seed": seed, "beta": 0.02} for seed in (0, 1)]
    table = sweep(configurations, kept, held_out, measure=lambda *model: {"kinds": len(model)})
    assert table["seed"].tolist() == [0, 1] and table["kinds"].tolist() == [3, 3]
    np.testing.assert_allclose(table["elbo"], -table["rate"] - table["distortion"])
    model = make_model(latent_size=2, hidden_sizes=[16])
    train(*model, kept, beta=0.02, training_steps=30, seed=1)
    known = evaluate(*model, held_out).mean()
    for term in ("rate", "distortion", "elbo"):
        assert table[term][1] == pytest.approx(known[term], rel=1e-6)
    assert set(table["active_units"]) <= {0, 1, 2}


def test_models_of_one_program_are_trained_one_after_the_other(images, monkeypatch):
    trained = []

    def run(configuration, *_):
        trained.append((configuration["latent_size"], configuration["seed"]))
        return {"elbo": -float(configuration["seed"])}

    monkeypatch.setattr(experiments, "_run", run)
    pairs = [(2, 0), (1, 0), (3, 0), (1, 1), (3, 1), (2, 1)]
    configurations = [SMALL | {"latent_size": n, "seed": s} for n, s in pairs]
    with ThreadPoolExecutor(1) as executor:
        table = sweep(configurations, images[:2], images[:2], executor=executor)
    assert trained == [(2, 0), (2, 1), (1, 0), (1, 1), (3, 0), (3, 1)]
    assert [*zip(table["latent_size"], table["seed"], strict=True)] == pairs
    assert table["elbo"].tolist() == [0, 0, 0, -1, -1, -1]


def test_active_units_are_those_of_the_held_out_images(images):
    configurations = [SMALL | {"beta": 1e-4, "training_steps": 200}]
    one_image = np.repeat(images[:1], 9, axis=0)  # which no latent tells apart
    found = [
        sweep(configurations, images[:200], x)["active_units"][0]
        for x in (images[200:300], one_image)
    ]
    assert found[0] > 0 and found[1] == 0


def test_an_interrupt_keeps_the_finished_rows(images, monkeypatch):
    """It reaches the main thread, while it waits for the models."""

    class Interrupted:
        def update(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(
        experiments, "progress_bar", lambda *_: contextlib.nullcontext(Interrupted())
    )
    configurations = [SMALL | {"seed": seed} for seed in range(12)]
    table = sweep(configurations, images, images[:100])
    assert 1 <= len(table) < 12
    assert table["seed"].is_monotonic_increasing and not table["elbo"].isna().any()
    whole = sweep(configurations, images, images[:100], progress=False)
    pd.testing.assert_frame_equal(table, whole.loc[table["seed"]].reset_index(drop=True))


def test_a_failure_is_a_row(images):
    configurations = [SMALL | {"learning_rate": rate} for rate in (1e-3, 1e30, 1e-2)]
    with pytest.warns(UserWarning, match="1 of 3 configurations failed.*1e\\+30.*at step"):
        table = sweep(configurations, images, images[:100])
    assert table["learning_rate"].tolist() == [1e-3, 1e30, 1e-2]
    assert table["error"].notna().tolist() == [False, True, False]
    assert table["error"][1].startswith("NonFiniteLossError: ")
    assert table["elbo"].isna().tolist() == [False, True, False]


def test_if_all_fail_the_first_says_why(images):
    configurations = [SMALL | {"seed": seed, "learning_rate": 1e30} for seed in range(4)]
    with pytest.raises(NonFiniteLossError, match="at step"):
        sweep(configurations, images, images[:100])


class Counter:
    """Counts the trainings of sweeps."""

    def __init__(self):
        self.trained = 0

    def __call__(self, *_):
        self.trained += 1
        return {"trained": self.trained}


@pytest.mark.slow
def test_a_sweep_resumes_from_its_file(images, tmp_path):
    file, count = tmp_path / "rows of β.csv", Counter()
    configurations = [
        SMALL | {"seed": seed, "scale_fn": link} for seed in (0, 1) for link in (tf.exp, tf.square)
    ]
    run = functools.partial(sweep, images=images[:500], test_images=images[:100], file=file)
    first = run(configurations[:2], measure=count)
    assert count.trained == 2
    whole = run(configurations, measure=count)
    assert count.trained == 4
    pd.testing.assert_frame_equal(whole[:2], first)
    with file.open("a") as lines:
        lines.write('10,"[16]",')  # as a power cut leaves it
    pd.testing.assert_frame_equal(run(configurations, measure=count), whole)
    assert count.trained == 4
    run(configurations[:1], test_images=images[:99], measure=count)
    assert count.trained == 5, "other images, other rows"
    assert run(configurations, measure=count)["elbo"].tolist() == whole["elbo"].tolist()
    assert len(file.read_text().splitlines()) == 6


@pytest.mark.slow
def test_a_row_in_a_file_is_of_its_images_and_version(images, tmp_path, monkeypatch):
    count = Counter()
    run = functools.partial(sweep, [SMALL], measure=count, file=tmp_path / "rows.csv")
    run(images[:200], images[:100])
    run(images[:200].reshape(200, 14, 56, 1), images[:100].reshape(100, 14, 56, 1))
    assert count.trained == 2, "the same bytes, in another shape"
    run(255 - images[:200], images[:100])
    run(images[:200], 255 - images[:100])
    assert count.trained == 4, "other pixels of the same shape"
    monkeypatch.setattr(tf, "__version__", "0.0")
    run(images[:200], images[:100])
    assert count.trained == 5, "another version may compute other numbers"


def test_an_interrupted_training_is_no_row(images, monkeypatch):
    """A terminal interrupts the processes of a pool, too, and `train` returns what it has."""

    def interrupted(*model, **options):
        losses = train(*model, **options)
        losses.attrs["interrupted"] = True
        return losses

    monkeypatch.setattr(experiments, "train", interrupted)
    assert len(sweep([SMALL], images[:200], images[:100])) == 0


def test_a_failure_is_tried_again_by_the_next_sweep(images, tmp_path):
    configurations = [SMALL | {"learning_rate": rate} for rate in (1e-3, 1e30)]
    file = tmp_path / "rows.csv"
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 2 configurations failed"):
            sweep(configurations, images, images[:100], file=file)
    assert len(file.read_text().splitlines()) == 2


def test_what_no_file_can_hold_is_named(images, tmp_path):
    run = functools.partial(sweep, images=images[:100], test_images=images[:100])
    file = tmp_path / "rows.csv"
    with pytest.raises(ValueError, match="scale_fn must be a function of a module"):
        run([SMALL | {"scale_fn": lambda u: u**2}], file=file)
    for link in ("exp", functools.partial(tf.exp)):
        with pytest.raises(ValueError, match="scale_fn must be a function of a module"):
            run([SMALL | {"scale_fn": link}], file=file)
    with pytest.raises(ValueError, match="model must be a number or a text"):
        run([SMALL], measure=lambda *model: {"model": model}, file=file)
    assert not file.exists()
    run([SMALL], file=file)
    with pytest.raises(ValueError, match="file must have the columns.*kinds"):
        run([SMALL | {"seed": 1}], measure=lambda *model: {"kinds": 3}, file=file)
    file.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="file must be new or of another sweep"):
        run([SMALL], file=file)


def test_what_would_fail_in_the_end_is_said_before_anything_is_trained(images, tmp_path):
    count = Counter()
    for options, message in [
        ({"measure": 3}, "measure must be a function, got 3"),
        (
            {"test_images": images[:9, :14]},
            r"test_images must have.*28, 28, 1\], got \[14, 28, 1\]",
        ),
        ({"file": "/dev/null"}, "file must be a regular file, got /dev/null"),
    ]:
        valid = {"images": images[:99], "test_images": images[:9], "measure": count}
        with pytest.raises(ValueError, match=message):
            sweep([SMALL], **valid | options)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "rows.csv")
    with pytest.raises(OSError, match="link cannot be written"):
        sweep([SMALL], **valid, file=tmp_path / "link")
    assert count.trained == 0


@pytest.mark.parametrize("executor", [3, "dask", ProcessPoolExecutor])
def test_what_runs_nothing_is_named(images, executor):
    with pytest.raises(ValueError, match="^executor must be .*, got"):
        sweep([SMALL], images[:99], images[:9], executor=executor)


@pytest.mark.parametrize("configurations", [None, 3, "abc", [3]])
def test_what_are_no_configurations_is_named(images, configurations):
    with pytest.raises(ValueError, match="^configurations must be a list of dictionaries"):
        sweep(configurations, images[:99], images[:9])
    with pytest.raises(ValueError, match="^file must be a path, got 3.5"):
        sweep([SMALL], images[:99], images[:9], file=3.5)


@pytest.mark.parametrize("returned", [None, [1], {1: 2}])
def test_a_measure_returns_named_columns(images, returned):
    with pytest.raises(ValueError, match="measure must return a dictionary of named columns"):
        sweep([SMALL], images[:99], images[:9], measure=lambda *model: returned)


def test_a_fork_is_refused(images):
    context = multiprocessing.get_context("fork")
    with (
        ProcessPoolExecutor(1, mp_context=context) as pool,
        pytest.raises(RuntimeError, match='mp_context=multiprocessing.get_context."spawn"'),
    ):
        sweep([SMALL], images[:100], images[:100], executor=pool)


SEVERAL = [
    SMALL | {"seed": seed, "learning_rate": rate} for seed in (0, 1) for rate in (1e-3, 1e30)
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:2 of 4 configurations failed")
def test_processes_give_the_same_numbers(images):
    here = sweep(SEVERAL, images, images[:100])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        there = sweep(SEVERAL, images, images[:100], executor=pool)
    pd.testing.assert_frame_equal(here, there, check_exact=True)


def process(*_):
    return {"process": os.getpid()}


@pytest.mark.slow
def test_a_cluster_outlives_a_killed_worker(images, tmp_path, monkeypatch):
    """Nothing is lost and nothing comes twice."""
    distributed = pytest.importorskip("distributed")
    configurations = [SMALL | {"training_steps": 1000, "seed": seed} for seed in range(10)]
    here = sweep(configurations, images, images[:100])
    file = tmp_path / "rows.csv"
    add, added = experiments._File.add, []

    def add_and_kill(self, key, row):
        add(self, key, row)
        added.append(row["process"])
        if len(added) == 3:
            os.kill(row["process"], signal.SIGKILL)

    monkeypatch.setattr(experiments._File, "add", add_and_kill)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as two,
        distributed.Client(two) as client,
    ):
        pids = set(client.run(os.getpid).values())
        cluster = {"executor": client.get_executor(), "file": file}
        there = sweep(configurations, images, images[:100], measure=process, **cluster)
        assert set(client.run(os.getpid).values()) != pids, "a worker has taken its place"
    assert there["process"].tolist().count(added[2]) <= 3
    pd.testing.assert_frame_equal(here, there.drop(columns="process"), check_exact=True)
    assert len(added) == len(configurations)
    assert len(file.read_text().splitlines()) == 1 + len(configurations)


@pytest.mark.parametrize(
    ("configurations", "message"),
    [
        ([], "configurations must hold at least one"),
        ([{"latent_size": 2}], "configurations must name.*got"),
        ([SMALL | {"betta": 1}], "configurations must name.*betta"),
        ([SMALL | {"beta": -1}], "beta must be a finite number"),
        ([SMALL | {"latent_size": 0}], "latent_size must be a positive integer"),
    ],
)
def test_bad_configurations_are_named(images, configurations, message):
    with pytest.raises(ValueError, match=message):
        sweep(configurations, images[:100], images[:100])


@pytest.mark.parametrize("name", ["rate", "seed", "error"])
def test_a_measure_replaces_no_column(images, name):
    with pytest.raises(ValueError, match=f"measure must name other columns than .'{name}'"):
        sweep([SMALL], images[:100], images[:100], measure=lambda *_: {name: 3})


class Settings(Mapping):
    """No more than a mapping has to be: it has no |."""

    def __getitem__(self, name):
        return SMALL[name]

    def __iter__(self):
        return iter(SMALL)

    def __len__(self):
        return len(SMALL)


@pytest.mark.parametrize("configuration", [Settings(), types.MappingProxyType(SMALL)])
def test_a_configuration_is_any_mapping(images, configuration):
    table = sweep([configuration], images[:100], images[:100])
    assert table["latent_size"].tolist() == [2]


def test_a_task_carries_no_images(images):
    """They go to each worker once, and with each task only where they are."""

    class Weighing(ThreadPoolExecutor):
        def submit(self, function, *arguments):
            assert len(pickle.dumps(arguments)) < 10_000 < images.nbytes
            return super().submit(function, *arguments)

    with Weighing(1) as pool:
        there = sweep([SMALL], images, images[:100], executor=pool)
    pd.testing.assert_frame_equal(there, sweep([SMALL], images, images[:100]))


def test_an_executor_that_gives_up_is_said(images):
    class GivesUp(Executor):
        def submit(self, *_):
            future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    with pytest.raises(RuntimeError, match="the executor gave it up"):
        sweep([SMALL], images[:100], images[:100], executor=GivesUp())
