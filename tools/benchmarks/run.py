"""Measures the package beside its peers: `make bench`, or `make bench ONLY="train bound"`.

Each measurement is a process of its own. The programs of a task take turns, five rounds, on the
same two processors; a row gives the medians, and the ratio is the median over the rounds of a
program's time to that of the task's first program, in the same round. So a ratio above 1 is
slower than the first, and a machine whose speed drifts moves both. It prints one table, and puts
the tasks into the table of the package, with what measured them: notebook 03 draws it.
"""

from vae_helpers.data import load_images
from vae_helpers.evaluation import evaluate
from vae_helpers.models import Decoder, Encoder, standard_normal

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import sonnet_layers

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "build" / "bench"
RESULTS = ROOT / "vae_helpers" / "files" / "benchmark.csv"
PEERS = FOLDER / "env" / "bin" / "python"
PROCESSORS = 2
LOAD = os.getloadavg()[0]

COMMANDS = {
    "import": [sys.executable, "-c", "import tensorflow, tensorflow_probability"],
    "notebook": [
        Path(sys.executable).with_name("jupyter"),
        "execute",
        ROOT / "notebooks" / "05_traversals.ipynb",
    ],
}

# The programs that train: label, file, variant.
OURS = ("ours", "ours", "train")
JAX_SCAN = ("JAX, scan of all steps", "jax_vae", "scan")
PEERS_OF_TRAINING = [
    JAX_SCAN,
    ("JAX, jit of a step", "jax_vae", "jit"),
    ("Keras 3 fit, on JAX", "keras_fit", "jax"),
    ("PyTorch, eager", "torch_vae", "eager"),
    ("PyTorch, compiled", "torch_vae", "compile"),
    ("products alone, XLA", "products", "xla"),
    ("products alone, MKL", "products", "torch"),
]
POST = {
    "hidden_sizes": [100, 100],
    "latent_size": 10,
    "batch_size": 64,
    "beta": 0.01,
    "steps": 1024,
}


def sizes(label, program, variant, name, values):
    """Lists the programs whose argument of this name takes these values."""
    return [(f"{label}, {value:,} {name}", program, variant, {name: value}) for value in values]


# A task: its first program is what the others are compared with.
TASKS = {
    "train": (
        POST,
        [OURS, *PEERS_OF_TRAINING, ("the post's loop, eager", "post_loop", "post")],
    ),
    "batch-256": (POST | {"batch_size": 256, "steps": 256}, [OURS, *PEERS_OF_TRAINING]),
    "batch-1024": (POST | {"batch_size": 1024, "steps": 128}, [OURS, *PEERS_OF_TRAINING]),
    "hidden-400": (POST | {"hidden_sizes": [400], "steps": 512}, [OURS, *PEERS_OF_TRAINING]),
    "hidden-512": (POST | {"hidden_sizes": [512, 512], "steps": 256}, [OURS, *PEERS_OF_TRAINING]),
    "latent-50": (POST | {"latent_size": 50}, [OURS, *PEERS_OF_TRAINING]),
    "binarized": (POST, [OURS, ("ours, binarized", "ours", "binarized")]),
    "elbo": (
        POST | {"images": 10_000},
        [("ours", "ours", "elbo"), ("JAX, jit", "jax_vae", "elbo")],
    ),
    "bound": (
        POST | {"images": 10_000, "samples": 100},
        [("ours", "ours", "bound"), ("JAX, jit", "jax_vae", "bound")],
    ),
    "sweep": (
        POST | {"configurations": 8},
        [("8 trainings, compiled", "ours", "trainings"), ("a sweep of 8", "ours", "sweep")],
    ),
    "steps": (POST, sizes("train", "ours", "once", "steps", [1024, 4096, 16384, 65536])),
    "images": (POST, sizes("ELBO", "ours", "elbo", "images", [1000, 4000, 10_000])),
    "samples": (
        POST | {"images": 1000},
        sizes("bound", "ours", "bound", "samples", [10, 100, 1000]),
    ),
    "cold-start": (
        {},
        [
            ("import TensorFlow and TFP", "command", "import"),
            ("jupyter execute 05_traversals.ipynb", "command", "notebook"),
        ],
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", metavar="TASK", choices=TASKS, default=[*TASKS])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # inherited by the programs, whose threads it counts
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])
    for split in ("train", "test"):
        np.save(FOLDER / f"{split}.npy", load_images("mnist", split)[0])

    tables = []
    for task in options.only:
        rows = []
        for round_ in range(options.rounds):
            for program in TASKS[task][1]:
                row = {"task": task, "round": round_}
                row |= measure(TASKS[task][0], round_, *program)
                rows.append(row)
                print("{task}, round {round}: {program}, {seconds:.3g} s".format(**row), flush=True)
        tables.append(summary(pd.DataFrame(rows)))
        store(tables[-1].assign(**facts(options.rounds)))  # an interrupt loses this task at most
    table = pd.concat(tables)
    print(table.to_string(index=False, na_rep="", float_format=lambda x: f"{x:.4g}"))
    for line in exponents(table):
        print(line)


def store(table: pd.DataFrame) -> None:
    """Puts the rows of a task into the table of the package, in the place of its old ones."""
    if RESULTS.exists():
        before = pd.read_csv(RESULTS)
        table = pd.concat([before[~before["task"].isin(table["task"])], table])
    table = table.sort_values("task", key=lambda task: task.map([*TASKS].index), kind="stable")
    table.to_csv(RESULTS, index=False, float_format="%.4g")


def measure(sizes: dict, seed: int, label: str, program: str, variant: str, changes=None) -> dict:
    """Runs one program and returns what it reports, with the ELBO of the weights that it kept."""
    if program == "command":
        start = time.perf_counter()
        run(COMMANDS[variant])
        return {"program": label, "seconds": time.perf_counter() - start}
    kept = FOLDER / "weights.npz"
    kept.unlink(missing_ok=True)  # of an interrupted run
    task = {"variant": variant, "seed": seed, "folder": str(FOLDER), "keep": str(kept)}
    task |= sizes | (changes or {})
    python = sys.executable if program in ("ours", "post_loop") else PEERS
    output = run([python, HERE / f"{program}.py", json.dumps(task)])
    report = {"program": label} | json.loads(output.splitlines()[-1])
    if kept.exists():
        report["elbo"] = elbo(task, kept)
    return report


def elbo(task: dict, weights: Path) -> float:
    """Returns the ELBO of trained weights on the test images, nats per image."""
    encoder = Encoder(task["hidden_sizes"], task["latent_size"])
    decoder = Decoder(task["hidden_sizes"], [28, 28, 1])
    arrays = list(np.load(weights).values())
    sonnet_layers.assign(encoder, decoder, list(zip(arrays[::2], arrays[1::2], strict=True)))
    images = np.load(FOLDER / "test.npy")
    return evaluate(encoder, decoder, standard_normal(task["latent_size"]), images)["elbo"].mean()


def run(command: list) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns the medians over the rounds, and the ratios to each task's first program."""
    first = runs.groupby(["task", "round"], sort=False)["seconds"].transform("first")
    measured = ["task", "program", "seconds", "units", "setup", "memory", "elbo"]
    runs = runs.reindex(columns=measured).assign(ratio=runs["seconds"] / first)  # NaN: not measured
    groups = runs.groupby(["task", "program"], sort=False)
    table = groups[["ratio", "seconds", "units", "setup", "memory"]].median()
    table.insert(1, "lowest", groups["ratio"].min())
    table.insert(2, "highest", groups["ratio"].max())
    table["elbo"] = groups["elbo"].mean()
    return table.reset_index()


def exponents(table: pd.DataFrame) -> list[str]:
    """Says how the time grows with the steps, the images and the samples: as which power."""
    lines = []
    for name in ("steps", "images", "samples"):
        rows = table[table["task"] == name]
        if len(rows):
            sizes = [changes[name] for *_, changes in TASKS[name][1]]
            power = np.polyfit(np.log(sizes), np.log(rows["seconds"] * rows["units"]), 1)[0]
            lines.append(f"time grows as {name} to the power {power:.2f}")
    return lines


def facts(rounds: int) -> dict[str, str | int]:
    """Returns what measured: the machine, the date, the versions on both sides."""
    cpu = Path("/proc/cpuinfo")
    names = [line for line in cpu.read_text().splitlines() if line.startswith("model name")]
    freeze = run([PEERS, "-m", "pip", "list", "--format=json"])
    theirs = {package["name"]: package["version"] for package in json.loads(freeze)}
    ours = ["tensorflow", "tensorflow-probability", "dm-sonnet", "numpy"]
    return {
        "rounds": rounds,
        "date": datetime.date.today().isoformat(),
        "load before": f"{LOAD:.1f}",
        "machine": f"{names[0].split(':')[1].strip() if names else platform.processor()}, "
        f"{PROCESSORS} of {os.cpu_count()} processors, {platform.system()}",
        "versions": ", ".join(
            [f"Python {platform.python_version()}"]
            + [f"{name} {importlib.metadata.version(name)}" for name in ours]
            + [f"{name} {theirs[name]}" for name in ("jax", "optax", "keras", "torch")]
        ),
    }


if __name__ == "__main__":
    main()
