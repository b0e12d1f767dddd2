"""The figures that several notebooks draw."""

from vae_helpers.support import checks
from vae_helpers.traversals import tile

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotnine as gg
from matplotlib import pyplot as plt

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000"]


def plot_losses(losses: pd.DataFrame, beta: float) -> gg.ggplot:
    """Draws the figure of the post: its three losses against the step, on log-log axes.

    Args:
        losses: rows with step, total, kl and reconstruction, as `training.train`
            returns them or as the post prints them.
        beta: the weight that the title shows.

    Returns:
        A plotnine plot, to which layers can be added.

    Raises:
        ValueError: if a column is missing, or there are no rows, or `beta` is no number.
    """
    columns = ["step", "total", "kl", "reconstruction"]
    if not isinstance(losses, pd.DataFrame):
        raise ValueError(f"losses must be a table of pandas, got {type(losses).__name__}")
    if missing := [column for column in columns if column not in losses]:
        raise ValueError(f"losses must have the columns {columns}, {missing} missing")
    if losses.empty:
        raise ValueError("losses must have one row or more, got none")
    beta = checks.number("beta", beta)
    table = losses[columns].melt(id_vars="step", var_name="loss")
    return (
        gg.ggplot(table, gg.aes(x="step", y="value", color="loss", shape="loss"))
        + (gg.geom_line() if losses["step"].nunique() > 1 else gg.geom_point())
        + gg.scale_x_log10()
        + gg.scale_y_log10()
        + gg.scale_color_manual(["#0072B2", "#E69F00", "#000000"])  # differ in gray, too
        + gg.labs(
            title=r"$\mathcal{L} = \mathcal{L}_\mathrm{reconstruction} + "
            rf"{beta:g}\,\mathcal{{L}}_\mathrm{{KL}}$",
            x="training step",
            y="average per pixel or latent (nats)",
            color="",
            shape="",
        )
        + gg.theme_bw()
        + gg.theme(figure_size=(7, 4))
    )


def plot_reconstructions(rows: Mapping[str, Any]) -> plt.Figure:
    """Draws rows of images under one another, as the post shows truth and reconstruction.

    Args:
        rows: label of each row, and its images [n, H, W, C] as gray levels from 0
            to 255 or from 0 to 1; the same number in each row.

    Returns:
        A figure; as the last line of a cell it is shown.

    Raises:
        ValueError: if there are no rows, or they differ in number, or are no gray levels.
    """
    try:
        rows = {label: np.asarray(images) for label, images in rows.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"rows must be a dictionary of arrays [n, H, W, C]: {error}") from error
    numbers = {label: len(images) if images.ndim else 0 for label, images in rows.items()}
    if len(set(numbers.values())) != 1 or 0 in numbers.values():
        raise ValueError(f"rows must be one or more, of as many images each, got {numbers}")
    columns = numbers[next(iter(numbers))]
    strips = {label: tile(images, columns) for label, images in rows.items()}
    height = len(strips) * 7 / max(columns, 5) + 0.2
    figure, axes = plt.subplots(len(strips), 1, figsize=(7, height), squeeze=False)
    for axis, (label, strip) in zip(axes.flat, strips.items(), strict=True):
        high = 255 if strip.dtype == np.uint8 else 1
        axis.imshow(
            _picture(f"rows[{label!r}]", strip, high),
            cmap="viridis",
            vmin=0,
            vmax=high,
            interpolation="nearest",
        )
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(label, rotation=0, ha="right", va="center")
        axis.spines[:].set_visible(False)
    figure.tight_layout(h_pad=0.2)
    plt.close(figure)  # or pyplot would show it a second time
    return figure


def plot_tiles(image: Any, *, title: str = "", x: str = "", y: str = "") -> plt.Figure:
    """Draws a picture of tiled images in [0, 1], in the viridis of the post.

    Args:
        image: [H, W] or [H, W, C], as `traversals.tile` returns it.
        title, x, y: what stands above, below and beside it.

    Returns:
        A figure; as the last line of a cell it is shown.

    Raises:
        ValueError: if `image` has another rank, or is not in [0, 1].
    """
    image = _picture("image", image, high=1)
    width = 6.0
    height = np.clip(width * image.shape[0] / image.shape[1], 0.6, 8) + 0.6
    figure, axis = plt.subplots(figsize=(width, height))
    axis.imshow(image, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[], title=title, xlabel=x, ylabel=y)
    axis.spines[:].set_visible(False)
    figure.tight_layout()
    plt.close(figure)
    return figure


def _picture(name: str, image: Any, high: int) -> np.ndarray:
    """Returns what Matplotlib draws as it is: the rest it would clip or leave out silently."""
    try:
        image = np.asarray(image)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be one array [H, W] or [H, W, C]: {error}") from error
    if image.ndim not in (2, 3) or image.shape[2:] not in [(), (3,), (4,)] or image.size == 0:
        raise ValueError(f"{name} must be of gray or RGB tiles, got the shape {list(image.shape)}")
    rounding = 1e-6 * high
    if image.dtype.kind not in "buif" or not (
        image.min() >= -rounding and image.max() <= high + rounding
    ):
        raise ValueError(f"{name} must be numbers from 0 to {high}, got NaN or others")
    return image
