"""The command for long trainings: whatever kills it, and wherever it runs, the model is the same."""

from vae_helpers import training
from vae_helpers.data import load_images
from vae_helpers.evaluation import evaluate
from vae_helpers.experiments import sweep
from vae_helpers.models import Decoder, Encoder, standard_normal, variables_of

import contextlib
import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import train

SPLITS = ["--train-split", "test[:1000]", "--test-split", "test[1000:1500]"]
SMALL = ["--hidden-sizes", "16", "--latent-size", "3", "--scale-fn", "softplus", *SPLITS]
MODEL = {"hidden_sizes": [16], "latent_size": 3, "scale_fn": "softplus"}
STEPS = ["--training-steps", "300", "--checkpoint-every", "100"]
IN_A_SEGMENT = """
table_of = train.table_of
train.table_of = lambda rows, done, options: table_of(rows, done, options) if done < 100 else die()
"""
BEFORE_ITS_CHECKPOINT = """
save = train.tf.train.CheckpointManager.save
train.tf.train.CheckpointManager.save = lambda self, n: save(self, n) if n < 200 else die()
"""


def start(folder, *options, dies="", **environment) -> subprocess.Popen:
    """Runs the command in a process of its own, which may kill itself somewhere."""
    code = "import os, signal, train\ndie = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
    paths = os.pathsep.join(sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", f"{code}{dies}\ntrain.main()", folder, *SMALL, *options],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command in this process; returns what it prints."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["train.py", *map(str, arguments)])
        train.main()
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def known():
    """The losses and the weights of `training.train`."""
    encoder, decoder = Encoder([16], 3, scale_fn=tf.nn.softplus), Decoder([16], [28, 28, 1])
    images, _ = load_images("mnist", "test[:1000]")
    options = {"training_steps": 300, "progress": False}
    losses = training.train(encoder, decoder, standard_normal(3), images, **options)
    return losses, [variable.numpy() for variable in variables_of(encoder, decoder)]


def assert_equals(folder, known, **tolerance):
    """Compares what a folder holds, and each step once."""
    losses, weights = known
    table = pd.read_csv(folder / "losses.csv")
    assert list(table) == list(losses)
    assert table["step"].tolist() == [*range(1, len(table) + 1)]
    exact = {"rtol": 0, "atol": 0} | tolerance
    these, those = (t.to_numpy(np.float32) for t in (table, losses[: len(table)]))
    np.testing.assert_allclose(these, those, **exact)
    if len(table) == len(losses):
        for mine, value in zip(variables_of(*train.load(folder)), weights, strict=True):
            np.testing.assert_allclose(mine, value, **exact)


@pytest.mark.weekly
@pytest.mark.parametrize("dies", [IN_A_SEGMENT, BEFORE_ITS_CHECKPOINT], ids=["segment", "between"])
def test_killed_at_any_step_it_goes_on_to_the_bits_of_train(run, known, tmp_path, dies):
    process = start(tmp_path, *STEPS, dies=dies)
    assert process.communicate() == ("", "")
    assert process.returncode == -9
    assert tf.train.latest_checkpoint(tmp_path).endswith("ckpt-100")
    run(tmp_path, *SMALL, *STEPS)
    assert_equals(tmp_path, known)


@pytest.mark.slow
def test_it_goes_on_from_its_checkpoint_to_the_bits_of_train(run, known, tmp_path):
    run(tmp_path, *SMALL, "--training-steps", 100)
    said = run(tmp_path, *SMALL, *STEPS)
    assert "step 300 of 300: total 0." in said
    assert_equals(tmp_path, known)
    held_out = evaluate(*train.load(tmp_path), load_images("mnist", "test[1000:1500]")[0]).mean()
    assert json.loads((tmp_path / "held_out.json").read_text()) == pytest.approx(dict(held_out))
    assert f"elbo {held_out['elbo']:.2f}" in said
    with pytest.raises(SystemExit, match="training_steps must be at least 300.*got 200"):
        run(tmp_path, *SMALL, "--training-steps", 200)


@pytest.mark.weekly
def test_two_devices_equal_one_to_rounding(known, tmp_path):
    said, errors = start(tmp_path, *STEPS, "--devices", "2").communicate()
    assert errors == ""
    assert [line.split(" ")[0] for line in said.splitlines()] == ["step", "held"]
    assert_equals(tmp_path, known, rtol=1e-5, atol=1e-6)


def start_hosts(folder, *options, dies="") -> list[subprocess.Popen]:
    """Starts two hosts on this machine, the second of which may kill itself."""
    with socket.socket() as one, socket.socket() as two:
        for free in (one, two):
            free.bind(("127.0.0.1", 0))
        workers = [f"127.0.0.1:{free.getsockname()[1]}" for free in (one, two)]
    configurations = [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        for index in range(2)
    ]
    return [
        start(folder, *options, dies=dies_now, TF_CONFIG=configuration)
        for configuration, dies_now in zip(configurations, ["", dies], strict=True)
    ]


@pytest.mark.weekly
def test_two_hosts_equal_one_device_to_rounding_and_go_on_after_a_death(run, known, tmp_path):
    options = "--training-steps", "200", "--checkpoint-every", "100"
    first, second = start_hosts(tmp_path, *options, dies=IN_A_SEGMENT)
    assert second.wait(120) == -9
    assert "a host is gone: start all again" in first.communicate(timeout=60)[1]
    assert len(pd.read_csv(tmp_path / "losses.csv")) == 100
    first, second = start_hosts(tmp_path, *options)
    assert second.communicate(timeout=120) == ("", "")
    said, errors = first.communicate(timeout=60)
    assert (first.returncode, errors) == (0, "")
    assert "step 200 of 200" in said
    assert_equals(tmp_path, known, rtol=1e-5, atol=1e-6)
    run(tmp_path, *SMALL, *STEPS)  # one device goes on with what two hosts have left
    assert_equals(tmp_path, known, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_sweep_from_toml_equals_sweep_and_goes_on(run, tmp_path):
    (tmp_path / "a.toml").write_text(
        'scale_fn = "softplus"\nhidden_sizes = [16]\nlatent_size = 3\n'
        "beta = [0.01, 0.1]\nseed = [0, 1]\ntraining_steps = 999\n"
    )
    arguments = tmp_path / "a", tmp_path / "a.toml", *SPLITS, "--training-steps", 20
    table = run(*arguments)
    configurations = [
        MODEL | {"scale_fn": tf.nn.softplus, "beta": beta, "seed": seed, "training_steps": 20}
        for beta in (0.01, 0.1)
        for seed in (0, 1)
    ]
    images = [load_images("mnist", split)[0] for split in SPLITS[1::2]]
    known = sweep(configurations, *images)
    lines = (tmp_path / "a" / "rows.jsonl").read_text().splitlines()
    rows = pd.DataFrame(map(json.loads, lines))
    for name in ("beta", "seed", "training_steps", "rate", "distortion", "elbo"):
        assert rows[name].tolist() == known[name].tolist()
    assert run(*arguments) == table
    assert (tmp_path / "a" / "rows.jsonl").read_text().splitlines() == lines
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster:
        table_of_dask = run(
            tmp_path / "b", *arguments[1:], "--scheduler", cluster.scheduler_address
        )
    assert table_of_dask == table


OTHER = "a has a checkpoint of beta 0.01, not 0.02, seed 0, not 3: choose another folder"


@pytest.mark.parametrize(
    ("in_file", "options", "message"),
    [
        ("betta = 0.1", [], r"a.toml may have the names .*'beta'.*got \['betta'\]"),
        ("beta = -1", [], "beta must be a finite number, 0 or above, got -1"),
        ("beta = 1", ["--beta", "-2"], "beta must be a finite number, 0 or above, got -2.0"),
        ('scale_fn = "relu"', [], r"scale_fn must be one of \['square'.*got 'relu'"),
        ("hidden_sizes = 16", [], "hidden_sizes must be a list of positive integers, got 16"),
        ("training_steps = 0.5", [], "training_steps must be a positive integer .*got 0.5"),
        ("", ["--batch-size", "64"], "batch_size must be divisible by .*replicas, 3, got 64"),
        ("", ["--data-set", "nist"], "name must be a TensorFlow Datasets image set, got 'nist'"),
        ("beta = 0.02", ["--seed", "3"], OTHER),
    ],
)
def test_what_is_wrong_is_named(run, monkeypatch, tmp_path, in_file, options, message):
    three = SimpleNamespace(scope=contextlib.nullcontext, num_replicas_in_sync=3)
    if "divisible" in message:
        monkeypatch.setattr(train.replicas, "make_strategy", lambda _: three)
    if message == OTHER:
        tf.train.CheckpointManager(tf.train.Checkpoint(), tmp_path / "a", 1).save()
        (tmp_path / "a" / "hyperparameters.json").write_text(json.dumps(train.DEFAULTS))
        options = [*options, "--train-split", "train", "--test-split", "test"]
    (tmp_path / "a.toml").write_text(in_file)
    with pytest.raises(SystemExit, match=message):
        run(tmp_path / "a", tmp_path / "a.toml", *SPLITS, *options)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_its_step_and_likely_cause(run, tmp_path):
    with pytest.raises(SystemExit, match="not finite at step .*learning_rate below 1e"):
        run(tmp_path, *SMALL, "--learning-rate", "1e30")
    assert tf.train.latest_checkpoint(tmp_path) is None
