import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from vae_helpers.plots import plot_losses, plot_reconstructions, plot_tiles


def test_the_figure_of_the_post_has_its_losses_and_axes():
    losses = pd.DataFrame(
        {"step": [1, 2], "total": [2.0, 1.0], "kl": [3.0, 4.0], "reconstruction": [1.0, 0.5]}
    )
    plot = plot_losses(losses.assign(rate=7.0), beta=0.01)
    assert set(plot.data["loss"]) == {"total", "kl", "reconstruction"}
    figure = plot.draw()
    assert "0.01" in plot.labels.title
    assert len(figure.axes[0].collections) + len(figure.axes[0].lines) > 0
    plt.close(figure)
    with pytest.raises(ValueError, match=r"losses must have the columns.*\['kl'\] missing"):
        plot_losses(losses.drop(columns="kl"), beta=0.01)


def test_the_losses_of_a_single_step_are_points(recwarn):
    losses = pd.DataFrame({"step": [1], "total": [2.0], "kl": [3.0], "reconstruction": [1.0]})
    figure = plot_losses(losses, beta=0.01).draw()
    assert len(figure.axes[0].collections) > 0
    assert not [w for w in recwarn if "plotnine" in str(w.filename)]
    plt.close(figure)


def test_reconstructions_are_drawn_in_labeled_rows_of_the_same_scale(images):
    figure = plot_reconstructions({"truth": images[:5], "model": images[:5] / 255})
    assert [axis.get_ylabel() for axis in figure.axes] == ["truth", "model"]
    truth, model = (axis.images[0] for axis in figure.axes)
    np.testing.assert_allclose(
        truth.norm(truth.get_array()), model.norm(model.get_array()), atol=1e-6
    )
    with pytest.raises(ValueError, match="rows must be one or more.*'b': 4"):
        plot_reconstructions({"a": images[:5], "b": images[:4]})
    with pytest.raises(ValueError, match="rows must be one or more"):
        plot_reconstructions({})


def test_tiles_are_drawn_from_zero_to_one_and_only_once():
    figure = plot_tiles(np.full([4, 8], 0.5), title="t", x="latent 0", y="latent 1")
    axis = figure.axes[0]
    assert axis.images[0].get_clim() == (0, 1)
    assert (axis.get_title(), axis.get_xlabel(), axis.get_ylabel()) == ("t", "latent 0", "latent 1")
    assert plt.get_fignums() == []  # nothing left for pyplot to show again


def test_losses_that_are_no_table_are_named():
    columns = ("step", "total", "kl", "reconstruction")
    with pytest.raises(ValueError, match="losses must be a table"):
        plot_losses({name: [1.0] for name in columns}, beta=1.0)
