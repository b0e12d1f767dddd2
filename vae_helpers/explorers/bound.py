"""A page that draws the ELBO of a linear-Gaussian model, with sliders for q's mean and scale."""

from vae_helpers.explorers.page import Page, default_settings
from vae_helpers.support import checks

import math
import numbers
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

_LEVELS = 24  # of color, half a nat each


@default_settings()
def bound_explorer(
    weight: float, bias: float, noise_scale: float, x: float, *, q_mean: float, q_scale: float
) -> Page:
    """Shows the ELBO of a linear-Gaussian model, in nats, with sliders for q's mean and scale.

    The model is p(z) = N(0, 1) and p(x|z) = N(weight * z + bias, noise_scale²), whose
    posterior and evidence are known. The page computes by itself: it needs no kernel and
    no network.

    Args:
        weight, bias, noise_scale: of the model.
        x: the observation.
        q_mean, q_scale: where q starts.

    Returns:
        A page; as the last line of a cell it is shown.

    Raises:
        ValueError: if a number is not finite, or a scale not above 0.
    """
    for name, value in {"weight": weight, "bias": bias, "x": x, "q_mean": q_mean}.items():
        if not (isinstance(value, numbers.Real) and math.isfinite(value)):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    weight, bias, x, q_mean = float(weight), float(bias), float(x), float(q_mean)
    noise_scale = checks.number("noise_scale", noise_scale, positive=True)
    q_scale = checks.number("q_scale", q_scale, positive=True)

    total = math.hypot(weight, noise_scale)
    mean, scale = weight * (x - bias) / total**2, noise_scale / total  # of the posterior
    evidence = -0.5 * ((x - bias) / total) ** 2 - math.log(total * math.sqrt(2 * math.pi))
    means, scales = (0.0, q_mean, mean), (1.0, q_scale, scale)
    model = {"weight": weight, "bias": bias, "noise_scale": noise_scale, "x": x}
    data = {
        **model,
        "guess": [q_mean, q_scale],
        "means": [min(means) - 1, max(means) + 1],
        "scales": [0.5 * min(scales), 1.3 * max(scales)],
        "colors": [to_hex(c) for c in mpl.colormaps["viridis"](np.linspace(0, 1, _LEVELS))],
    }
    description = f"Explorer of the bound: q at mean {q_mean:g}, scale {q_scale:g}"
    return Page("bound", data, _picture(data, (mean, scale), evidence), description)


def _kl(m: Any, sigma: Any, posterior: tuple[float, float]) -> Any:
    """Computes KL(N(m, sigma²) || posterior), the gap, in nats."""
    mean, scale = posterior
    return np.log(scale / sigma) + 0.5 * ((sigma / scale) ** 2 + ((m - mean) / scale) ** 2 - 1)


def _density(z: np.ndarray, m: float, sigma: float) -> np.ndarray:
    return np.exp(-0.5 * ((z - m) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))


def _picture(data: dict[str, Any], posterior: tuple[float, float], evidence: float) -> Figure:
    """Draws what the page shows at first: landscape, densities and slice."""
    (m, sigma), (mean, scale) = data["guess"], posterior
    figure = Figure(figsize=(5.2, 5.4), dpi=100, layout="constrained")  # legible on a phone
    left, middle, right = figure.subplot_mosaic("ab;cc").values()
    means, scales = (np.linspace(*data[name], 201) for name in ("means", "scales"))
    gaps = _kl(means, scales[:, None], posterior)
    left.contourf(means, scales, -gaps, np.linspace(-12, 1e-6, _LEVELS + 1), extend="min")
    left.contour(means, scales, gaps, [0.1, 1, 5], colors="k", linewidths=0.7)
    for known in (1, 5):  # on the line where the scale is the posterior's
        place = mean + np.sqrt(2 * known) * scale
        left.text(place, scale, f" {known}", va="center", clip_on=True)
    left.plot(mean, scale, "*", color="#0072B2", ms=13, mec="white")
    left.plot(m, sigma, "o", color="#D55E00", ms=9, mec="white", mew=2)
    left.set(xlabel="mean m of q", ylabel="scale σ of q", title="ELBO")

    ends = [c + side * 4 * s for c, s in ((0, 1), posterior, (m, sigma)) for side in (-1, 1)]
    z = np.linspace(min(ends), max(ends), 301)
    middle.plot(z, _density(z, 0, 1), ":", color="#009E73", label="prior")
    middle.plot(z, _density(z, *posterior), color="#0072B2", label="posterior")
    middle.plot(z, _density(z, m, sigma), "--", color="#D55E00", label="our q")
    middle.set(xlabel="latent z", ylabel="density", title="q and the posterior")

    near = np.linspace(mean - 4 * scale, mean + 4 * scale, 161)
    below = evidence - _kl(near, sigma, posterior)
    right.axhline(evidence, color="black", label="log p(x)")
    right.plot(near, evidence - _kl(near, scale, posterior), color="#0072B2", label="posterior's σ")
    right.plot(near, below, "--", color="#D55E00", label="our σ")
    right.fill_between(near, below, evidence, color="#56B4E9", alpha=0.3, linewidth=0)
    gap = _kl(m, sigma, posterior)
    right.plot([m] * 2, [evidence - gap, evidence], "k:")
    right.plot(m, evidence - gap, "o", color="#D55E00", ms=7, mec="white", mew=2)
    right.set(xlabel="mean m of q", ylabel="nats", title=f"gap at our q: {gap:.2f} nats")
    right.set(xlim=near[[0, -1]], ylim=(evidence - 6, evidence + 0.7))
    for axis in (middle, right):
        axis.legend(handlelength=1.5)
    return figure
