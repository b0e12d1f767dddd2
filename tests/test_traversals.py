import numpy as np
import pytest
import scipy.stats

from vae_helpers.traversals import interpolate, plane, quantiles, rows, tile


def test_the_plane_is_the_grid_of_the_post():
    values = np.linspace(-1, 1, 10)
    xx, yy = np.meshgrid(values, values)
    known = np.zeros([100, 10], np.float32)
    known[:, 0], known[:, 1] = xx.flatten(), yy.flatten()
    z = plane(values, latent_size=10)
    assert z.dtype == np.float32
    np.testing.assert_array_equal(z, known)
    swapped = plane(values, 10, latents=(4, 2))
    np.testing.assert_array_equal(swapped[:, [4, 2]], known[:, :2])
    assert not swapped[:, [0, 1, 3, 5, 6, 7, 8, 9]].any()


def test_quantiles_cut_the_prior_into_equal_pieces():
    q = quantiles(5)
    np.testing.assert_allclose(scipy.stats.norm.cdf(q), [0.1, 0.3, 0.5, 0.7, 0.9], atol=1e-6)
    assert quantiles(1).tolist() == [0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plane([0.0], latent_size=1), "latents must be different ones of 0 to 0"),
        (lambda: plane([0.0], 3, latents=(1, 1)), "latents must be different"),
        (lambda: plane([0.0], 3, latents=(0, 1, 2)), "latents must be two"),
        (lambda: plane([], 3), "values must be finite numbers"),
        (lambda: plane([np.nan], 3), "values must be finite numbers"),
        (lambda: rows([0.0], 3, latents=[3]), r"latents must be different ones of 0 to 2.*\[3\]"),
        (lambda: rows([0.0], 3, latents=[]), "latents must be different"),
        (lambda: rows([0.0], 3, center=[1, 2]), "center must have latent_size = 3"),
        (lambda: rows([0.0], 3, center=[1, 2, 3, 4]), "center must have latent_size = 3"),
        (lambda: rows([0.0], 0), "latent_size must be a positive integer"),
        (lambda: quantiles(0), "num must be a positive integer"),
        (lambda: interpolate([0, 1], [0], 3), "end must have the size of start"),
        (lambda: interpolate([0], [1], 1), "num must be 2 or more"),
        (lambda: tile(np.zeros([5, 2, 2, 1]), 2), "columns must divide the 5 images"),
        (lambda: tile(np.zeros([4, 2, 2]), 2), "images must have the shape"),
        (lambda: tile(np.zeros([0, 2, 2, 1]), 2), "images must have the shape"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_number_too_large_is_named_without_a_warning(recwarn):
    with pytest.raises(ValueError, match="values must be finite numbers"):
        rows([1e300], 2)
    assert not recwarn.list
