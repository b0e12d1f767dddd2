from vae_helpers.traversals import plane, quantiles, rows, tile

import numpy as np
import pytest
import scipy.stats


def test_the_plane_is_the_grid_of_the_post():
    values = np.linspace(-1, 1, 10)
    known = np.zeros([100, 10], np.float32)
    known[:, 0], known[:, 1] = (axis.flatten() for axis in np.meshgrid(values, values))
    np.testing.assert_array_equal(plane(values, latent_size=10), known, strict=True)
    swapped = plane(values, 10, latents=(4, 2))
    np.testing.assert_array_equal(swapped[:, [4, 2]], known[:, :2])
    assert not np.delete(swapped, [4, 2], axis=1).any()


def test_each_row_varies_one_latent_from_the_center():
    assert rows([2, 3], 2).tolist() == [[2, 0], [3, 0], [0, 2], [0, 3]]
    z = rows([2, 3], 3, latents=np.array([2, 0]), center=[7, 8, 9])
    assert z.dtype == np.float32 and z.tolist() == [[7, 8, 2], [7, 8, 3], [2, 8, 9], [3, 8, 9]]


def test_quantiles_cut_the_prior_into_equal_pieces():
    q = quantiles(5)
    np.testing.assert_allclose(scipy.stats.norm.cdf(q), [0.1, 0.3, 0.5, 0.7, 0.9], atol=1e-6)
    assert quantiles(1).tolist() == [0]


@pytest.mark.parametrize("channels", [1, 3])
def test_each_tile_is_its_image(channels):
    images = np.arange(6 * 4 * 5 * channels, dtype=np.uint8).reshape(6, 4, 5, channels)
    known = np.vstack([np.hstack(images[:3]), np.hstack(images[3:])]).squeeze()
    np.testing.assert_array_equal(tile(images, columns=3), known, strict=True)


BAD = [
    (plane, [[0.0], 1], "latents must be different ones of 0 to 0, got"),
    (plane, [[0.0], 3, (1, 1)], "latents must be different"),
    (plane, [[0.0], 3, (0, 1, 2)], "latents must be two"),
    (plane, [[np.nan], 3], "values must be one or more finite numbers"),
    (rows, [[], 3], "values must be"),
    (rows, [[0.0], 3, [3]], r"latents must be different ones of 0 to 2, got \[3\]"),
    (rows, [[0.0], 3, []], "latents must be different"),
    (rows, [[0.0], 3, [-1]], "latents must be an integer"),
    (rows, [[0.0], 2, [True, False]], "latents must be an integer"),  # a mask
    (rows, [[0.0], 3, None, [1, 2]], "center must be 3 finite numbers"),
    (rows, [[0.0], 0], "latent_size must be a positive integer"),
    (quantiles, [0], "num must be a positive integer"),
    (tile, [np.zeros([5, 2, 2, 1]), 2], "columns must divide the 5 images, got 2"),
    (tile, [np.zeros([4, 2, 2, 1]), -2], "columns must be a positive integer"),
    (tile, [np.zeros([4, 2, 2]), 2], "images must have the shape"),
]


@pytest.mark.parametrize(("function", "arguments", "message"), BAD)
def test_bad_arguments_are_named(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
