"""Measures what a sweep gains from workers, and where the rest of their time goes: `make scaling`.

The same models are trained by one process, which has all threads, and by one and two workers of
Dask on this machine, each start anew. A row holds medians over the rounds, in seconds a worker:
`start` until TensorFlow is loaded, `data` until the images have been sent (to read them from disk
is left out), `compile` what the first model takes longer than the others, `model` the median of
these, `idle` without a model after that. `models per minute` counts from the start to the last
row. Notebook 08 shows the table, and simulates a large cluster by its parts.
"""

from vae_helpers.data import load_images
from vae_helpers.experiments import sweep

import argparse
import datetime
import importlib
import importlib.metadata
import multiprocessing
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import distributed
import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "vae_helpers" / "files" / "scaling.csv"
LOAD = os.getloadavg()[0]
SIZES = {"hidden_sizes": [100, 100], "latent_size": 10}


def configurations(num_models: int, training_steps: int) -> list[dict]:
    """Lists those of notebook 08, as many as wanted."""
    options = SIZES | {"training_steps": training_steps, "learning_rate": 3e-3}
    return [options | {"seed": seed} for seed in range(num_models)]


def data():
    return load_images("mnist", "train")[0], load_images("mnist", "test")[0]


def parts(spans: pd.DataFrame, began: float, started: float) -> dict[str, float]:
    """Splits the seconds of workers; `spans` has a row a model: its worker, begin and end."""
    by_worker = spans.sort_values("begin").groupby("worker")
    seconds = spans["end"] - spans["begin"]
    firsts = by_worker["begin"].idxmin()
    model = seconds.drop(firsts).median()
    there = by_worker["begin"].min()
    busy = seconds.groupby(spans["worker"]).sum()
    return {
        "models per minute": 60 * len(spans) / (spans["end"].max() - began),
        "start": started - began,
        "data": (there - started).mean(),
        "compile": max(0.0, seconds[firsts].mean() - model),
        "model": model,
        "idle": (spans["end"].max() - there - busy).mean(),
    }


def _finished(*_) -> dict[str, float]:
    return {"finished": time.time()}


def _alone(models: list[dict], began: float) -> dict[str, float]:
    """Runs in a fresh process, which has loaded TensorFlow when it comes here."""
    started = time.time()
    images = data()
    loaded = time.time()
    table = sweep(models, *images, measure=_finished, progress=False)
    ends = np.array([loaded, *table["finished"]]) - (loaded - started)
    spans = pd.DataFrame({"worker": 0, "begin": ends[:-1], "end": ends[1:]})
    return parts(spans, began, started)


def one_process(models: list[dict]) -> dict[str, float]:
    """Measures the sweep of a process without Dask."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_alone, models, time.time()).result()


def on_workers(models: list[dict], number: int) -> dict[str, float]:
    """Measures the sweep on a cluster of this machine."""
    images, began = data(), time.time()
    options = {"n_workers": number, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        client.run(importlib.import_module, "vae_helpers.experiments")
        started = time.time()
        with distributed.get_task_stream(client) as stream:
            sweep(models, *images, executor=client.get_executor(), progress=False)
        spans = [
            {"worker": task["worker"], "begin": span["start"], "end": span["stop"]}
            for task in stream.data
            for span in task["startstops"]
            if span["action"] == "compute" and "_run" in str(task["key"])
        ]
    return parts(pd.DataFrame(spans), began, started)


PROGRAMS = {
    "one process": one_process,
    "1 worker": lambda models: on_workers(models, 1),
    "2 workers": lambda models: on_workers(models, 2),
}


def measure(rounds: int, models: list[dict]) -> pd.DataFrame:
    """Lets the programs take turns, and returns the medians."""
    rows = []
    for number in range(rounds):
        for name, run in PROGRAMS.items():
            rows.append({"program": name, **run(models)})
            print(number + 1, rows[-1], flush=True)
    return pd.DataFrame(rows).groupby("program", sort=False).median()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", type=int, default=24)
    parser.add_argument("--training-steps", type=int, default=256)
    parser.add_argument("--to", type=Path, default=RESULTS)
    options = parser.parse_args()
    models = configurations(options.models, options.training_steps)
    table = measure(options.rounds, models)
    packages = ("tensorflow", "distributed")
    about = {
        "models": options.models,
        "training steps": options.training_steps,
        "rounds": options.rounds,
        "date": datetime.date.today().isoformat(),
        "load before": round(LOAD, 1),
        "machine": f"{os.cpu_count()} processors, {platform.system()}",
        "versions": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages),
    }
    table = table.map(lambda number: float(f"{number:.3g}")).assign(**about)
    table.to_csv(options.to)
    print(table.iloc[:, :6].to_string())
    if LOAD > 0.5 * os.cpu_count():
        print(f"The load was {LOAD:.1f} before it began: measure again on a quiet machine.")


if __name__ == "__main__":
    main()
