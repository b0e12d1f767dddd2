"""Codes to decode: grids in latent space, and the images tiled in their order."""

from vae_helpers.support import checks

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special


def plane(values: Any, latent_size: int, latents: Sequence[int] = (0, 1)) -> np.ndarray:
    """Spans a plane by two latents, all others at 0.

    With values = np.linspace(-1, 1, 10) it is the grid of the post.

    Args:
        values: [n] coordinates along either axis.
        latent_size: number of latents L, 2 or more.
        latents: the two that vary: along a row of tiles, and down a column.

    Returns:
        float32 [n * n, L], a row of the picture after the other.

    Raises:
        ValueError: if `values` is not a list of finite numbers, or `latents`
            are not two different ones of 0 to L - 1.
    """
    if np.size(latents) != 2:
        raise ValueError(f"latents must be two, got {latents}")
    across, down = np.split(rows(values, latent_size, latents), 2)
    return (down[:, None] + across).reshape(-1, latent_size)


def rows(
    values: Any, latent_size: int, latents: Sequence[int] | None = None, center: Any = None
) -> np.ndarray:
    """Varies one latent a row, all others at `center`.

    Args:
        values: [n] coordinates along a row.
        latent_size: number of latents L.
        latents: the latent of each row; all of them, in order, by default.
        center: [L] code that the rows start from; 0 by default.

    Returns:
        float32 [len(latents) * n, L], a row after the other.

    Raises:
        ValueError: if `values` or `center` are not finite numbers of these
            shapes, or `latents` not different ones of 0 to L - 1.
    """
    values = _vector("values", values)
    latent_size = checks.positive_integer("latent_size", latent_size)
    center = _vector("center", np.zeros(latent_size) if center is None else center, latent_size)
    latents = np.atleast_1d(range(latent_size) if latents is None else latents)
    latents = [checks.integer("latents", latent) for latent in latents]  # no mask of active ones
    if not 0 < len(latents) == len({*latents} & {*range(latent_size)}):
        raise ValueError(f"latents must be different ones of 0 to {latent_size - 1}, got {latents}")
    z = np.tile(center, [len(latents), len(values), 1])
    for row, latent in enumerate(latents):
        z[row, :, latent] = values
    return z.reshape(-1, latent_size)


def quantiles(num: int) -> np.ndarray:
    """Computes values that cut the standard normal into pieces of equal probability.

    Each is the median of its piece: the grid of Kingma and Welling 2014, figure
    4, a unit square pushed through the inverse Gaussian CDF.

    Args:
        num: number of values.

    Returns:
        float32 [num], ascending, symmetric about 0.

    Raises:
        ValueError: if `num` is not a positive integer.
    """
    num = checks.positive_integer("num", num)
    return scipy.special.ndtri((np.arange(num) + 0.5) / num).astype(np.float32)


def tile(images: Any, columns: int) -> np.ndarray:
    """Tiles images into one, row after row.

    Args:
        images: [rows * columns, H, W, C], numbers of any range.
        columns: images per row.

    Returns:
        [rows * H, columns * W], or [rows * H, columns * W, C] with several
        channels.

    Raises:
        ValueError: if `images` has another rank, or does not fill whole rows.
    """
    images = np.asarray(images)
    columns = checks.positive_integer("columns", columns)
    if images.ndim != 4 or images.size == 0:
        raise ValueError(f"images must have the shape [N, H, W, C], got {list(images.shape)}")
    if len(images) % columns:
        raise ValueError(f"columns must divide the {len(images)} images, got {columns}")
    height, width, channels = images.shape[1:]
    grid = images.reshape(-1, columns, height, width, channels).swapaxes(1, 2)
    tiled = grid.reshape(-1, columns * width, channels)
    return tiled[:, :, 0] if channels == 1 else tiled


def _vector(name: str, values: Any, size: int | None = None) -> np.ndarray:
    """Returns finite numbers as float32 [size], or raises a ValueError that names them."""
    values = np.asarray(values, np.float32)
    if values.shape != (size or max(values.size, 1),) or not np.isfinite(values).all():
        raise ValueError(f"{name} must be {size or 'one or more'} finite numbers, got {values}")
    return values
