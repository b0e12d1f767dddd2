import hashlib
import time
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

import vae_helpers
from vae_helpers import data
from vae_helpers.data import binarize, check_images, load_images

CONTENT = {
    "train": (60_000, "da6370735bf1d490f086dde49c15f2ed0480ad05dc7c70abf5d36bf471d5e312"),
    "test": (10_000, "0c7bc63f656fb2440dc2b5bea4ff3ac8632e305b73ec1dc88141a32d36204fac"),
}


@pytest.mark.parametrize("split", CONTENT)
def test_mnist_is_mnist_and_loads_soon(split):
    """The content, whatever its order: sorted rows of label and pixels, hashed."""
    start = time.perf_counter()
    images, labels = load_images("mnist", split)
    seconds = time.perf_counter() - start
    size, digest = CONTENT[split]
    assert images.shape == (size, 28, 28, 1) and images.dtype == np.uint8
    assert labels.shape == (size,) and labels.dtype == np.int64
    rows = np.column_stack([labels.astype(np.uint8), images.reshape(size, -1)])
    assert hashlib.sha256(b"".join(sorted(row.tobytes() for row in rows))).hexdigest() == digest
    assert seconds < 60  # some 4 s on two free cores; this is against reading image by image


def test_a_split_comes_in_the_same_order_each_time(images):
    again, labels = load_images("mnist", "test")
    np.testing.assert_array_equal(again, images)
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_the_licence_notice_lies_beside_the_data():
    notice = Path(vae_helpers.__file__).parent / "files" / "tfds" / "mnist" / "README.md"
    assert "Creative Commons Attribution-Share Alike 3.0" in notice.read_text()


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("mnits", "train", "name must be a TensorFlow Datasets image set, got 'mnits'"),
        (3, "train", "name must be a TensorFlow Datasets image set, got 3"),
        (None, "train", "name must be a TensorFlow Datasets image set, got None"),
        ("", "train", "name must be a TensorFlow Datasets image set, got ''"),
        ("a b", "train", "name must be a TensorFlow Datasets image set, got 'a b'"),
        ("mnist/x", "train", "name must be a TensorFlow Datasets image set, got 'mnist/x'"),
        ("iris", "train", "name must be a set of labeled 8-bit images"),
        ("mnist:2.0.0", "train", "name must be a TensorFlow Datasets image set, got 'mnist:2.0.0'"),
        ("fashion_mnist:9.9.9", "train", "name must be a TensorFlow Datasets image set"),
        ("cats_vs_dogs", "train", "name must be a set of labeled 8-bit images of one size"),
        ("lfw", "train", "name must be a set of labeled 8-bit images"),
        ("mnist", "validation", r"split must be made of \['test', 'train'\].*'validation'"),
        ("mnist", 3, "split must be made of .* got 3"),
    ],
)
def test_what_cannot_be_loaded_is_named(name, split, message):
    with pytest.raises(ValueError, match=message):
        load_images(name, split)


@pytest.mark.parametrize("name", ["MNIST", "mnist:3.0.1", "mnist:3.*.*"])
def test_other_names_of_mnist_need_no_network_either(images, name):
    np.testing.assert_array_equal(load_images(name, "test[:5]")[0], images[:5])


def test_a_set_whose_name_begins_with_mnist_is_another(monkeypatch):
    places = []

    def download(builder):
        places.append(str(builder.data_dir))
        raise ConnectionError

    monkeypatch.setattr(data, "_download", download)
    with pytest.raises(ConnectionError):
        load_images("mnist_corrupted", "train")
    assert len(places) == 1 and str(data._EMBEDDED) not in places[0]


def test_without_a_network_the_error_names_the_set_and_the_place(monkeypatch, tmp_path):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    monkeypatch.setattr("urllib.request.getproxies", dict)

    def no_network(*_):
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    # Which would try for minutes.
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", None)
    with pytest.raises(ConnectionError, match=r"fashion_mnist.*no network.*copy.*fashion_mnist"):
        load_images("fashion_mnist", "train")


def test_a_host_that_refuses_is_named_as_the_cause(monkeypatch):
    """Behind a proxy no host is looked up: names from outside may be unknown there."""

    def unknown(*_):
        raise OSError("unknown host")

    def refused():
        raise tfds.download.DownloadError("HTTP code 503")

    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy:3128"})
    monkeypatch.setattr("socket.getaddrinfo", unknown)
    builder = types.SimpleNamespace(
        name="faces",
        data_dir="here",
        url_infos={"https://a.org/b": 0},
        download_and_prepare=refused,
    )
    with pytest.raises(ConnectionError, match="faces .*cannot be downloaded .*503"):
        data._download(builder)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros([28, 28, 1], np.uint8), r"shape \[N, H, W, C\], got \[28, 28, 1\]"),
        (np.zeros([0, 28, 28, 1], np.uint8), "at least one image"),
        (np.zeros([2, 28, 28, 1], np.int64), "got int64"),
        (np.full([2, 28, 28, 1], 1.5), "from 1.5 to 1.5"),
        (np.full([2, 28, 28, 1], -0.1), "from -0.1"),
        (np.full([2, 28, 28, 1], np.nan), "nan"),
        (np.full([2, 28, 28, 1], np.inf), "inf"),
        ([], "got \\[0\\]"),
        (None, r"got \[\]"),
        ({"picture": 1}, "key 'image'"),
    ],
)
def test_what_is_no_image_is_named(given, message):
    with pytest.raises(ValueError, match="^x must.*" + message):
        check_images(given, "x")


def test_binarized_pixels_have_the_probability_of_their_gray_level():
    grays = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), [4000, 1, 1, 1])
    for given in (grays, (grays / 255).astype(np.float32)):
        drawn = binarize(given, seed=1)
        assert drawn.dtype == np.uint8 and set(np.unique(drawn)) == {0, 255}
        mean = (drawn == 255).mean(0).ravel()
        p = np.arange(256) / 255
        assert np.all(np.abs(mean - p) <= 5 * np.sqrt(p * (1 - p) / 4000))
        assert mean[0] == 0 and mean[255] == 1


def test_binarization_follows_its_seed(images):
    np.testing.assert_array_equal(binarize(images[:9], seed=3), binarize(images[:9], seed=3))
    assert (binarize(images[:9], seed=3) != binarize(images[:9], seed=4)).any()
