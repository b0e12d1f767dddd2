"""A page with a slider for each latent, which decodes in the browser."""

from vae_helpers.data import check_images
from vae_helpers.explorers.page import Page, default_settings, encoded
from vae_helpers.models import Decoder
from vae_helpers.traversals import tile

from typing import Any

import matplotlib as mpl
import numpy as np
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp
from matplotlib.figure import Figure

tfd = tfp.distributions

# Those of tf.nn that latents.js knows, too.
_ACTIVATIONS = ("relu", "leaky_relu", "elu", "softplus", "swish", "sigmoid", "tanh")
_TOLERANCE = 1.5 / 255  # of a pixel, in half precision
_IMAGES_PER_CALL = 1000


@default_settings()
def latent_explorer(
    encoder: snt.Module, decoder: Decoder, prior: tfd.Normal, images: Any, examples: Any = None
) -> Page:
    """Shows the image of any code: a slider for each latent, and a pad for the two most used.

    The page decodes by itself, from the weights that it holds: it needs no kernel and no
    network. The weights are rounded to half precision, unless that moves a pixel of the
    codes tried here by more than 1.5/255.

    Args:
        encoder: maps images to q(z|x), batch shape [N, L].
        decoder: a `models.Decoder` of gray images under a Bernoulli likelihood.
        prior: p(z), a Gaussian of batch shape [L].
        images: [N, H, W, 1], best not trained on. Their mean KL orders the latents.
        examples: [n, H, W, 1], images to whose codes, the means of q(z|x), a reader can
            jump. By default the first ten of `images`.

    Returns:
        A page; as the last line of a cell it is shown.

    Raises:
        ValueError: if `images` are not images, if `decoder` or `prior` are not of the kinds
            above, if an activation is not one that the page knows, or if a weight is not
            finite.
    """
    images = check_images(images)
    examples = images[:10] if examples is None else check_images(examples, "examples")
    activation = _activation(decoder, examples.shape[1:])
    codes = encoder(examples).mean().numpy()
    shape = codes.shape[1:]
    if not isinstance(prior, tfd.Normal) or prior.batch_shape != shape or prior.dtype != tf.float32:
        raise ValueError(f"prior must be a float32 tfd.Normal of shape {list(shape)}, got {prior}")
    batches = np.split(images, range(_IMAGES_PER_CALL, len(images), _IMAGES_PER_CALL))
    kl = np.concatenate([encoder(batch).kl_divergence(prior) for batch in batches])
    kl = kl.mean(axis=0, dtype=np.float64)
    if not np.isfinite(kl).all():
        raise ValueError("encoder and prior must have a finite KL, got NaN or infinity")

    order = np.argsort(-kl, kind="stable")
    loc, scale = (np.broadcast_to(p, shape) for p in (prior.loc, prior.scale))
    gray_levels = examples if examples.dtype == np.uint8 else np.round(255 * examples)
    height, width = examples.shape[1:3]
    data = {
        "image": [height, width],
        "decoder": _network(decoder, activation, codes),
        "latents": [{"index": int(i), "kl": round(float(kl[i]), 4)} for i in order],
        "bound": float(np.ceil(max((abs(loc) + 3 * scale).max(), abs(codes).max()))),
        "prior": {"loc": _rounded(loc), "scale": _rounded(scale)},
        "examples": {"codes": _rounded(codes), "images": encoded(gray_levels.astype(np.uint8))},
    }
    description = f"Latent explorer: {len(kl)} latents, images of {height} by {width} pixels"
    return Page("latents", data, _picture(decoder, codes[0], data), description)


def _activation(decoder: Decoder, image_shape: tuple[int, ...]) -> str:
    """Returns the name of a decoder's activation; raises if the page can't decode as it does."""
    if type(decoder) is not Decoder:  # a subclass may compute something else
        raise ValueError(f"decoder must be a vae_helpers Decoder itself, got {type(decoder)}")
    hidden_sizes, output_shape, activation, likelihood, *_ = decoder.architecture
    if tuple(output_shape) != image_shape or image_shape[2] != 1:
        raise ValueError(
            "decoder and examples must have gray images [H, W, 1] of one size, "
            f"got {list(output_shape)} and {list(image_shape)}"
        )
    if likelihood is not tfd.Bernoulli:
        name = getattr(likelihood, "__name__", likelihood)
        raise ValueError(f"decoder must have a tfd.Bernoulli as its likelihood, got {name}")
    names = [name for name in _ACTIVATIONS if getattr(tf.nn, name) is activation]
    if hidden_sizes and not names:
        name = getattr(activation, "__name__", activation)
        raise ValueError(f"decoder must have an activation of tf.nn.{_ACTIVATIONS}, got {name}")
    return names[0] if names else "relu"


def _network(decoder: Decoder, activation: str, codes: np.ndarray) -> dict[str, Any]:
    """Packs a decoder's layers for the page, in half precision where that is precise enough."""
    z = np.random.default_rng(0).standard_normal([256, codes.shape[1]], np.float32)
    z = np.concatenate([z, codes])
    pixels = decoder(z).mean().numpy().reshape(len(z), -1)
    layers = [module for module in decoder.submodules if isinstance(module, snt.Linear)]
    weights = [w.numpy() for layer in layers for w in (layer.w, layer.b)]
    if not all(np.isfinite(w).all() for w in weights):
        raise ValueError("decoder must have finite weights, got NaN or infinity")

    halves = [w.astype(np.float16) for w in weights]
    functions = [getattr(tf.nn, activation)] * (len(layers) - 1) + [tf.nn.sigmoid]
    for w, b, function in zip(halves[::2], halves[1::2], functions, strict=True):
        z = function(z @ w + b).numpy()
    half = bool(abs(z - pixels).max() < _TOLERANCE)  # False for NaN
    return {
        "sizes": [len(weights[0]), *(len(bias) for bias in weights[1::2])],
        "activation": activation,
        "half": half,
        "weights": encoded(np.concatenate([w.ravel() for w in (halves if half else weights)])),
    }


def _rounded(values: np.ndarray) -> list:
    return np.round(values.astype(np.float64), 4).tolist()


def _picture(decoder: Decoder, code: np.ndarray, data: dict[str, Any]) -> Figure:
    """Draws what the page shows at first: image, pad and sliders."""
    order = [latent["index"] for latent in data["latents"]]
    bound, steps = data["bound"], 9
    values = bound * ((2 * np.arange(steps) + 1) / steps - 1)
    across, down = order[0], order[1] if len(order) > 1 else None
    z = np.tile(code, [1 if down is None else steps, steps, 1])
    z[:, :, across] = values
    if down is not None:
        z[:, :, down] = values[:, None]
    tiles = tile(decoder(z.reshape(-1, len(code))).mean().numpy(), columns=steps)
    image = decoder(code[None]).mean().numpy()[0, :, :, 0]

    figure = Figure(figsize=(6.4, 2.9), dpi=100)  # its letters are read on a phone, too
    colors = mpl.colormaps["gray_r"].resampled(32)  # of 256: a smaller file
    look = {"cmap": colors, "vmin": 0, "vmax": 1, "interpolation": "nearest"}
    left, middle = (figure.add_axes((x, 0.26, 0.322, 0.71)) for x in (0.005, 0.385))
    left.imshow(image, **look)
    left.set_xlabel("mean of p(x | z)", fontsize=12)
    middle.imshow(tiles, **look, extent=(-bound, bound, bound, -bound))
    y = 0 if down is None else code[down]
    middle.plot(code[across], y, "o", color="#D55E00", ms=9, mec="white", mew=2)
    middle.set_xlabel(f"latent {across} →", fontsize=12)
    middle.set_ylabel("" if down is None else f"← latent {down}", fontsize=12, labelpad=2)
    right = figure.add_axes((0.85, 0.2, 0.14, 0.78))
    shown = data["latents"][:12]
    places = np.arange(len(shown))
    right.hlines(places, -bound, bound, color="#CCCCCC", linewidth=3)
    right.plot(code[[latent["index"] for latent in shown]], places, "o", color="#0072B2", ms=8)
    for axis in (left, middle, right):
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    right.set_yticks(places, [f"latent {latent['index']}" for latent in shown], fontsize=12)
    right.set_ylim(max(len(shown), 10) - 0.4, -0.6)
    right.tick_params(length=0)
    note = "A still picture: the sliders move where the cell is run."
    figure.text(0.99, 0.02, note, ha="right", fontsize=11, color="#555555")
    return figure
