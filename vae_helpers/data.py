"""Images: MNIST from inside the package, and what every function asks of images."""

from vae_helpers.support import checks

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

_EMBEDDED = Path(__file__).parent / "files" / "tfds"


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
        ConnectionError: if the set is not on this machine and cannot be
            downloaded.

    Example:
        >>> images, labels = load_images("mnist", "test[:5]")
        >>> images.shape
        (5, 28, 28, 1)
    """
    import tensorflow_datasets as tfds

    # As TFDS takes them: "MNIST" and "mnist:3.0.1", too.
    data_dir = _EMBEDDED if str(name).lower().partition(":")[0] == "mnist" else None
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"name must be a TensorFlow Datasets image set, got {name!r}") from error
    features = builder.info.features or {}
    labeled = {"image", "label"} <= set(features) and features["label"].np_dtype == np.int64
    if not labeled or None in features["image"].shape or features["image"].np_dtype != np.uint8:
        raise ValueError(f"name must be a set of labeled 8-bit images of one size, got {name!r}")
    if not builder.is_prepared():
        _download(builder)
    # Many at a time: an image takes less to decode than to be handed over.
    reading = tfds.ReadConfig(num_parallel_calls_for_decode=64)
    examples = builder.as_dataset(split=split, read_config=reading)
    # In batches: TensorFlow keeps the memory of its largest tensor to the end.
    batches = list(examples.batch(1000).as_numpy_iterator())
    return tuple(np.concatenate([batch[key] for batch in batches]) for key in ("image", "label"))


def _download(builder: Any) -> None:
    """Has TFDS download and prepare a set; fails in seconds where there is no network."""
    import requests
    import tensorflow_datasets as tfds

    print(f"{builder.name} is not on this machine: TensorFlow Datasets downloads it, once")
    try:
        for url in list(builder.url_infos)[:1]:
            # TFDS itself would try for minutes to reach a host or a proxy that doesn't answer.
            requests.head(url, timeout=10)
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
        ValueError: if they have another rank or type, or if there are none; if a
            float is NaN or outside [0, 1]; if they were not scaled, 0 and 1 as
            integers, or scaled twice, floats of at most 1/255.
    """
    if isinstance(images, dict):
        images = images.get("image", images)
    shape = list(getattr(images, "shape", ()))
    if len(shape) != 4 or 0 in shape:
        raise ValueError(
            f"{name} must be one array [N, H, W, C] with one image or more, like the first that "
            f"data.load_images returns, got a {type(images).__name__} of shape {shape}"
        )
    images = np.asarray(images)
    integers = np.issubdtype(images.dtype, np.integer) or images.dtype == bool
    low, high = images.min(), images.max()
    if integers and low >= 0 and high == 1:
        raise ValueError(
            f"{name} must be gray levels from 0 to 255 if they are integers, got 0 and 1 alone: "
            "multiply them by 255 as uint8, or convert them to float32"
        )
    if images.dtype == np.uint8:
        return images
    if integers or not np.issubdtype(images.dtype, np.floating) or not (low >= 0 and high <= 1):
        raise ValueError(  # also for NaN
            f"{name} must be uint8, or floats in [0, 1], got {images.dtype} from {low} to {high}"
        )
    if 0 < high <= np.float32(1 / 255):
        raise ValueError(
            f"{name} must be floats in [0, 1], got none above {high:.2g}, as if they had been "
            "divided by 255 twice: multiply them by 255"
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
    """
    if not tf.is_symbolic_tensor(images):
        images = tf.convert_to_tensor(check_images(images, name))
    return tf.image.convert_image_dtype(images, tf.float32)


def binarize(images: Any, seed: int | np.random.Generator = 0) -> np.ndarray:
    """Draws each pixel as a Bernoulli whose probability is its gray level.

    As the `transform` of `training.train` it draws anew at every step.

    Args:
        images: as `check_images` takes them, [N, H, W, C].
        seed: of the draw, or a generator to draw from.

    Returns:
        uint8 [N, H, W, C], every pixel 0 or 255. For uint8 images the
        probability is exactly gray / 255.

    Raises:
        ValueError: as `check_images`, or if `seed` is neither.
    """
    images = check_images(images)
    if not isinstance(seed, np.random.Generator):
        seed = np.random.default_rng(checks.integer("seed", seed))
    if images.dtype == np.uint8:
        drawn = seed.integers(0, 255, size=images.shape, dtype=np.uint8)
        ink = np.less(drawn, images, out=drawn.view(bool))  # in place: these arrays are large
    else:
        ink = seed.random(images.shape, dtype=np.float32) < images
    return np.multiply(ink.view(np.uint8), 255, out=ink.view(np.uint8))
