"""Trains the model of Burda et al. (2016), Table 1, one stochastic layer, for as long as they did.

`make likelihood` runs it: the VAE (k = 1) and the IWAE (k = 5), 3,280 passes each, some nine hours
on two cores. It keeps a checkpoint in build/likelihood, and goes on from there when it is run again.
After 364, 1,093 and 3,280 passes it scores the model, writes a row to table.csv in
vae_helpers/likelihood, which notebook 07 shows, and puts the weights beside it. A fresh clone finds
all rows there; without the table and the weights, it trains anew.

What differs from the paper: 100 images a step, not 20, which takes half the time a pass; Adam's
epsilon, 1e-8 on losses divided by 784, not 1e-4; Adam's moments start at zero after each
checkpoint; the initial weights are Sonnet's.
"""

import argparse
import io
import platform
import time
import zipfile
from pathlib import Path

import commands
import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_probability as tfp
from tqdm import tqdm

from vae_helpers.data import binarize, load_images
from vae_helpers.evaluation import active_units, evaluate, log_likelihood
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.objective import averaged_beta
from vae_helpers.training import train

RESULTS = commands.ROOT / "vae_helpers" / "files" / "likelihood"
TABLE = RESULTS / "table.csv"
CHECKPOINTS = commands.ROOT / "build" / "likelihood"
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
    decoder(encoder(np.zeros([1, *image_shape], np.uint8)).loc)
    return encoder, decoder, standard_normal(LATENT_SIZE)


def weights(model) -> dict[str, tf.Variable]:
    """Names the weights of a model as a checkpoint does."""
    encoder, decoder, _ = model
    return {f"weight{i}": v for i, v in enumerate([*encoder.variables, *decoder.variables])}


def load(path: Path, model) -> tuple[int, float]:
    """Gives a model the weights of a checkpoint; returns its passes and seconds of training."""
    try:
        with np.load(path) as state:
            for name, variable in weights(model).items():
                variable.assign(state[name])
            return int(state["passes"]), float(state["seconds"])
    except (
        ArithmeticError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise OSError(f"{path} is no checkpoint ({error}): remove it to train anew") from error


def save(path: Path, model, passes: int, seconds: float) -> None:
    """Writes a checkpoint, whole or not at all."""
    content = io.BytesIO()
    state = {name: variable.numpy() for name, variable in weights(model).items()}
    np.savez(content, **state, passes=passes, seconds=seconds)
    commands.write(path, content.getvalue())


def trained(num_samples: int, stages: int, images: np.ndarray):
    """Returns the model after these stages, its passes and seconds.

    Goes on from its checkpoint, or from weights beside the table that have come further.
    """
    path = CHECKPOINTS / f"k{num_samples}.npz"
    model = new_model(images.shape[1:])
    known = [start for start in (path, RESULTS / path.name) if start.exists()]
    latest = max(known, key=lambda start: load(start, model)[0], default=None)
    done, seconds = load(latest, model) if latest else (0, 0.0)
    chunks = [chunk for chunk in schedule(stages) if chunk[0] >= done]
    total = done + sum(passes for _, passes, _ in chunks)
    with tqdm(total=total, initial=done, unit="pass", desc=f"k = {num_samples}") as bar:
        for before, passes, learning_rate in chunks:
            start = time.perf_counter()
            losses = train(
                *model,
                images,
                batch_size=BATCH_SIZE,
                beta=averaged_beta(1.0, images[0].size, LATENT_SIZE),
                learning_rate=learning_rate,
                training_steps=passes * (len(images) // BATCH_SIZE),
                num_samples=num_samples,
                binarized=True,
                seed=SEED + before,
                progress=False,
            )
            if losses.attrs["interrupted"]:
                raise KeyboardInterrupt
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


def known_rows() -> pd.DataFrame:
    """Reads the table, of no rows before the first is added."""
    if not TABLE.exists():
        return pd.DataFrame(columns=["k", "passes"])
    try:
        table = pd.read_csv(TABLE)
        if not (table[["k", "passes"]].dtypes == int).all():
            raise ValueError("k and passes must be whole numbers")
        return table
    except (KeyError, ValueError) as error:
        raise OSError(
            f"{TABLE} is not of this command ({error}): remove it to begin anew"
        ) from error


def add_row(row: dict) -> None:
    """Adds a row to the table, which is written whole or not at all."""
    table = pd.DataFrame([*known_rows().to_dict("records"), row]).drop_duplicates(["k", "passes"])
    table = table.sort_values(["k", "passes"])
    commands.write(TABLE, table.to_csv(index=False).encode())


def is_scored(num_samples: int, passes: int) -> bool:
    """Tells whether the table has this row."""
    table = known_rows()
    return bool(((table["k"] == num_samples) & (table["passes"] == passes)).any())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", type=int, choices=range(1, 9), default=8, metavar="1..8")
    last = parser.parse_args().stages
    commands.check_package()
    commands.prepare(CHECKPOINTS)
    commands.prepare(RESULTS)
    images, _ = load_images("mnist", "train")
    test_images = binarize(load_images("mnist", "test")[0], SEED)
    for num_samples in (1, 5):
        for stages in [stage for stage in SCORED_STAGES if stage < last] + [last]:
            if is_scored(num_samples, sum(passes for _, passes, _ in schedule(stages))):
                continue
            model, passes, seconds = trained(num_samples, stages, images)
            if is_scored(num_samples, passes):  # by weights that have come further
                continue
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
            add_row(row)
    print(pd.read_csv(TABLE).iloc[:, :8].to_string(index=False))


if __name__ == "__main__":
    commands.run(main)
