from vae_helpers.plots import plot_losses, plot_reconstructions, plot_tiles

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

LOSSES = pd.DataFrame(
    {"step": [1, 2, 3], "total": [2.0, 1.5, 1.0], "kl": [3.0, 4.0, 4.5], "reconstruction": 0.9}
)
GRAYS = np.linspace(0, 1, 80).reshape(5, 4, 4, 1)
MASKS = (GRAYS > 0.5).astype(np.uint8)


def test_the_figure_of_the_post_has_its_losses_and_axes():
    plot = plot_losses(LOSSES.assign(rate=7.0), beta=0.01)
    assert "0.01" in plot.labels.title and plot.labels.x == "training step"
    lines = plot.draw().axes[0].lines
    for line, name in zip(lines, ["kl", "reconstruction", "total"], strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.log10(LOSSES[name]))


def test_the_losses_of_a_single_step_are_points(recwarn):
    axis = plot_losses(LOSSES[:1], beta=0.01).draw().axes[0]
    assert sum(len(points.get_offsets()) for points in axis.collections) == 3
    assert not [w for w in recwarn if "plotnine" in str(w.filename)]


@pytest.mark.parametrize("changed", [{"total": [1.0, -0.5, -2.0]}, {"kl": 0}, {"step": [0, 1, 2]}])
def test_losses_and_steps_at_or_below_0_are_all_drawn(changed):
    axis = plot_losses(LOSSES.assign(**changed), beta=1.0).draw().axes[0]
    points = np.concatenate([line.get_xydata() for line in axis.lines])
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    assert len(points) == 9 and np.all(([left, low] < points) & (points < [right, high]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_losses_that_are_not_finite_are_left_out_and_counted(value):
    plot = plot_losses(LOSSES.assign(total=[2.0, value, value]), beta=1.0)
    assert plot.labels.x == "training step (not finite and left out: 2)"
    assert np.isfinite(plot.data["value"]).sum() == 7


def test_reconstructions_are_drawn_in_labeled_rows_of_the_same_scale(images):
    draws = (images[:5] > 99).astype(np.int32)  # as a Bernoulli gives them
    axes = plot_reconstructions({"truth": images[:5], "model": images[:5] / 255, "x": draws}).axes
    assert [axis.get_ylabel() for axis in axes] == ["truth", "model", "x"]
    truth, model, x = (axis.images[0].norm(axis.images[0].get_array()) for axis in axes)
    np.testing.assert_allclose(truth, model, atol=1e-6)
    np.testing.assert_array_equal(truth > 99.5 / 255, x)


def test_tiles_are_drawn_from_zero_to_one_and_only_once():
    axis = plot_tiles(np.full([4, 8], 0.5), x="latent 0", y="latent 1").axes[0]
    assert axis.images[0].get_clim() == (0, 1)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("latent 0", "latent 1")
    assert plt.get_fignums() == []  # nothing left for pyplot to show again


STYLES = [
    (lambda: plot_losses(LOSSES, 0.01).draw(), "dark_background"),
    (lambda: plot_reconstructions({"a": GRAYS, "b": GRAYS}), {"image.origin": "lower"}),
    (lambda: plot_tiles(GRAYS[1]), {"image.aspect": "auto", "figure.constrained_layout.use": True}),
    (lambda: plot_tiles(GRAYS[1]), {"axes.grid": True, "axes.grid.which": "both"}),
    (lambda: plot_tiles(GRAYS[1]), {"xtick.minor.visible": True, "figure.autolayout": True}),
]


@pytest.mark.parametrize(("draw", "style"), STYLES)
@pytest.mark.filterwarnings("error:The figure layout has changed:UserWarning")
def test_a_style_of_the_reader_spoils_no_figure(draw, style, tmp_path):
    pictures = []
    for used in ("default", style):
        with plt.style.context(["default", used]):
            figure = draw()
            figure.axes[0].set(xticks=[1, 3], yticks=[1, 3])  # as notebook 05 labels its tiles
            figure.savefig(tmp_path / "figure.png")
        pictures.append(plt.imread(tmp_path / "figure.png"))
    assert np.mean(pictures[0] != pictures[1]) < 1e-5  # plotnine's corner is half a pixel


BAD = [
    (plot_losses, [LOSSES.drop(columns="kl"), 1.0], "'kl'"),
    (plot_losses, [LOSSES[:0], 1.0], "losses must have a finite value, got none in 0 rows"),
    (plot_losses, [LOSSES, -1.0], "beta must be a finite number, 0 or above"),
    (plot_reconstructions, [{}], "rows must be one or more"),
    (plot_reconstructions, [{"a": GRAYS, "b": GRAYS[:4]}], "rows must be .*'b': 4"),
    (plot_reconstructions, [{"a": GRAYS + 0.1}], r"rows\['a'\] must be .* to 1\.1"),
    (plot_reconstructions, [{"a": 2 * MASKS.astype(int)}], "got int64 from 0 to 2"),
    (plot_reconstructions, [{"a": MASKS}], r"rows\['a'\] .*255"),
    (plot_tiles, [MASKS[3]], "image .*255"),
    (plot_tiles, [GRAYS[0] - 0.1], r"image must be .* from -0\.1"),
    (plot_tiles, [GRAYS[0] + np.nan], "image must be .* nan"),
    (plot_tiles, [GRAYS], "Invalid shape"),  # they were not tiled
]


@pytest.mark.parametrize(("function", "arguments", "message"), BAD)
def test_what_cannot_be_drawn_is_named(function, arguments, message):
    with pytest.raises((ValueError, KeyError, TypeError), match=message):
        function(*arguments)
