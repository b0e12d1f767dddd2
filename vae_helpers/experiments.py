"""Many trainings, one table."""

import vae_helpers._quiet  # noqa: F401  # isort: skip  (before TensorFlow)

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import pandas as pd
import sonnet as snt

from vae_helpers.data import check_images
from vae_helpers.evaluation import active_units, evaluate
from vae_helpers.models import Decoder, Encoder, standard_normal, tfd
from vae_helpers.training import forget_programs, progress_bar, train

Measure = Callable[[snt.Module, snt.Module, tfd.Distribution], Mapping[str, Any]]

_SIZES = {"hidden_sizes", "latent_size"}
_LINK = {"scale_fn"}
_TRAINING = {"batch_size", "beta", "learning_rate", "training_steps", "seed"}


def sweep(
    configurations: Iterable[Mapping[str, Any]],
    images: Any,
    test_images: Any,
    *,
    measure: Measure | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Trains one model for each configuration and scores it on held-out images.

    Two threads work side by side, for one training cannot keep two cores busy. The
    numbers are those of `train` alone. Configurations of one architecture and batch
    size share a compiled program (see `training.train`), one for each thread that needs
    it at the same time: order them so that neighbors differ in architecture.

    Args:
        configurations: hyperparameters by the names of the post; hidden_sizes
            and latent_size are required, and there are defaults for batch_size, beta,
            learning_rate, training_steps, seed (see `train`) and scale_fn (see `Encoder`).
        images: to train on, [N, H, W, C].
        test_images: held out, [M, H, W, C].
        measure: computes further columns from (encoder, decoder, prior), in the
            thread that trained them.
        progress: whether to show a progress bar.

    Returns:
        One row a configuration: its hyperparameters; the held-out means `rate`,
        `distortion` and `elbo`, in nats per image; `active_units`, a number of
        latents; and what `measure` returns. An interrupt waits for the models in
        training and returns the rows that are finished.

    Raises:
        ValueError: if a configuration has an unknown or a missing name, or there
            are none; and as `train`, for a value out of its range.
        NonFiniteLossError: as `train`.
    """
    configurations = [dict(configuration) for configuration in configurations]
    if not configurations:
        raise ValueError("configurations must hold at least one, got none")
    for configuration in configurations:
        names = set(configuration)
        if not _SIZES <= names <= _SIZES | _LINK | _TRAINING:
            raise ValueError(
                f"configurations must name {sorted(_SIZES)} and may name "
                f"{sorted(_LINK | _TRAINING)}, got {sorted(names)}"
            )
    images, test_images = check_images(images), check_images(test_images, "test_images")
    forget_programs()
    with (
        ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as executor,
        progress_bar(len(configurations), progress) as bar,
    ):
        futures = [
            executor.submit(_run, configuration, images, test_images, measure)
            for configuration in configurations
        ]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except KeyboardInterrupt:
            pass  # the rows so far are the answer
        finally:
            executor.shutdown(cancel_futures=True)
            forget_programs()
    rows = zip(configurations, futures, strict=True)
    return pd.DataFrame(
        [c | f.result() for c, f in rows if not f.cancelled() and f.exception() is None]
    )


def _run(configuration, images, test_images, measure) -> dict[str, Any]:
    """Trains and scores one model."""
    latent_size = configuration["latent_size"]
    links = {name: configuration[name] for name in _LINK & set(configuration)}
    encoder = Encoder(configuration["hidden_sizes"], latent_size, **links)
    decoder = Decoder(configuration["hidden_sizes"], images.shape[1:])
    prior = standard_normal(latent_size)
    options = {name: configuration[name] for name in _TRAINING & set(configuration)}
    train(encoder, decoder, prior, images, progress=False, **options)
    row = evaluate(encoder, decoder, prior, test_images).mean().to_dict()
    row["active_units"] = int(active_units(encoder, test_images).sum())
    return row | dict(measure(encoder, decoder, prior) if measure else {})
