"""Trains one model, or a sweep of them, where the work has outgrown a laptop.

The post's model, in 100,000 steps on one device:

    python tools/train.py runs/a --beta 0.01 --training-steps 100000

Every --checkpoint-every steps the folder gets a checkpoint, and losses.csv a row for each step. After
a kill the same command goes on from there; so does one that asks for more --training-steps. At the
end there are held_out.json and weights.npz, of which `train.load("runs/a")` makes encoder, decoder
and prior, in a Python with tools on its path. All is as `training.train` gives it: on one CPU bit
for bit, elsewhere up to rounding, as far as the model forgives that (see notebook 08).

`--help` lists the names. They may stand in a file, which yields to the command line:

    python tools/train.py runs/b b.toml --seed 1

A list in place of a value, beta = [0.01, 0.1] or hidden_sizes = [[100, 100], [200]], makes it a
sweep over the product: `experiments.sweep` adds a line to rows.jsonl for each model that is
finished. With scheduler = "tcp://first-machine:8786" Dask's workers train them.

Several GPUs share each batch: all that there are, or --devices of them. Where there is none,
--devices cuts the CPU, to try it:

    python tools/train.py runs/c --batch-size 512 --devices 2

Several hosts share each batch when TF_CONFIG tells them of each other. The folder must be one that
all see. The command is the same on all; before it, on the first of two and on the second:

    export TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
                       "task": {"type": "worker", "index": 0}}'
    export TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
                       "task": {"type": "worker", "index": 1}}'

Each host takes all of its GPUs. When one dies, the others end: start all again.
"""

from vae_helpers.data import load_images
from vae_helpers.evaluation import evaluate
from vae_helpers.experiments import sweep
from vae_helpers.models import Decoder, Encoder, standard_normal, tfd, variables_of, weights_from
from vae_helpers.objective import check_model
from vae_helpers.support import checks, diagnosis
from vae_helpers.support.programs import STEPS_PER_CALL
from vae_helpers.training import NonFiniteLossError, batch_indices

import argparse
import contextlib
import json
import sys
import time
import tomllib
from collections.abc import Callable
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import replicas
import tensorflow as tf

HYPERPARAMETERS = {
    "hidden_sizes": [100, 100],
    "latent_size": 10,
    "scale_fn": "square",
    "batch_size": 64,
    "beta": 0.01,
    "learning_rate": 1e-3,
    "training_steps": 1024,
    "seed": 0,
}
DATA = {"data_set": "mnist", "train_split": "train", "test_split": "test"}
OTHERS = {"checkpoint_every": 10_000, "devices": 0, "scheduler": ""}
DEFAULTS = HYPERPARAMETERS | DATA | OTHERS
SCALE_FNS = {"square": tf.square, "exp": tf.exp, "softplus": tf.nn.softplus}
COLUMNS = ["total", "kl", "reconstruction", "rate", "distortion"]


def scale_fn(name: str) -> Callable:
    """Returns the link from a real number to a scale."""
    if name not in SCALE_FNS:
        raise ValueError(f"scale_fn must be one of {[*SCALE_FNS]}, got {name!r}")
    return SCALE_FNS[name]


def make_model(options: dict, image_shape) -> tuple[Encoder, Decoder, tfd.Normal]:
    """Makes networks and prior, with the weights that `training.train` begins with."""
    sizes, latent_size = options["hidden_sizes"], options["latent_size"]
    encoder = Encoder(sizes, latent_size, scale_fn=scale_fn(options["scale_fn"]))
    model = encoder, Decoder(sizes, image_shape), standard_normal(latent_size)
    with weights_from(options["seed"], *model[:2]):
        check_model(*model, np.zeros([1, *image_shape], np.uint8))
    return model


def load(folder: str | Path) -> tuple[Encoder, Decoder, tfd.Normal]:
    """Returns the model that a training has left in its folder."""
    options = json.loads(Path(folder, "hyperparameters.json").read_text())
    model = make_model(options, options["image_shape"])
    weights = np.load(Path(folder, "weights.npz")).values()
    for variable, value in zip(variables_of(*model), weights, strict=True):
        variable.assign(value)
    return model


def train(folder: Path, options: dict) -> None:
    """Trains one model, or goes on from the folder's checkpoint; then stores and scores it."""
    names = "training_steps", "checkpoint_every", "batch_size"
    total, every, batch_size = (checks.positive_integer(n, options[n]) for n in names)
    beta = checks.number("beta", options["beta"])
    learning_rate = checks.number("learning_rate", options["learning_rate"], positive=True)
    seed = checks.integer("seed", options["seed"])
    kept, losses = folder / "hyperparameters.json", folder / "losses.csv"
    if tf.train.latest_checkpoint(folder):
        check_same(folder, json.loads(kept.read_text()), options)
    strategy = replicas.make_strategy(options["devices"])
    images, _ = load_images(options["data_set"], options["train_split"])
    with strategy.scope():
        model = make_model(options, images.shape[1:])
    numbers = batch_size, beta, learning_rate, seed
    run, state = replicas.compile_steps(strategy, model, images, *numbers)
    # Of several hosts the first alone writes: it needs no other to read mirrored variables.
    writes = strategy.extended.should_checkpoint

    checkpoints = tf.train.CheckpointManager(tf.train.Checkpoint(state=state), folder, 1)
    checkpoints.restore_or_initialize()
    done = int(state[0].numpy())
    if done > total:
        raise ValueError(f"training_steps must be at least {done}, which {folder} has, got {total}")
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
        keep_rows(losses, done)
    indices = islice(batch_indices(len(images), batch_size, seed), done, None)
    tables, told = [], (time.monotonic(), done)
    while done < total:
        count = min(STEPS_PER_CALL, total - done, every - done % every)
        rows = run(done, np.stack([next(indices) for _ in range(count)]))
        tables.append(table_of(rows, done, options))
        done += count
        ends = done == total or done % every == 0
        if writes and ends:
            table = pd.concat(tables)
            if first := done == len(table):
                kept.write_text(json.dumps(options | {"image_shape": images.shape[1:]}, indent=1))
            table.to_csv(losses, mode="a", header=first, index=False, float_format="%.9g")
            checkpoints.save(done)
            tables = []
        seconds = time.monotonic() - told[0]
        if writes and (seconds > 10 or done == total):
            speed = (done - told[1]) / seconds
            print(f"step {done:,} of {total:,}: total {rows[-1, 0]:.5g}, {speed:,.0f} steps/s")
            told = time.monotonic(), done
    if writes:
        np.savez(folder / "weights.npz", *[weight.numpy() for weight in variables_of(*model)])
        test_images, _ = load_images(options["data_set"], options["test_split"])
        held_out = evaluate(*load(folder), test_images).mean()
        held_out.to_json(folder / "held_out.json")
        print("held out:", ", ".join(f"{name} {value:.2f}" for name, value in held_out.items()))


def check_same(folder: Path, kept: dict, options: dict) -> None:
    """Raises a ValueError if a folder has a checkpoint of other hyperparameters."""
    names = [name for name in HYPERPARAMETERS | DATA if name != "training_steps"]
    if others := [name for name in names if kept[name] != options[name]]:
        differ = ", ".join(f"{name} {kept[name]!r}, not {options[name]!r}" for name in others)
        raise ValueError(f"{folder} has a checkpoint of {differ}: choose another folder")


def keep_rows(losses: Path, count: int) -> None:
    """Leaves the first rows of a table: the steps after a checkpoint are taken again."""
    with losses.open("ab+") as file:
        file.seek(0)
        for _ in range(count + 1 if count else 0):  # and the names of the columns
            file.readline()
        file.truncate()


def table_of(rows: np.ndarray, done: int, options: dict) -> pd.DataFrame:
    """Names the losses of the steps after `done`, all of which must be finite."""
    table = pd.DataFrame(rows.astype(float), columns=COLUMNS)
    table.insert(0, "step", range(done + 1, done + 1 + len(rows)))
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        table = table[: finite.argmin() + 1]
        cause = diagnosis.cause(table, options["learning_rate"], options["beta"])
        raise NonFiniteLossError(table, cause)
    return table


def has_several(name: str, value: Any) -> bool:
    """Tells a list of values from a value; that of hidden_sizes is itself a list."""
    return isinstance(value, list) and (
        name != "hidden_sizes" or isinstance((value or [0])[0], list)
    )


def train_all(folder: Path, options: dict) -> None:
    """Sweeps over the product of all values, and goes on with what the folder's rows lack."""
    values = [options[n] if has_several(n, options[n]) else [options[n]] for n in HYPERPARAMETERS]
    many = [dict(zip(HYPERPARAMETERS, chosen, strict=True)) for chosen in product(*values)]
    many = [one | {"scale_fn": scale_fn(one["scale_fn"])} for one in many]
    splits = options["train_split"], options["test_split"]
    images = [load_images(options["data_set"], split)[0] for split in splits]
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        executor = None
        if options["scheduler"]:
            from distributed import Client

            executor = stack.enter_context(Client(options["scheduler"])).get_executor()
        table = sweep(many, *images, file=folder / "rows.jsonl", executor=executor)
    print(table.drop(columns="scale_fn").to_string(index=False))


def read_options() -> tuple[Path, dict]:
    """Reads the folder and the options: the defaults, then the file, then the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE.toml")
    for name, value in DEFAULTS.items():
        kind = {"type": int, "nargs": "*"} if isinstance(value, list) else {"type": type(value)}
        kind |= {"default": argparse.SUPPRESS, "help": f"default: {value!r}"}
        parser.add_argument(f"--{name.replace('_', '-')}", **kind)
    given = vars(parser.parse_args())
    folder, file = given.pop("folder"), given.pop("file")
    in_file = tomllib.loads(file.read_text()) if file else {}
    if unknown := [name for name in in_file if name not in DEFAULTS]:
        raise ValueError(f"{file} may have the names {[*DEFAULTS]}, got {unknown}")
    return folder, DEFAULTS | in_file | given


def main() -> None:
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    try:
        folder, options = read_options()
        several = any(has_several(name, options[name]) for name in HYPERPARAMETERS)
        (train_all if several else train)(folder, options)
    except (ValueError, ConnectionError, NonFiniteLossError) as error:
        sys.exit(f"train.py: {error}")
    except KeyboardInterrupt:
        sys.exit("train.py: interrupted: the same command goes on from the last checkpoint")
    except tf.errors.UnavailableError:
        sys.exit("train.py: a host is gone: start all again, to go on from the last checkpoint")


if __name__ == "__main__":
    main()
