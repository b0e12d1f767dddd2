"""The figures that several notebooks draw, legible under any Matplotlib style."""

from vae_helpers.data import check_images
from vae_helpers.support import checks
from vae_helpers.traversals import tile

import textwrap
from typing import Any

import numpy as np
import pandas as pd
import plotnine as gg
from matplotlib import pyplot as plt

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000"]


def plot_losses(losses: pd.DataFrame, beta: float) -> gg.ggplot:
    """Draws the figure of the post: its three losses against the step, on log-log axes.

    An axis is linear if a value on it is 0 or below, as the negative
    log-likelihood of a density may be. A loss that is not finite leaves a gap in
    its line, and the title of the step's axis says how many are left out.

    Args:
        losses: rows with step, total, kl and reconstruction, as `training.train`
            returns them or as the post prints them.
        beta: the weight that the title shows.

    Returns:
        A plotnine plot, to which layers can be added.

    Raises:
        ValueError: if no loss is finite, or `beta` is not a number of 0 or above.
        KeyError: if a column is missing.
    """
    beta = checks.number("beta", beta)
    table = pd.DataFrame(losses).melt("step", ["total", "kl", "reconstruction"], var_name="loss")
    values = table["value"].astype(float)
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError(f"losses must have a finite value, got none in {len(losses)} rows")
    note = "" if finite.all() else f" (not finite and left out: {(~finite).sum()})"
    table["value"] = values.where(finite)
    positive = {name: not (table[name] <= 0).any() for name in ("step", "value")}
    title = r"$\mathcal{L} = \mathcal{L}_\mathrm{reconstruction} + "
    title += rf"{beta:g}\,\mathcal{{L}}_\mathrm{{KL}}$"
    return (
        gg.ggplot(table, gg.aes(x="step", y="value", color="loss", shape="loss"))
        + (gg.geom_line() if table["step"].nunique() > 1 else gg.geom_point())
        + (gg.scale_x_log10() if positive["step"] else gg.scale_x_continuous())
        + (gg.scale_y_log10() if positive["value"] else gg.scale_y_continuous())
        + gg.scale_color_manual(["#0072B2", "#E69F00", "#000000"])  # differ in gray, too
        + gg.labs(title=title, color="", shape="")
        + gg.labs(x=f"training step{note}", y="average per pixel or latent (nats)")
        + gg.theme_bw()  # its text is black, and the style may have a dark background
        + gg.theme(figure_size=(7, 4), plot_background=gg.element_rect(fill="white"))
    )


def plot_reconstructions(rows: dict[str, Any]) -> plt.Figure:
    """Draws rows of images under one another, as the post shows truth and reconstruction.

    Args:
        rows: label of each row, and its images [n, H, W, C] as gray levels from 0
            to 255 (uint8) or from 0 to 1; the same number in each row.

    Returns:
        A figure; as the last line of a cell it is shown.

    Raises:
        ValueError: if there are no rows, they differ in number or are not gray levels.
    """
    rows = {label: np.asarray(images) for label, images in rows.items()}
    numbers = {label: len(images) for label, images in rows.items()}
    if len(set(numbers.values())) != 1 or 0 in numbers.values():
        raise ValueError(f"rows must be one or more, of as many images each, got {numbers}")
    columns = next(iter(numbers.values()))
    size = 7, len(rows) * 6 / max(columns, 5) + 0.2
    figure, axes = plt.subplots(len(rows), figsize=size, layout="none", squeeze=False)
    for axis, (label, images) in zip(axes.flat, rows.items(), strict=True):
        _draw(axis, f"rows[{label!r}]", tile(images, columns))
        # Legible on a phone, too.
        axis.set_ylabel(textwrap.fill(label, 14), rotation=0, ha="right", va="center", size=14)
    figure.tight_layout(h_pad=0.2)
    return figure


def plot_tiles(image: Any, *, x: str = "", y: str = "") -> plt.Figure:
    """Draws a picture of tiled images, dark ink on light paper.

    Args:
        image: [H, W] or [H, W, C], as `traversals.tile` returns it; gray levels
            from 0 to 255 (uint8) or from 0 to 1.
        x, y: what stands below and beside it.

    Returns:
        A figure; as the last line of a cell it is shown.

    Raises:
        ValueError: if `image` is not gray levels.
    """
    image = np.asarray(image)
    height = np.clip(6 * image.shape[0] / image.shape[1], 0.6, 8) + 0.6
    figure, axis = plt.subplots(figsize=(6, height), layout="none")
    _draw(axis, "image", image)
    axis.set_xlabel(x, size=14)  # legible on a phone, too
    axis.set_ylabel(y, size=14)
    figure.tight_layout()
    return figure


def _draw(axis: plt.Axes, name: str, image: np.ndarray) -> None:
    """Draws all gray levels as they are and the right way up, whatever the reader's style."""
    high = 255 if image.dtype == np.uint8 else 1
    if high == 255:  # and not of 0 and 1, which would look blank
        check_images(image.reshape(1, *image.shape[:2], -1), name)
    # Matplotlib would clip the rest, or leave it out; this is false for NaN, too.
    if not np.all(abs(image / high - 0.5) <= 0.5 + 1e-6):
        raise ValueError(
            f"{name} must be uint8, or numbers from 0 to 1, "
            f"got {image.dtype} from {image.min()} to {image.max()}"
        )
    options = {"interpolation": "nearest", "origin": "upper", "aspect": "equal"}
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=high, **options)
    axis.grid(False, which="both")
    axis.minorticks_off()
    axis.set(xticks=[], yticks=[], frame_on=False)
    plt.close(axis.figure)  # or pyplot would show it a second time
