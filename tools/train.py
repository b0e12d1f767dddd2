"""Trains one model, or a sweep of them, where the work has outgrown a laptop.

One device, the post's model in 100,000 steps:

    python tools/train.py runs/a --beta 0.01 --training-steps 100000

The folder gets losses.csv, a row a step; held_out.json; weights.npz, which
`encoder, decoder, prior = train.load("runs/a")` reads (with tools on Python's path); and a
checkpoint every --checkpoint-every steps. After a kill the same command goes on from the last one.
On one device it ends with the bits of `training.train`, in other cases with its numbers up to
rounding, as far as the model forgives it (see notebook 08). A larger --training-steps goes on, too.

`--help` lists the names. They may stand in a TOML file; the command line comes before it:

    python tools/train.py runs/a a.toml --seed 1

A list in place of a value, beta = [0.01, 0.1] or hidden_sizes = [[100, 100], [200]], makes it a
sweep over the product: `experiments.sweep` adds a line to rows.jsonl for each model that is
finished. With scheduler = "tcp://first-machine:8786" Dask's workers train them.

Several GPUs share each batch, all that are found or --devices of them. Where there is none,
--devices cuts the processor:

    python tools/train.py runs/a --batch-size 512 --devices 2

Several hosts share each batch, too, once TF_CONFIG tells each who they are and which of them it is,
in a folder that all of them see. On the first and on the second, before the command above:

    export TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
                       "task": {"type": "worker", "index": 0}}'
    export TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
                       "task": {"type": "worker", "index": 1}}'

Each takes all of its GPUs. When one has died, stop the others and start all again.
"""

from vae_helpers.data import load_images
from vae_helpers.evaluation import evaluate
from vae_helpers.experiments import sweep
from vae_helpers.models import Decoder, Encoder, standard_normal, tfd, variables_of, weights_from
from vae_helpers.objective import check_model, distortion, original_loss, rate
from vae_helpers.support import checks, diagnosis
from vae_helpers.support.programs import STEPS_PER_CALL, CompiledSteps
from vae_helpers.training import NonFiniteLossError, batch_indices, post_step

import argparse
import itertools
import json
import os
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sonnet as snt
import tensorflow as tf
import tf_keras

MODEL = {"hidden_sizes": [100, 100], "latent_size": 10, "scale_fn": "square"}
TRAINING = {"batch_size": 64, "beta": 0.01, "learning_rate": 1e-3, "seed": 0}
DATA = {"data_set": "mnist", "train_split": "train", "test_split": "test"}
# What a training that goes on must have in common with the one before.
IDENTITY = MODEL | TRAINING | DATA
LENGTH = {"training_steps": 1024, "checkpoint_every": 10_000}
MACHINES = {"devices": 0, "scheduler": ""}
DEFAULTS = IDENTITY | LENGTH | MACHINES
SWEPT = [*MODEL, *TRAINING, "training_steps"]
SCALE_FNS = {"square": tf.square, "exp": tf.exp, "softplus": tf.nn.softplus}
COLUMNS = ["total", "kl", "reconstruction", "rate", "distortion"]


def make_strategy(devices: int) -> tf.distribute.Strategy:
    """Takes the hosts of TF_CONFIG, or some devices of this one, before TensorFlow places a thing."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    count = devices or len(gpus) or 1
    if gpus and count > len(gpus):
        raise ValueError(f"devices must be at most {len(gpus)}, all GPUs, got {count}")
    if count == 1:
        return tf.distribute.get_strategy()
    if not gpus:
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, parts)
    kind = "GPU" if gpus else "CPU"
    return snt.distribute.Replicator([f"{kind}:{i}" for i in range(count)])


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


class HostsAdam(tf_keras.optimizers.legacy.Adam):
    """Adam for several hosts, whose strategy Sonnet's refuses; it makes the steps of Sonnet's."""

    def __init__(self, learning_rate: float):
        super().__init__(learning_rate, epsilon=1e-8)

    def _prepare_local(self, device, dtype, state):
        super()._prepare_local(device, dtype, state)
        terms = state[device, dtype]  # Keras adds epsilon before it corrects the second moment
        terms["epsilon"] *= tf.sqrt(1 - terms["beta_2_power"])

    def apply(self, gradients, variables):
        pairs = zip(gradients, variables, strict=True)
        self.apply_gradients(pairs, experimental_aggregate_gradients=False)


def make_training(strategy, images: np.ndarray, options: dict) -> tuple[Callable, tuple, list]:
    """Returns what runs steps, the model, and all that they change: first how many there were."""
    if options["batch_size"] % (replicas := strategy.num_replicas_in_sync):
        by = f"{replicas}, the number of replicas"
        raise ValueError(f"batch_size must be divisible by {by}, got {options['batch_size']}")
    hosts = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    with strategy.scope():
        model = make_model(options, images.shape[1:])
        weights = variables_of(*model)
        # Variables, as in `training.train`: XLA rounds otherwise what constants are folded into.
        beta, learning_rate = (
            tf.Variable(options[name], trainable=False) for name in ("beta", "learning_rate")
        )
        optimizer = (HostsAdam if hosts else snt.optimizers.Adam)(learning_rate)
        none = [tf.zeros_like(weight) for weight in weights]
        tf.function(lambda: strategy.run(optimizer.apply, (none, weights)), autograph=False)()
    moments = optimizer.weights if hosts else [optimizer.step, *optimizer.m, *optimizer.v]
    moments[0].assign(0)  # that step has made the moments, and moved nothing
    if strategy is tf.distribute.get_strategy():
        run = on_one_device(model, optimizer, beta, images, options)
    else:
        run = on_several(strategy, model, optimizer, beta, images, options)
    return run, model, [*moments, *weights]


def on_one_device(model, optimizer, beta, images: np.ndarray, options: dict) -> Callable:
    """Compiles the step of `training.train`; returns what takes steps, given each one's images."""
    shape = [STEPS_PER_CALL, options["batch_size"], *images.shape[1:]]
    step = post_step(*model, optimizer, beta)
    steps = CompiledSteps(step, [tf.TensorSpec(shape, images.dtype)])

    def run(first: int, taken: np.ndarray) -> np.ndarray:
        filled = np.concatenate([taken, taken[:1].repeat(STEPS_PER_CALL - len(taken), 0)])
        integers = map(tf.constant, (first, len(taken), options["seed"]))
        done, _, rows = steps.run(*integers, tf.constant(images[filled]))
        return rows[:done].numpy()

    return run


def on_several(strategy, model, optimizer, beta, images: np.ndarray, options: dict) -> Callable:
    """Does so for replicas, each of which takes its part of the images and of the noise."""
    (encoder, decoder, prior), replicas = model, strategy.num_replicas_in_sync
    variables = encoder.trainable_variables + decoder.trainable_variables
    batch_size, latent_size = options["batch_size"], options["latent_size"]

    def step(x, noise):
        with tf.GradientTape() as tape:
            q = encoder(tf.image.convert_image_dtype(x, tf.float32))
            p = decoder(q.loc + q.scale * noise)
            nats = tf.reduce_mean(rate(q, prior)), tf.reduce_mean(distortion(p, x))
            sizes = {"num_pixels": x.shape[1:].num_elements(), "latent_size": latent_size}
            losses = original_loss(*nats, beta=beta, **sizes)
        mean = tf.distribute.get_replica_context().all_reduce
        optimizer.apply(mean("mean", tape.gradient(losses[0], variables)), variables)
        return mean("mean", tf.stack([*losses, *nats]))

    @tf.function(autograph=False)
    def step_of_all(x, noise):
        return strategy.experimental_local_results(strategy.run(step, (x, noise)))[0]

    @tf.function(autograph=False, jit_compile=True)  # as on one device: XLA has draws of its own
    def draw(seed):
        noise = tfd.Normal(tf.zeros([batch_size, latent_size]), 1.0).sample(seed=seed)
        return tf.reshape(noise, [replicas, -1, latent_size])

    def split(part: Callable[[int], tf.Tensor]) -> Any:
        return strategy.experimental_distribute_values_from_function(
            lambda replica: part(replica.replica_id_in_sync_group)
        )

    def run(first: int, taken: np.ndarray) -> np.ndarray:
        rows = []
        for i, parts in enumerate(taken.reshape(len(taken), replicas, -1), first):
            noise = draw(tf.constant([options["seed"], i]))
            x = split(lambda part, parts=parts: tf.constant(images[parts[part]]))
            rows.append(step_of_all(x, split(noise.__getitem__)))
        return np.stack(rows)

    return run


def train(folder: Path, options: dict) -> None:
    """Trains one model, or goes on from the folder's checkpoint; then stores and scores it."""
    total, every = (checks.positive_integer(name, options[name]) for name in LENGTH)
    checks.number("beta", options["beta"])
    checks.number("learning_rate", options["learning_rate"], positive=True)
    strategy = make_strategy(options["devices"])
    images, _ = load_images(options["data_set"], options["train_split"])
    indices = batch_indices(len(images), options["batch_size"], options["seed"])
    run, model, state = make_training(strategy, images, options)
    # Of several hosts the first alone writes: it needs no other to read mirrored variables.
    writes = strategy.extended.should_checkpoint

    checkpoints = tf.train.CheckpointManager(tf.train.Checkpoint(state=state), folder, 1)
    kept, losses = folder / "hyperparameters.json", folder / "losses.csv"
    if checkpoints.latest_checkpoint:
        check_same(folder, json.loads(kept.read_text()), options)
        checkpoints.restore_or_initialize()
    done = int(state[0].numpy())
    if done > total:
        raise ValueError(f"training_steps must be at least {done}, which {folder} has, got {total}")
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
        keep_rows(losses, done)

    indices, tables, told = itertools.islice(indices, done, None), [], (time.monotonic(), done)
    while done < total:
        count = min(STEPS_PER_CALL, total - done, every - done % every)
        rows = run(done, np.stack([next(indices) for _ in range(count)]))
        tables.append(table_of(rows, done, options))
        done += count
        if writes and (done == total or done % every == 0):
            identity = {name: options[name] for name in IDENTITY}
            kept.write_text(json.dumps(identity | {"image_shape": images.shape[1:]}, indent=1))
            table = pd.concat(tables)
            table.to_csv(
                losses, mode="a", header=done == len(table), index=False, float_format="%.9g"
            )
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


def table_of(rows: np.ndarray, done: int, options: dict) -> pd.DataFrame:
    """Names the losses of some steps, after `done`; stops at one that is not finite."""
    table = pd.DataFrame(rows.astype(float), columns=COLUMNS)
    table.insert(0, "step", range(done + 1, done + 1 + len(rows)))
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        table = table[: finite.argmin() + 1]
        cause = diagnosis.cause(table, options["learning_rate"], options["beta"])
        raise NonFiniteLossError(table, cause)
    return table


def check_same(folder: Path, kept: dict, options: dict) -> None:
    """Raises a ValueError if a folder has a checkpoint of other hyperparameters."""
    if others := [n for n in IDENTITY if kept[n] != options[n]]:
        differ = ", ".join(f"{name} {kept[name]!r}, not {options[name]!r}" for name in others)
        raise ValueError(f"{folder} has a checkpoint of {differ}: give it back, or another folder")


def keep_rows(losses: Path, count: int) -> None:
    """Leaves the first rows of a table: the steps after a checkpoint are taken again."""
    with losses.open("ab+") as file:
        file.seek(0)
        for _ in range(count + 1 if count else 0):  # and the names of the columns
            file.readline()
        file.truncate()


def configurations(options: dict) -> list[dict]:
    """Lists the product of all values of the names that have several, none if no name has."""
    values = {name: options[name] for name in SWEPT}
    many = [n for n, v in values.items() if isinstance(v, list) and n != "hidden_sizes"]
    if any(isinstance(sizes, list) for sizes in values["hidden_sizes"]):
        many.append("hidden_sizes")
    product = itertools.product(*(v if n in many else [v] for n, v in values.items()))
    return [dict(zip(values, chosen, strict=True)) for chosen in product] if many else []


def train_many(folder: Path, options: dict) -> None:
    """Sweeps over configurations, and goes on with those that the folder's rows lack."""
    many = [c | {"scale_fn": scale_fn(c["scale_fn"])} for c in configurations(options)]
    splits = options["train_split"], options["test_split"]
    images = [load_images(options["data_set"], split)[0] for split in splits]
    folder.mkdir(parents=True, exist_ok=True)
    executor = None
    if options["scheduler"]:
        from distributed import Client

        executor = Client(options["scheduler"]).get_executor()
    table = sweep(many, *images, file=folder / "rows.jsonl", executor=executor)
    print(table.drop(columns="scale_fn").to_string(index=False))


def read_options() -> tuple[Path, dict]:
    """Reads the folder and the options: the defaults, then the file, then the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE.toml")
    for name, value in DEFAULTS.items():
        is_list = isinstance(value, list)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=int if is_list else type(value),
            nargs="*" if is_list else None,
            default=argparse.SUPPRESS,
            help=f"default: {value!r}",
        )
    given = vars(parser.parse_args())
    folder, file = given.pop("folder"), given.pop("file")
    in_file = tomllib.loads(file.read_text()) if file else {}
    if unknown := [*(in_file.keys() - DEFAULTS)]:
        raise ValueError(f"{file} may have the names {[*DEFAULTS]}, got {unknown}")
    return folder, DEFAULTS | in_file | given


def main() -> None:
    try:
        folder, options = read_options()
        (train_many if configurations(options) else train)(folder, options)
    except (ValueError, ConnectionError, NonFiniteLossError) as error:
        sys.exit(f"train.py: {error}")
    except KeyboardInterrupt:
        sys.exit("Interrupted: the same command goes on from the last checkpoint.")


if __name__ == "__main__":
    main()
