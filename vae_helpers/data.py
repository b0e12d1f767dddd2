"""Images: MNIST from inside the package, and the checks that every image passes."""

from vae_helpers._quiet import refuse_fork  # isort: skip  (before TensorFlow)

import hashlib
import socket
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from vae_helpers import _memory
from vae_helpers.support import checks

_EMBEDDED = Path(__file__).parent / "files" / "tfds"
_MNIST = {  # the files of MNIST, with their SHA-256
    "dataset_info.json": "9062494e1431db31325242795ce8a780cdfa80ae6ea4ba15edf7289d167f2b3b",
    "features.json": "877296958ef3c41208653af20b2b746a8f1436c3e3adbdb78f764c792113f750",
    "mnist-test.tfrecord-00000-of-00001": (
        "31b3dc88cdb898c64d06c6ae927d8bad5b16bcfc88d480bb8af9aecf1611fdd6"
    ),
    "mnist-train.tfrecord-00000-of-00001": (
        "1b684992c455f59fc938e24a02c9e9c49531aeba4c9e16674379d2ea4344f0f8"
    ),
}


def load_images(name: str = "mnist", split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Reads a whole split of a TensorFlow Datasets image set into memory.

    MNIST comes with this package and needs no network; TFDS downloads any
    other set the first time.

    Args:
        name: a TFDS image classification set, e.g. "mnist" or "fashion_mnist".
        split: a TFDS split, e.g. "train", "test", "train+test" or "train[:1000]".

    Returns:
        images: uint8 [N, H, W, C], gray levels or colors from 0 to 255.
        labels: int64 [N].

    Raises:
        ValueError: if TFDS knows no such set or split, or if its examples are
            not images of one size with a label.
        OSError: if a file of MNIST is missing, or is not the one of this package.
        ConnectionError: if the set is not on this machine and cannot be
            downloaded.

    Example:
        >>> images, labels = load_images("mnist", "test[:5]")
        >>> images.shape
        (5, 28, 28, 1)
    """
    import tensorflow_datasets as tfds

    refuse_fork()
    if not isinstance(name, str):
        raise ValueError(f"name must be a TensorFlow Datasets image set, got {name!r}")
    # As TFDS takes them: "MNIST" and "mnist:3.0.1", too.
    data_dir = _EMBEDDED if name.lower().partition(":")[0] == "mnist" else None
    if data_dir:
        _check_files(data_dir / "mnist" / "3.0.1")
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (AssertionError, tfds.core.DatasetNotFoundError, TypeError, ValueError) as error:
        raise ValueError(f"name must be a TensorFlow Datasets image set, got {name!r}") from error
    features = builder.info.features or {}
    labeled = {"image", "label"} <= set(features) and features["label"].shape == ()
    labeled = labeled and np.issubdtype(features["label"].np_dtype, np.integer)
    if not labeled or None in features["image"].shape or features["image"].np_dtype != np.uint8:
        raise ValueError(f"name must be a set of labeled 8-bit images of one size, got {name!r}")
    if not builder.is_prepared():
        _download(builder)
    try:
        if not isinstance(split, str):  # TFDS would take more
            raise TypeError
        # Many at a time: an image takes less to decode than to be handed over. A third of the time.
        reading = tfds.ReadConfig(num_parallel_calls_for_decode=64)
        examples = tfds.load(
            name, split=split, data_dir=data_dir, download=False, read_config=reading
        )
        num = len(examples)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"split must be made of {sorted(builder.info.splits)}, e.g. 'train+test' or "
            f"'train[:1000]', got {split!r}"
        ) from error
    images = np.empty([num, *features["image"].shape], np.uint8)
    labels = np.empty([num], np.int64)
    # In batches: TensorFlow keeps the memory of its largest tensor to the end.
    for i, batch in enumerate(examples.batch(1000).as_numpy_iterator()):
        images[1000 * i : 1000 * (i + 1)] = batch["image"]
        labels[1000 * i : 1000 * (i + 1)] = batch["label"]
    _memory.release()
    return images, labels


def _check_files(folder: Path) -> None:
    """Holds the files of MNIST against their digests, in 0.1 s."""
    for name, digest in _MNIST.items():
        path = folder / name
        found = "is missing"
        if path.is_file():
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                    continue
            found = "is damaged or of another image set"
        raise OSError(
            f"{path} {found}. Restore it: in a clone by `git checkout vae_helpers/files`, "
            "elsewhere by installing the package anew"
        )


def _download(builder) -> None:
    """Has TFDS download and prepare a set; fails at once where there is no network."""
    import tensorflow_datasets as tfds

    try:
        if not urllib.request.getproxies():  # TFDS retries an unknown host for minutes
            for url in list(builder.url_infos)[:1]:
                socket.getaddrinfo(urllib.parse.urlparse(url).hostname, None)
        builder.download_and_prepare()
    except (OSError, tfds.download.DownloadError) as error:  # the latter: a host that refuses
        raise ConnectionError(
            f"{builder.name} is not on this machine and cannot be downloaded ({error}). "
            f"Where there is a network, run tfds.load({builder.name!r}); then copy the folder "
            f"it makes to {builder.data_dir}."
        ) from error


def check_images(images: Any, name: str = "images") -> np.ndarray:
    """Returns images as a NumPy array after checking that they are images.

    Args:
        images: [N, H, W, C] uint8, or floats in [0, 1]; a NumPy array, a tensor,
            or an element of a TFDS dataset (a dictionary with the key "image").
        name: what the caller calls them, for the error.

    Returns:
        The images, uint8 or float32 [N, H, W, C].

    Raises:
        ValueError: if they have another rank or type, if there are none, or if
            a float is NaN or outside [0, 1].
    """
    if isinstance(images, dict):
        if "image" not in images:
            raise ValueError(f"{name} must have the key 'image', got the keys {list(images)}")
        images = images["image"]
    try:
        images = np.asarray(images)
    except (TypeError, ValueError) as error:  # as for the pair that load_images returns
        raise ValueError(
            f"{name} must be one array [N, H, W, C], got a {type(images).__name__}: {error}"
        ) from error
    if images.ndim != 4:
        labels = ", the shape of labels" if images.ndim == 1 else ""
        raise ValueError(
            f"{name} must have the shape [N, H, W, C], got {list(images.shape)}{labels}"
        )
    if images.size == 0:
        raise ValueError(f"{name} must hold at least one image, got {list(images.shape)}")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{name} must be uint8, or floats in [0, 1], got {images.dtype}")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise ValueError(
            f"{name} must be uint8, or floats in [0, 1], got floats from {low} to {high}"
        )
    return images.astype(np.float32, copy=False)


def to_float(images: Any, name: str = "images") -> tf.Tensor:
    """Converts images to float32 in [0, 1], as the post's input pipeline did.

    Args:
        images: as `check_images` takes them, or a tensor of a function that
            TensorFlow is compiling, whose values cannot be checked.
        name: what the caller calls them, for the error.

    Returns:
        float32 [N, H, W, C].

    Raises:
        ValueError: as `check_images`.
        RuntimeError: in a fork of the process that loaded TensorFlow.
    """
    refuse_fork()
    if not tf.is_symbolic_tensor(images):
        images = tf.convert_to_tensor(check_images(images, name))
    return tf.image.convert_image_dtype(images, tf.float32)


def binarize(images: Any, seed: int = 0) -> np.ndarray:
    """Draws each pixel as a Bernoulli whose probability is its gray level.

    Args:
        images: as `check_images` takes them, [N, H, W, C].
        seed: the draw's seed.

    Returns:
        uint8 [N, H, W, C], every pixel 0 or 255. For uint8 images the
        probability is exactly gray / 255.

    Raises:
        ValueError: as `check_images`, or for a seed that is no integer.
    """
    return draw_pixels(check_images(images), np.random.default_rng(checks.integer("seed", seed)))


def draw_pixels(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draws as `binarize` does, from a generator that goes on; images [..., H, W, C]."""
    if images.dtype == np.uint8:
        drawn = generator.integers(0, 255, size=images.shape, dtype=np.uint8)
        ink = np.less(drawn, images, out=drawn.view(bool))  # in place: these arrays are large
    else:
        ink = generator.random(images.shape, dtype=np.float32) < images
    return np.multiply(ink.view(np.uint8), 255, out=ink.view(np.uint8))
