"""Many trainings, one table."""

import vae_helpers._quiet  # noqa: F401  # isort: skip  (before TensorFlow)

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
import sonnet as snt

from vae_helpers.data import check_images
from vae_helpers.evaluation import active_units, evaluate
from vae_helpers.models import Decoder, Encoder, standard_normal, tfd
from vae_helpers.training import progress_bar, train

Measure = Callable[[snt.Module, snt.Module, tfd.Distribution], Mapping[str, Any]]

_ARCHITECTURE = {"hidden_sizes", "latent_size"}
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

    Configurations of one architecture and batch size share one compiled program
    (see `training.train`): put them next to one another.

    Args:
        configurations: hyperparameters by the names of the post; hidden_sizes
            and latent_size are required, and `train` has defaults for
            batch_size, beta, learning_rate, training_steps and seed.
        images: to train on, [N, H, W, C].
        test_images: held out, [M, H, W, C].
        measure: computes further columns from (encoder, decoder, prior).
        progress: whether to show a progress bar.

    Returns:
        One row a configuration: its hyperparameters; the held-out means `rate`,
        `distortion` and `elbo`, in nats per image; `active_units`, a number of
        latents; and what `measure` returns. An interrupt returns the rows so far.

    Raises:
        ValueError: if a configuration has an unknown or a missing name, or there
            are none; and as `train`, for a value out of its range.
    """
    configurations = [dict(configuration) for configuration in configurations]
    if not configurations:
        raise ValueError("configurations must hold at least one, got none")
    for configuration in configurations:
        names = set(configuration)
        if not _ARCHITECTURE <= names <= _ARCHITECTURE | _TRAINING:
            raise ValueError(
                f"configurations must name {sorted(_ARCHITECTURE)} and may name "
                f"{sorted(_TRAINING)}, got {sorted(names)}"
            )
    images, test_images = check_images(images), check_images(test_images, "test_images")
    rows = []
    with progress_bar(len(configurations), progress) as bar:
        for configuration in configurations:
            try:
                row = _run(configuration, images, test_images, measure)
            except KeyboardInterrupt:
                break
            rows.append(configuration | row)
            bar.update()
    return pd.DataFrame(rows)


def _run(configuration, images, test_images, measure) -> dict[str, Any]:
    """Trains and scores one model."""
    latent_size = configuration["latent_size"]
    encoder = Encoder(configuration["hidden_sizes"], latent_size)
    decoder = Decoder(configuration["hidden_sizes"], images.shape[1:])
    prior = standard_normal(latent_size)
    options = {name: configuration[name] for name in _TRAINING & set(configuration)}
    losses = train(encoder, decoder, prior, images, progress=False, **options)
    if losses.attrs["interrupted"]:
        raise KeyboardInterrupt
    row = evaluate(encoder, decoder, prior, test_images).mean().to_dict()
    row["active_units"] = int(active_units(encoder, test_images).sum())
    return row | dict(measure(encoder, decoder, prior) if measure else {})
