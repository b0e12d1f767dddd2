"""Trains the models of notebook 06 until they are done, and measures them.

`make experiments` runs it, for an hour or two on two cores. The weights go to build/experiments, a
row a model to table.csv in vae_helpers/files/experiments, and the weights of a few models, in half
precision, beside it. Run it again after an interrupt: models and rows that are there are kept.
Delete the table to measure again, build/experiments to train again.

Every model has the post's networks. Trained out, they see 24 passes over the training images, 128
a step: 16 at a learning rate of 2e-3, 5 at 5e-4 and 3 at 1e-4. Beside each stands the same model
after the post's 1,024 steps of 64 images at 1e-3, and, for one seed of some, after twice the passes.
"""

from vae_helpers.data import load_images
from vae_helpers.evaluation import active_units, evaluate, log_likelihood
from vae_helpers.models import Decoder, Encoder, standard_normal, variables_of
from vae_helpers.objective import averaged_beta, distortion, log_density, rate
from vae_helpers.training import run_steps, train

import argparse
import multiprocessing
import platform
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from tqdm import tqdm

tfd = tfp.distributions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "vae_helpers" / "files" / "experiments"
TABLE = RESULTS / "table.csv"
WEIGHTS = ROOT / "build" / "experiments"

SEEDS = [0, 1, 2]
BETAS = [0, 0.01, 0.1, 0.3, 0.5, 1, 2, 4, 10]
SQUARE_BETAS = [0, 0.1, 1]
LATENT_SIZES = [*range(1, 11), 12, 16, 20, 32, 64]
TRAP_SIZES = [1, 2, 5, 10, 32, 64]  # at the post's 0.01, whatever it weighs
LINKS = {"softplus": tf.nn.softplus, "square": tf.square}
PASSES = {"trained out": 24, "twice as long": 48}
BATCH_SIZE = 128

FITTED = 10_000  # training images whose codes a density is fitted to
BOUNDED = 500  # test images under a bound
DRAWS = 256  # of z for each of them
# Least scale of the wide proposal, in standard deviations of the codes.
WIDTHS = {"": 0.2, "_half_width": 0.1, "_double_width": 0.4}
SHARED = 2000  # test images whose mixture stands for q(z)
SETTING = ["model", "beta", "latent_size", "link", "training", "seed"]


def settings() -> list[dict]:
    """Lists what is trained, the questions first: `beta` is the weight of the rate in D + βR."""
    autoencoder = ("autoencoder", np.nan, 10, "none")
    main = {("VAE", 1.0, size, "softplus") for size in LATENT_SIZES}
    main |= {("VAE", float(beta), 10, "softplus") for beta in BETAS}
    main = [autoencoder, *sorted(main, key=lambda kind: kind[2])]
    double = [autoencoder, *(("VAE", beta, 10, "softplus") for beta in (0.0, 0.5, 1.0))]
    double += [("VAE", 1.0, size, "softplus") for size in (8, 32)]
    more = [("VAE", round(7.84 / size, 4), size, "softplus") for size in TRAP_SIZES]
    more += [("VAE", float(beta), 10, "square") for beta in SQUARE_BETAS]
    both = ("short", "trained out")
    rows = [(*kind, training, seed) for seed in SEEDS for kind in main for training in both]
    rows += [(*kind, "twice as long", SEEDS[0]) for kind in double]
    rows += [(*kind, training, seed) for seed in SEEDS for kind in more for training in both]
    return [dict(zip(SETTING, row, strict=True)) for row in rows]


def shipped() -> list[dict]:
    """Lists the models whose weights go with the package: notebook 06 draws what they make."""
    kinds = [("autoencoder", np.nan, 10, "none")]
    kinds += [("VAE", beta, 10, "softplus") for beta in (0.0, 0.1, 1.0, 4.0, 10.0)]
    kinds += [("VAE", 1.0, size, "softplus") for size in (1, 2, 5, 32)]
    rows = [(*kind, "trained out", SEEDS[0]) for kind in kinds]
    return [dict(zip(SETTING, row, strict=True)) for row in rows]


def name_of(setting: dict) -> str:
    """Names the file of a model's weights."""
    return "_".join(str(value).replace(" ", "-") for value in setting.values())


def new_model(setting: dict, image_shape=(28, 28, 1)) -> tuple:
    """Makes the post's networks; their initial weights depend on the seed and the sizes alone."""
    link = LINKS.get(setting["link"], tf.nn.softplus)
    encoder = Encoder([100, 100], setting["latent_size"], scale_fn=link)
    decoder = Decoder([100, 100], image_shape)
    tf.random.set_seed(setting["seed"])
    decoder(encoder(tf.zeros([1, *image_shape])).loc)
    return encoder, decoder, standard_normal(setting["latent_size"])


def load(folder: Path, setting: dict, model: tuple) -> None:
    """Gives a model the weights that a folder has for it."""
    with np.load(folder / f"{name_of(setting)}.npz") as weights:
        for variable, value in zip(variables_of(*model[:2]), weights.values(), strict=True):
            variable.assign(value)


def make_step(setting: dict, model: tuple, training_steps: int | None):
    """Makes a step with the loss D + βR, or, of the autoencoder, which has no noise, D alone.

    The learning rate falls over `training_steps`, or stays at the post's.
    """
    encoder, decoder, prior = model
    learning_rate = tf.Variable(1e-3, trainable=False)
    optimizer = snt.optimizers.Adam(learning_rate)

    def step(x, seed):
        if training_steps:
            part = 24 * seed[1] // training_steps
            learning_rate.assign(tf.where(part < 16, 2e-3, tf.where(part < 21, 5e-4, 1e-4)))
        with tf.GradientTape() as tape:
            q = encoder(x)
            deterministic = setting["model"] == "autoencoder"
            z = q.mean() if deterministic else q.sample(seed=seed)
            loss = nats = tf.reduce_mean(distortion(decoder(z), x))
            if not deterministic:
                loss = nats + setting["beta"] * tf.reduce_mean(rate(q, prior))
            loss = loss / x.shape[1:].num_elements()
        variables = tape.watched_variables()  # the autoencoder has no scale
        optimizer.apply(tape.gradient(loss, variables), variables)
        return {"total": loss}

    return step


def train_model(setting: dict, model: tuple, images: np.ndarray) -> None:
    """Trains a model in place, and keeps its weights in build/experiments."""
    options = {"seed": setting["seed"], "progress": False}
    if setting["training"] != "short":
        steps = PASSES[setting["training"]] * (len(images) // BATCH_SIZE)
        step = make_step(setting, model, steps)
        run_steps(step, images, batch_size=BATCH_SIZE, training_steps=steps, **options)
    elif setting["model"] == "autoencoder":
        run_steps(make_step(setting, model, None), images, **options)
    else:
        beta = averaged_beta(setting["beta"], images[0].size, setting["latent_size"])
        train(*model, images, beta=beta, **options)
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    weights = {f"weight{i}": v.numpy() for i, v in enumerate(variables_of(*model[:2]))}
    np.savez(WEIGHTS / f"{name_of(setting)}.npz", **weights)


def new_classifier(images: np.ndarray, labels: np.ndarray) -> tf_keras.Model:
    """Trains the classifier whose last hidden layer a Fréchet distance compares."""
    layers = tf_keras.layers
    classifier = tf_keras.Sequential(
        [
            layers.Input([28, 28, 1]),
            layers.Conv2D(32, 5, strides=2, activation="relu"),
            layers.Conv2D(64, 5, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    path = WEIGHTS / "classifier.h5"
    if path.exists():
        classifier.load_weights(path)
        return classifier
    tf.random.set_seed(0)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile("adam", loss)
    classifier.fit(images / np.float32(255), labels, batch_size=128, epochs=6, verbose=2)
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    classifier.save_weights(path)
    return classifier


def frechet_distance(features: np.ndarray, others: np.ndarray) -> float:
    """Computes the squared Fréchet distance of two Gaussians with the moments of two sets."""
    moments = [(f.mean(axis=0), np.cov(f, rowvar=False)) for f in (features, others)]
    (mean, covariance), (other_mean, other_covariance) = moments
    # The trace of the root of a product of two positive matrices: its eigenvalues are positive.
    roots = np.sqrt(np.maximum(np.linalg.eigvals(covariance @ other_covariance).real, 0))
    return float(
        np.sum((mean - other_mean) ** 2)
        + np.trace(covariance)
        + np.trace(other_covariance)
        - 2 * roots.sum()
    )


@cache
def data() -> dict:
    """Reads the images and the classifier, once a process."""
    images, labels = load_images("mnist", "train")
    test_images, test_labels = load_images("mnist", "test")
    classifier = new_classifier(images, labels)
    guesses = np.argmax(classifier.predict(test_images / np.float32(255), verbose=0), axis=1)
    hidden = tf_keras.Model(classifier.input, classifier.layers[-2].output)
    features_of = partial(hidden.predict, batch_size=500, verbose=0)
    features = features_of(test_images / np.float32(255))
    floor = frechet_distance(features_of(images[:FITTED] / np.float32(255)), features)
    return {
        "images": images,
        "test_images": test_images,
        "features_of": features_of,
        "features": features,
        "constants": {"accuracy": np.mean(guesses == test_labels), "frechet_floor": floor},
    }


def bounds_under(encoder, decoder, few: np.ndarray, log_priors: dict, least_scale) -> dict:
    """Bounds log p(x) under several priors, by draws around m(x) at least as wide as asked."""
    sums = {name: [] for name in log_priors}
    for start in range(0, len(few), 20):
        x = few[start : start + 20]
        q = encoder(x)
        wide = tfd.Normal(q.loc, tf.maximum(q.scale, least_scale))
        z = wide.sample(DRAWS, seed=[start, 2])  # [k, n, L]
        codes = tf.reshape(z, [-1, z.shape[-1]])
        log_p = -distortion(decoder(codes), np.tile(x, [DRAWS, 1, 1, 1]))
        weights = tf.reshape(log_p, z.shape[:2]) - log_density(wide, z)
        for name, log_prior in log_priors.items():
            log_w = np.float64(weights) + np.reshape(log_prior(codes), weights.shape)
            sums[name].append(np.logaddexp.reduce(log_w, axis=0) - np.log(DRAWS))
    return {name: float(np.mean(np.concatenate(parts))) for name, parts in sums.items()}


def mutual_information(q, z) -> float:
    """Bounds I(x; z) from below by N draws, with the mixture of the N posteriors as q(z)."""
    parts = np.array_split(z, 40)
    marginal = [tf.reduce_logsumexp(log_density(q, part[:, None]), axis=1) for part in parts]
    return float(np.mean(log_density(q, z) - tf.concat(marginal, axis=0)) + np.log(len(z)))


def measure(setting: dict, model: tuple) -> dict:
    """Computes the columns of a row, on held-out images, in nats per image."""
    trained, decoder, prior = model
    images, test_images = data()["images"], data()["test_images"]
    few, deterministic = test_images[:BOUNDED], setting["model"] == "autoencoder"

    def encoder(x):
        """Returns q(z|x); of the autoencoder a point, since nothing has trained its scale."""
        q = trained(x)
        return tfd.Normal(q.loc, tf.zeros_like(q.loc)) if deterministic else q

    if deterministic:
        blocks = np.split(test_images, 10)
        distortions = [distortion(decoder(encoder(x).mean()), x) for x in blocks]
        row = {"distortion": float(np.mean(distortions))}
    else:
        row = evaluate(*model, test_images).mean().to_dict()
        row["bound"] = log_likelihood(*model, few, num_samples=DRAWS, progress=False).mean()
        q = encoder(test_images)
        kl = np.mean(q.kl_divergence(prior), axis=0)
        row["over_0.1"] = int((kl > 0.1).sum())
    row["active_units"] = int(active_units(trained, test_images).sum())

    chunks = np.split(images[:FITTED], 10)
    z = np.concatenate([encoder(x).sample(seed=[i, 1]) for i, x in enumerate(chunks)]).astype(
        np.float64
    )
    fits = {"gaussian": 1, "mixture": 10}
    fits = {n: GaussianMixture(k, random_state=0).fit(z) for n, k in fits.items()}
    log_priors = {"prior": lambda codes: log_density(prior, codes)}
    log_priors |= {name: density.score_samples for name, density in fits.items()}
    spread = z.std(axis=0).astype(np.float32)
    for suffix, width in WIDTHS.items():
        if suffix and (setting["training"], setting["seed"]) != ("trained out", SEEDS[0]):
            continue  # what the width does is told by one seed
        bounds = bounds_under(encoder, decoder, few, log_priors, width * spread)
        row |= {f"bound_{name}{suffix}": bound for name, bound in bounds.items()}

    if not deterministic:
        q = encoder(test_images[:SHARED])
        z = q.sample(seed=[0, 3])
        nats = float(np.mean(rate(q, prior)))
        fitted = float(np.mean(log_density(q, z) - fits["mixture"].score_samples(z)))
        row |= {"shared_rate": nats, "information_at_most": min(nats, fitted)}
        row["information_at_least"] = mutual_information(q, q.sample(seed=[4, 0]))

    drawn = {"prior": prior.sample(FITTED, seed=[0, 5])}
    drawn |= {name: density.sample(FITTED)[0] for name, density in fits.items()}
    for name, z in drawn.items():
        blocks = [decoder(part).mean().numpy() for part in np.split(np.float32(z), 10)]
        features = data()["features_of"](np.concatenate(blocks))
        row[f"frechet_{name}"] = frechet_distance(features, data()["features"])
    return row | data()["constants"]


def run(setting: dict) -> dict:
    """Trains a model, unless its weights are there, and measures it: a row of the table."""
    start = time.perf_counter()
    model = new_model(setting)
    if (WEIGHTS / f"{name_of(setting)}.npz").exists():
        load(WEIGHTS, setting, model)
    else:
        train_model(setting, model, data()["images"])
    steps, passes = 1024, round(1024 * 64 / len(data()["images"]), 1)
    if setting["training"] != "short":
        passes = PASSES[setting["training"]]
        steps = passes * (len(data()["images"]) // BATCH_SIZE)
    row = {"steps": steps, "passes": passes, **measure(setting, model)}
    row = {
        name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()
    }
    return (
        setting
        | row
        | {
            "seconds": round(time.perf_counter() - start, 1),
            "bounded_images": BOUNDED,
            "draws": DRAWS,
            "tensorflow": tf.__version__,
            "scikit_learn": sklearn.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
    )


def ship() -> None:
    """Writes the weights of a few models beside the table, in half precision."""
    for setting in shipped():
        name = f"{name_of(setting)}.npz"
        with np.load(WEIGHTS / name) as weights:
            half = {key: value.astype(np.float16) for key, value in weights.items()}
        np.savez_compressed(RESULTS / name, **half)


def one_thread() -> None:
    """Sets a process up: two of one thread train more models an hour than one of two."""
    threadpool_limits(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", help="models whose name holds this text")
    arguments = parser.parse_args()
    new_classifier(*load_images("mnist", "train"))  # once, for all processes
    rows = pd.read_csv(TABLE).to_dict("records") if TABLE.exists() else []
    known = {name_of({name: row[name] for name in SETTING}) for row in rows}
    missing = [s for s in settings() if name_of(s) not in known]
    missing = [s for s in missing if not arguments.only or arguments.only in name_of(s)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, context, one_thread) as executor:
        futures = [executor.submit(run, setting) for setting in missing]
        for future in tqdm(as_completed(futures), total=len(futures), unit="model"):
            rows.append(future.result())
            RESULTS.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).sort_values(SETTING).to_csv(TABLE, index=False)
    ship()


if __name__ == "__main__":
    main()
