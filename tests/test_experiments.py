from vae_helpers import experiments
from vae_helpers.evaluation import evaluate
from vae_helpers.experiments import sweep
from vae_helpers.training import NonFiniteLossError, train

import functools
import json
import multiprocessing
import os
import pickle
import runpy
import shutil
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from unittest.mock import MagicMock

import pandas as pd
import pytest
import tensorflow as tf

SMALL = {"hidden_sizes": [16], "latent_size": 2, "training_steps": 30}
SEVERAL = [SMALL | {"seed": seed} for seed in range(4)]


@pytest.fixture
def stub(monkeypatch, images):
    """Returns `sweep` for models that need no training; `.trained` are their configurations."""
    stub = functools.partial(sweep, images=images[:9], test_images=images[:5])
    stub.trained = []

    def run(data, *, measure, **configuration):
        time.sleep(0.01)
        stub.trained.append(configuration)
        return {"elbo": -float(configuration["seed"])}

    monkeypatch.setattr(experiments, "_run", run)
    return stub


@pytest.mark.slow
def test_each_row_has_its_held_out_numbers(small_images, make_model):
    # No unit is active on copies of one image.
    kept, held_out = small_images, small_images[:1].repeat(100, axis=0)
    configurations = [SMALL | {"seed": seed, "beta": 0.02} for seed in (0, 1)]
    table = sweep(configurations, kept, held_out, measure=lambda *model: {"kinds": len(model)})
    assert table[["seed", "kinds", "error"]].values.tolist() == [[0, 3, None], [1, 3, None]]
    model = make_model()
    train(*model, kept, beta=0.02, training_steps=30, seed=1)
    known = evaluate(*model, held_out).mean()
    assert table.loc[1, known.index].tolist() == pytest.approx(known.tolist(), rel=1e-6)
    assert table["active_units"].tolist() == [0, 0]


def test_models_of_one_program_follow_each_other(stub):
    pairs = [(2, 0), (1, 0), (3, 0), (1, 1), (3, 1), (2, 1)]
    table = stub([SMALL | {"latent_size": size, "seed": seed} for size, seed in pairs])
    order = [(c["latent_size"], c["seed"]) for c in stub.trained]
    assert order == [(2, 0), (2, 1), (1, 0), (1, 1), (3, 0), (3, 1)]
    assert [*zip(table["latent_size"], table["seed"], strict=True)] == pairs
    assert table["elbo"].tolist() == [0, 0, 0, -1, -1, -1]


@pytest.mark.slow
def test_a_failure_is_a_row_unless_all_fail(small_images, tmp_path):
    images = small_images
    configurations = [SMALL | {"learning_rate": rate} for rate in (1e-3, 1e30, 1e-2)]
    file = tmp_path / "rows.jsonl"
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 3 configurations failed.*1e\\+30.*at step"):
            table = sweep(configurations, images, images[:100], file=file)
        assert table["learning_rate"].tolist() == [1e-3, 1e30, 1e-2]
        assert table["error"][1].startswith("NonFiniteLossError: ")
        failed = [False, True, False]
        assert table["error"].notna().tolist() == table["elbo"].isna().tolist() == failed
        assert len(file.read_text().splitlines()) == 2
    with pytest.raises(NonFiniteLossError, match="at step.*below 1e\\+30"):
        sweep([SMALL | {"learning_rate": rate} for rate in (1e30, 2e30)], images, images[:100])


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor(1)])
def test_an_interrupt_keeps_the_finished_rows(stub, tmp_path, monkeypatch, executor):
    bar = MagicMock()
    bar.__enter__.return_value.update.side_effect = KeyboardInterrupt
    monkeypatch.setattr(experiments, "progress_bar", lambda *_: bar)
    file = tmp_path / "rows.jsonl"
    table = stub([SMALL | {"seed": seed} for seed in range(99)], executor=executor, file=file)
    assert len(table) == len(file.read_text().splitlines()) == 1
    (executor or ThreadPoolExecutor(1)).submit(int).result()  # after all that was left to it
    assert len(stub.trained) < 99


def test_an_interrupted_training_is_no_row(images, monkeypatch):
    losses = pd.DataFrame()
    losses.attrs["interrupted"] = True
    monkeypatch.setattr(experiments, "train", lambda *_, **__: losses)
    assert sweep([SMALL], images[:200], images[:100]).empty


def test_a_sweep_resumes_from_its_file(stub, tmp_path):
    links = [SMALL | {"seed": 9, "scale_fn": link} for link in (tf.exp, tf.nn.softplus, tf.square)]
    file = tmp_path / "rows of β.jsonl"
    first = stub(SEVERAL[:2], file=file)
    whole = stub(SEVERAL + links, file=file)
    pd.testing.assert_frame_equal(whole[["seed", "elbo"]][:2], first[["seed", "elbo"]])
    pd.testing.assert_frame_equal(stub(SEVERAL + links, file=file), whole)
    assert len(stub.trained) == 7
    line = json.loads(file.read_text().splitlines()[4])
    assert line.pop("data_digest")
    link = {"scale_fn": "tensorflow.python.ops.math_ops.exp"}
    assert line == SMALL | link | {"seed": 9, "elbo": -9.0}
    file.write_text(file.read_text()[:-9])  # as a process leaves it that is killed
    for _ in range(3):
        pd.testing.assert_frame_equal(stub(SEVERAL + links, file=file), whole)
    assert len(stub.trained) == 9, "what is half there, and what was written after it"


def measure(*_):
    return {"process": os.getpid()}


def test_a_row_in_a_file_is_of_its_images_versions_and_code(stub, images, tmp_path, monkeypatch):
    run = functools.partial(stub, SEVERAL[:1], file=tmp_path / "rows.jsonl")
    x, y = images[:9], images[:5]
    same_bytes = {"images": x.reshape(9, 14, 56, 1), "test_images": y.reshape(5, 14, 56, 1)}
    changes = [{}, same_bytes, {"images": 255 - x}, {"test_images": 255 - y}]
    changes.append({"measure": lambda *_: {"further": 3}})
    changes.append({"measure": lambda *_: {"further": 4}})
    for number, change in enumerate(changes, 1):
        run(**change)
        run(**change)
        assert len(stub.trained) == number, change
    monkeypatch.setattr(tf, "__version__", "0.0")
    run()
    assert len(stub.trained) == 7


def test_rows_are_of_the_source_of_the_package(images, tmp_path):
    shutil.copytree(
        Path(experiments.__file__).parent, tmp_path / "copy", ignore=lambda *_: ["files"]
    )
    digests = [experiments._data_digest((images, images), None)]
    for edit in ("", "# another package\n"):
        with (tmp_path / "copy" / "support" / "progress.py").open("a") as file:
            file.write(edit)
        copy = runpy.run_path(str(tmp_path / "copy" / "experiments.py"))
        digests.append(copy["_data_digest"]((images, images), None))
    assert digests[0] == digests[1] != digests[2]


@functools.wraps(tf.nn.softplus)
def disguised(u):
    return tf.square(u)


OWN = "scale_fn must be a function of TensorFlow or TFP itself"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"configurations": []}, "configurations must name .*got"),
        ({"configurations": SMALL}, "configurations must name .*got"),
        ({"configurations": [{"latent_size": 2}]}, "configurations must name .*hidden_sizes.*got"),
        ({"betta": 1}, "configurations must .*beta.*got .*betta"),
        ({"beta": -1}, "beta must be a finite number"),
        ({"latent_size": 0}, "latent_size must be a positive integer"),
        ({"scale_fn": lambda u: u**2}, OWN),
        ({"scale_fn": disguised}, OWN),
        ({"scale_fn": functools.partial(tf.exp)}, OWN),
    ],
)
def test_refuses_a_bad_argument_before_it_trains(images, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(experiments, "evaluate", lambda *_: pytest.fail("it trained"))
    arguments = {"images": images[:99], "test_images": images[:9], "file": tmp_path / "rows.jsonl"}
    if {*changes}.isdisjoint({"configurations", "measure", *arguments}):
        changes = {"configurations": [SMALL | changes]}
    with pytest.raises(ValueError, match=message):
        sweep(**{"configurations": [SMALL]} | arguments | changes)


@pytest.mark.parametrize("returned", [None, {"rate": 3}, {"seed": 3}, {"error": 3}])
def test_a_measure_returns_further_columns(small_images, returned):
    with pytest.raises(ValueError, match="measure must return a dictionary of further columns"):
        sweep([SMALL], small_images, small_images[:100], measure=lambda *_: returned)


def test_a_task_carries_no_images(small_images):
    images = small_images

    class Weighing(ThreadPoolExecutor):
        def submit(self, *call, **options):
            assert len(pickle.dumps([call, options])) < 10_000 < images.nbytes
            return super().submit(*call, **options)

    with Weighing(1) as pool:
        there = sweep([SMALL], images, images[:100], executor=pool)
    pd.testing.assert_frame_equal(there, sweep([SMALL], images, images[:100]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:1 of 5 configurations failed")
def test_another_process_gives_the_same_numbers(small_images):
    images = small_images
    configurations = [*SEVERAL, SMALL | {"learning_rate": 1e30}]
    here = sweep(configurations, images, images[:100])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = sweep(configurations, images, images[:100], executor=pool)
    pd.testing.assert_frame_equal(here, there, check_exact=True)


@pytest.mark.weekly
def test_a_cluster_outlives_a_killed_worker(images, tmp_path):
    """No row is lost, none comes twice, and what the worker has reported stays."""
    distributed = pytest.importorskip("distributed")
    configurations = [SMALL | {"training_steps": 1000, "seed": seed} for seed in range(10)]
    run = functools.partial(sweep, configurations, images, images[:100])
    file, killed = tmp_path / "rows.jsonl", []

    def kill_one():
        while len(lines := file.read_text().splitlines() if file.exists() else []) < 3:
            time.sleep(0.01)
        killed.append(json.loads(lines[2])["process"])
        os.kill(killed[0], signal.SIGKILL)

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as two,
        distributed.Client(two) as client,
    ):
        killer = threading.Thread(target=kill_one)
        killer.start()
        there = run(measure=measure, executor=client.get_executor(), file=file)
        killer.join()
        assert killed[0] not in client.run(os.getpid).values(), "another has taken its place"
    assert killed[0] in set(there["process"]) and there["process"].nunique() > 1
    pd.testing.assert_frame_equal(run(), there.drop(columns="process"), check_exact=True)
    assert len(file.read_text().splitlines()) == len(configurations)
