"""Trains the model of Burda et al. (2016), Table 1, one stochastic layer, for as long as they did.

`make likelihood` runs it: the VAE (k = 1) and the IWAE (k = 5), 3,280 passes each, some nine hours
on two cores. It keeps a checkpoint in build/likelihood, and goes on from there when it is run again.
After 364, 1,093 and 3,280 passes it scores the model, writes a row to table.csv in
vae_helpers/files/likelihood, which notebook 07 shows, and puts the weights beside it. A fresh clone
finds all rows there; without the table, it trains anew.

What differs from the paper: 100 images a step, not 20, which takes half the time a pass; Adam's
epsilon, 1e-8 on losses divided by 784, not 1e-4; Adam's moments start at zero after each
checkpoint; the initial weights are Sonnet's.
"""

from vae_helpers.data import binarize, load_images
from vae_helpers.evaluation import active_units, evaluate, log_likelihood
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.objective import (
    averaged_beta,
    distortion,
    log_weight,
)
from vae_helpers.training import run_steps, train

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "vae_helpers" / "files" / "likelihood"
TABLE = RESULTS / "table.csv"
CHECKPOINTS = ROOT / "build" / "likelihood"
BATCH_SIZE = 100
HIDDEN_SIZES = [200, 200]
LATENT_SIZE = 50
EVALUATION_SAMPLES = 5000
SCORED_STAGES = [6, 7, 8]  # 364, 1,093 and 3,280 passes
SEED = 0


def schedule(stages: int, longest: int = 27) -> list[tuple[int, int, float]]:
    """Lists (passes before, passes, learning rate): 3^i passes in stage i, 27 a checkpoint."""
    chunks, before = [], 0
    for stage in range(stages):
        for _ in range(max(1, 3**stage // longest)):
            passes = min(3**stage, longest)
            chunks.append((before, passes, 1e-3 * 10 ** (-stage / 7)))
            before += passes
    return chunks


def new_model(image_shape) -> tuple[Encoder, Decoder, tfp.distributions.Normal]:
    """Makes the networks of the paper, their weights drawn from the seed."""
    encoder = Encoder(HIDDEN_SIZES, LATENT_SIZE, activation=tf.tanh, scale_fn=tf.exp)
    decoder = Decoder(HIDDEN_SIZES, image_shape, activation=tf.tanh)
    tf.random.set_seed(SEED)
    decoder(encoder(tf.zeros([1, *image_shape])).loc)
    return encoder, decoder, standard_normal(LATENT_SIZE)


def weights(model) -> dict[str, tf.Variable]:
    """Names the weights of a model as a checkpoint does."""
    encoder, decoder, _ = model
    return {f"weight{i}": v for i, v in enumerate([*encoder.variables, *decoder.variables])}


def load(path: Path, model) -> tuple[int, float]:
    """Gives a model the weights of a checkpoint; returns its passes and seconds of training."""
    state = np.load(path)
    for name, variable in weights(model).items():
        variable.assign(state[name])
    return int(state["passes"]), float(state["seconds"])


def save(path: Path, model, passes: int, seconds: float) -> None:
    """Writes a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: variable.numpy() for name, variable in weights(model).items()}
    np.savez(path, **state, passes=passes, seconds=seconds)


def importance_weighted_step(model, num_samples: int, learning_rate: float) -> Callable:
    """Makes a step that maximizes the bound of `num_samples` draws, with an Adam of its own."""
    encoder, decoder, prior = model
    optimizer = snt.optimizers.Adam(learning_rate)
    variables = [*encoder.trainable_variables, *decoder.trainable_variables]

    def step(x, seed):
        with tf.GradientTape() as tape:
            q = encoder(x)
            z = q.sample(num_samples, seed=seed)  # [k, B, L]
            p = decoder(tf.reshape(z, [-1, LATENT_SIZE]))
            distortions = distortion(p, tf.tile(x, [num_samples, 1, 1, 1]))
            distortions = tf.reshape(distortions, z.shape[:2])
            log_weights = log_weight(q, prior, distortions, z)
            bound = tf.reduce_logsumexp(log_weights, axis=0) - np.log(num_samples)
            loss = -tf.reduce_mean(bound) / x.shape[1:].num_elements()
        optimizer.apply(tape.gradient(loss, variables), variables)
        return {"total": loss}

    return step


def train_passes(
    model, images: np.ndarray, num_samples: int, passes: int, learning_rate: float, seed: int
) -> pd.DataFrame:
    """Trains a model in place, with pixels drawn anew each time; `total` is in nats per pixel."""
    options = {
        "batch_size": BATCH_SIZE,
        "training_steps": passes * (len(images) // BATCH_SIZE),
        "transform": binarize,
        "seed": seed,
        "progress": False,
    }
    if num_samples == 1:
        beta = averaged_beta(1.0, images[0].size, LATENT_SIZE)
        return train(*model, images, beta=beta, learning_rate=learning_rate, **options)
    step = importance_weighted_step(model, num_samples, learning_rate)
    return run_steps(step, images, **options)


def trained(num_samples: int, stages: int, images: np.ndarray):
    """Returns the model after these stages, its passes and seconds; goes on from its checkpoint."""
    path = CHECKPOINTS / f"k{num_samples}.npz"
    model = new_model(images.shape[1:])
    done, seconds = load(path, model) if path.exists() else (0, 0.0)
    chunks = [chunk for chunk in schedule(stages) if chunk[0] >= done]
    total = done + sum(passes for _, passes, _ in chunks)
    with tqdm(total=total, initial=done, unit="pass", desc=f"k = {num_samples}") as bar:
        for before, passes, learning_rate in chunks:
            start = time.perf_counter()
            losses = train_passes(model, images, num_samples, passes, learning_rate, SEED + before)
            if losses.attrs["interrupted"]:
                sys.exit("Interrupted: the next run goes on from the last checkpoint.")
            seconds += time.perf_counter() - start
            save(path, model, before + passes, seconds)
            bound = -losses["total"].tail(1000).mean() * images[0].size
            bar.set_postfix_str(f"training bound {bound:.2f} nats")
            bar.update(passes)
    return model, total, seconds


def scores(model, test_images: np.ndarray) -> dict[str, float]:
    """Returns the held-out columns of the table."""
    bounds = log_likelihood(*model, test_images, num_samples=EVALUATION_SAMPLES, seed=SEED)
    return {
        "-log p(x) (nats)": round(-bounds.mean(), 3),
        "standard error": round(bounds.std() / np.sqrt(len(bounds)), 3),
        "-ELBO (nats)": round(-evaluate(*model, test_images, seed=SEED)["elbo"].mean(), 3),
        "active units": int(active_units(model[0], test_images).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", type=int, choices=range(1, 9), default=8, metavar="1..8")
    last = parser.parse_args().stages
    images, _ = load_images("mnist", "train")
    test_images = binarize(load_images("mnist", "test")[0], SEED)
    rows = pd.read_csv(TABLE).to_dict("records") if TABLE.exists() else []
    for num_samples in (1, 5):
        for stages in [stage for stage in SCORED_STAGES if stage < last] + [last]:
            wanted = sum(passes for _, passes, _ in schedule(stages))
            if (num_samples, wanted) in [(row["k"], row["passes"]) for row in rows]:
                continue
            model, passes, seconds = trained(num_samples, stages, images)
            row = {
                "model": "VAE" if num_samples == 1 else "IWAE",
                "k": num_samples,
                "passes": passes,
                **scores(model, test_images),
                "training seconds": round(seconds),
                "batch size": BATCH_SIZE,
                "evaluation samples": EVALUATION_SAMPLES,
                "test images": len(test_images),
                "seed": SEED,
                "tensorflow": tf.__version__,
                "tensorflow_probability": tfp.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            }
            save(RESULTS / f"k{num_samples}.npz", model, passes, seconds)
            rows.append(row)
            table = pd.DataFrame(rows).sort_values(["k", "passes"])
            table.to_csv(TABLE, index=False)
    print(pd.read_csv(TABLE).iloc[:, :8].to_string(index=False))


if __name__ == "__main__":
    main()
