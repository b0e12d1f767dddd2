"""Compares a GPU with the processor: are the numbers the same, and from which batch is it faster?

`python tools/gpu_check.py`, under five minutes. Each trains one model from the same weights for 64
steps, then scores and bounds the model that the processor has trained. The numbers must agree
within what rounding in float32 explains: the encoder makes its scales by softplus, for a square
would enlarge it, and a GPU's TF32, which rounds more, is off for them. Then both train at batches
of 64 to 4,096 images. Where no GPU is, it says so, and that is no failure.
"""

from vae_helpers.data import load_images
from vae_helpers.evaluation import evaluate, log_likelihood
from vae_helpers.models import Decoder, Encoder, standard_normal, variables_of
from vae_helpers.training import train

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

BATCH_SIZES = [64, 256, 1024, 4096]
STEPS = 64
# Relative differences. Training enlarges rounding, averages over images hardly do.
ALLOWED = {
    "loss, step 1": 1e-5,
    f"loss, step {STEPS}": 1e-3,
    "rate": 1e-5,
    "distortion": 1e-5,
    "bound": 1e-5,
}


def new_model(image_shape) -> tuple:
    """Makes a model of the post's sizes with weights."""
    encoder = Encoder([100, 100], 10, scale_fn=tf.nn.softplus)
    decoder = Decoder([100, 100], image_shape)
    decoder(encoder(tf.zeros([1, *image_shape])).loc)
    return encoder, decoder, standard_normal(10)


def give(model: tuple, path: Path) -> None:
    """Gives a model the weights of a file, or writes it with the model's where there is none."""
    variables = variables_of(*model[:2])
    if not path.exists():
        np.savez(path, *(variable.numpy() for variable in variables))
    for variable, value in zip(variables, np.load(path).values(), strict=True):
        variable.assign(value)


def numbers(images: np.ndarray, folder: Path) -> dict[str, float]:
    """Trains, scores and bounds; whoever comes first leaves its weights in the folder."""
    model = new_model(images.shape[1:])
    give(model, folder / "first.npz")
    losses = train(*model, images, training_steps=STEPS, progress=False)["total"]
    give(model, folder / "last.npz")
    means = evaluate(*model, images[:1000]).mean()
    bounds = log_likelihood(*model, images[:200], num_samples=10, progress=False)
    terms = {"rate": means["rate"], "distortion": means["distortion"], "bound": bounds.mean()}
    found = {"loss, step 1": losses.iloc[0], f"loss, step {STEPS}": losses.iloc[-1], **terms}
    return {name: float(number) for name, number in found.items()}


def speed(images: np.ndarray, batch_size: int) -> float:
    """Measures training steps a second, without compiling."""
    steps = STEPS * max(1, 1024 // batch_size)
    model = new_model(images.shape[1:])
    options = {"batch_size": batch_size, "progress": False}
    train(*model, images, training_steps=STEPS, **options)
    start = time.perf_counter()
    train(*model, images, training_steps=steps, **options)
    return steps / (time.perf_counter() - start)


def compare(processor: dict[str, float], gpu: dict[str, float]) -> pd.DataFrame:
    """Puts two devices side by side: `agrees` says whether rounding explains the difference."""
    table = pd.DataFrame({"processor": processor, "GPU": gpu}).loc[list(ALLOWED)]
    table["difference"] = (table["GPU"] / table["processor"] - 1).abs()
    table["allowed"] = pd.Series(ALLOWED)
    return table.assign(agrees=table["difference"] <= table["allowed"])


def on_this_device(folder: Path) -> None:
    """Prints what one device gives, as JSON."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    images, _ = load_images("mnist", "train")
    tf.config.experimental.enable_tensor_float_32_execution(False)
    found = numbers(images, folder)
    tf.config.experimental.enable_tensor_float_32_execution(True)
    print(json.dumps([found, {size: speed(images, size) for size in BATCH_SIZES}]))


def measured(folder: str, **environment: str) -> tuple[dict, dict]:
    """Measures one device in a process of its own, which sees what the environment shows it."""
    command = [sys.executable, __file__, "--this-device", folder]
    environment = os.environ | environment
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--this-device", type=Path, help=argparse.SUPPRESS)
    if folder := parser.parse_args().this_device:
        return on_this_device(folder)
    if not tf.config.list_physical_devices("GPU"):
        return print("not run: no GPU")
    with tempfile.TemporaryDirectory() as folder:
        processor, slow = measured(folder, CUDA_VISIBLE_DEVICES="-1")
        gpu, fast = measured(folder)
    table = compare(processor, gpu)
    print(table.to_string())
    speeds = pd.DataFrame({"processor": slow, "GPU": fast}).rename_axis("images a batch")
    print("\ntraining steps a second\n" + speeds.round(1).to_string())
    sys.exit(None if table["agrees"].all() else "They differ by more than rounding explains.")


if __name__ == "__main__":
    main()
