import vae_helpers
from vae_helpers.data import binarize, check_images, load_images, to_float

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

# MNIST: the number of images, the sum of their pixels, and how the SHA-256 of images and of labels
# begins, in the order of the file.
CONTENTS = {
    "train": (60_000, 1_567_298_545, "59edd5ea35c0062957306cac", "0e44ecaf2547dac741c83ddf"),
    "test": (10_000, 264_923_200, "a85d8dffc6063fb89dcbc212", "d515834c278b04a6887dcb28"),
}
GRAYS = np.linspace(0, 1, 32, dtype=np.float32).reshape(2, 4, 4, 1)
BYTES = np.round(255 * GRAYS).astype(np.uint8)
MASKS = (GRAYS > 0.5).astype(np.uint8)


@pytest.mark.parametrize("split", CONTENTS)
def test_mnist_is_mnist_in_the_order_of_its_file(split):
    images, labels = load_images("mnist", split)
    size, total, *digests = CONTENTS[split]
    assert images.shape == (size, 28, 28, 1) and images.dtype == np.uint8 and images.sum() == total
    assert labels.shape == (size,) and labels.dtype == np.int64
    assert [hashlib.sha256(array).hexdigest()[:24] for array in (images, labels)] == digests


@pytest.mark.parametrize("name", ["mnist", "MNIST", "mnist:3.0.1", "mnist:3.*.*"])
def test_a_part_of_a_split_is_a_slice_whatever_mnist_is_called(images, name):
    np.testing.assert_array_equal(load_images(name, "test[5:9]")[0], images[5:9])


def test_the_license_notice_lies_beside_the_data():
    notice = Path(vae_helpers.__file__).parent / "files" / "tfds" / "mnist" / "README.md"
    assert "Creative Commons Attribution-Share Alike 3.0" in notice.read_text()


# No sets: misspelled, of no such version, without images, of images of many sizes.
NAMES = ["mnits", "", "a b", "mnist:2.0.0", "mnist/x", "iris", "cats_vs_dogs"]
SPLITS = ["validation", "test[", "test[5:5]", ""]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_set_is_named(name):
    with pytest.raises(ValueError, match=f"^name must .*{re.escape(repr(name))}"):
        load_images(name)


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_no_split_is_an_error_of_tfds(split):
    with pytest.raises(ValueError, match="split|no data"):
        load_images(split=split)


@pytest.mark.parametrize(
    ("unreachable", "cause"), [(OSError("no proxy"), "no proxy"), (None, "HTTP code 503")]
)
@pytest.mark.parametrize("name", ["fashion_mnist", "mnist_corrupted"])
def test_without_a_network_the_set_and_its_place_are_named_at_once(
    monkeypatch, tmp_path, name, unreachable, cause
):
    def fails(error):
        return lambda *_, **__: (_ for _ in ()).throw(error)

    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    reached = fails(unreachable) if unreachable else lambda *_, timeout: timeout
    monkeypatch.setattr("requests.head", reached)
    refused = tfds.download.DownloadError("HTTP code 503")  # or would try for minutes
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fails(refused))
    with pytest.raises(ConnectionError, match=f"{name} .*{cause}.*copy .*{tmp_path}/{name}"):
        load_images(name, "train")


GOOD = [BYTES, GRAYS, GRAYS.astype(np.float64), GRAYS.astype(np.float16), tf.constant(BYTES)]
GOOD += [{"image": tf.constant(GRAYS), "label": 3}, 0 * BYTES, 0 * GRAYS]


@pytest.mark.parametrize("given", GOOD)
def test_images_become_floats_from_0_to_1(given):
    x = to_float(given)
    assert x.dtype == tf.float32
    blank = not np.any(check_images(given))
    np.testing.assert_allclose(x, 0 * GRAYS if blank else GRAYS, atol=0.002)


BAD = [
    (BYTES[0], r"\[N, H, W, C\]"),
    (BYTES[:0], "image"),
    (None, "shape"),
    (BYTES.astype(np.int64), "uint8.* int64"),
    (GRAYS + 0.5, r"\[0, 1\].* 1\.5"),
    (GRAYS - 0.5, r"-0\.5"),
    (GRAYS + np.nan, "nan"),
    (GRAYS + np.inf, "inf"),
    (MASKS, "multiply .*255"),
    (MASKS.astype(np.int32), "multiply .*255"),
    (MASKS > 0, "multiply .*255"),
    (GRAYS / 255, "twice.* multiply .*255"),
    (tf.data.Dataset.from_tensors(BYTES), "Dataset"),
    ((BYTES, np.zeros(2, np.int64)), "load_images"),
    ({"picture": BYTES}, "dict"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
@pytest.mark.parametrize("function", [check_images, to_float])
def test_what_is_no_image_is_named(function, given, message):
    with pytest.raises(ValueError, match=f"^x must .*{message}"):
        function(given, "x")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_binarized_pixels_have_the_probability_of_their_gray_level(dtype):
    grays = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), [4000, 1, 1, 1])
    drawn = binarize(grays if dtype == np.uint8 else grays / np.float32(255), seed=1)
    assert drawn.dtype == np.uint8 and drawn.shape == grays.shape
    mean, p = drawn.mean(axis=0).ravel() / 255, np.arange(256) / 255
    assert set(np.unique(drawn)) == {0, 255}
    assert np.all(np.abs(mean - p) <= 5 * np.sqrt(p * (1 - p) / 4000))


def test_binarization_follows_its_seed_and_a_generator_goes_on(images):
    x, generator = images[:9], np.random.default_rng(3)
    first, second = (binarize(x, generator) for _ in range(2))
    np.testing.assert_array_equal(binarize(x, seed=3), first)
    assert (first != second).any() and (first != binarize(x, seed=4)).any()
    for seed in (-1, 0.5, None, True):
        with pytest.raises(ValueError, match=f"seed must be .*{seed}"):
            binarize(x, seed)
