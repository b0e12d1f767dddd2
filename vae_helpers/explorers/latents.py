"""The latent space under a reader's hands: sliders that decode in the browser."""

from vae_helpers.data import check_images
from vae_helpers.explorers.page import Page, encoded
from vae_helpers.models import Decoder
from vae_helpers.objective import check_prior
from vae_helpers.support import checks
from vae_helpers.traversals import plane, rows, tile

from typing import Any

import matplotlib as mpl
import numpy as np
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp
from matplotlib.figure import Figure

tfd = tfp.distributions

_ACTIVATIONS = {  # by their names in latents.js
    "relu": tf.nn.relu,
    "leaky_relu": tf.nn.leaky_relu,
    "elu": tf.nn.elu,
    "softplus": tf.nn.softplus,
    "swish": tf.nn.swish,
    "sigmoid": tf.nn.sigmoid,
    "tanh": tf.nn.tanh,
}
_MOST_BYTES = 2_000_000
_TOLERANCE = 2 / 255
_IMAGES_PER_CALL = 1000


def latent_explorer(
    decoder: Decoder,
    encoder: snt.Module,
    prior: tfd.Normal,
    images: Any,
    examples: Any = None,
) -> Page:
    """Shows the image of any code: a slider a latent, and a pad for the two most used.

    The page decodes by itself, from the weights that it holds: it needs no kernel and no
    network. The weights are rounded to half precision, unless that moves a pixel of the
    codes tried here by more than 1.5/255.

    Args:
        decoder: a `models.Decoder` of gray images under a Bernoulli, of at most 2 MB.
        encoder: maps images to q(z|x), batch shape [N, L].
        prior: p(z), a Gaussian of batch shape [L].
        images: [N, H, W, 1], best not trained on. Their mean KL orders the latents.
        examples: [n, H, W, 1], images to whose codes, the means of q(z|x), a reader can
            jump. By default the first ten of `images`.

    Returns:
        A page; as the last line of a cell it is shown.

    Raises:
        ValueError: if `images` are not images, or `decoder` or `prior` are not what the
            page can carry.
    """
    images = check_images(images)
    examples = images[:10] if examples is None else check_images(examples, "examples")
    if not isinstance(prior, tfd.Normal):
        raise ValueError(f"prior must be a tfd.Normal, got {type(prior).__name__}")
    q = checks.called("encoder", encoder, images[:1])
    check_prior(prior, q.batch_shape[1:], q.dtype)
    kl = _mean_kl(encoder, prior, images)
    if not np.isfinite(kl).all():
        raise ValueError("encoder and prior must have a finite KL, got NaN or infinity")
    codes = encoder(examples).mean().numpy()
    network = _network(decoder, codes)
    if [*network["image"], 1] != list(examples.shape[1:]):
        raise ValueError(
            f"examples must have the shape that decoder makes, {[*network['image'], 1]}, "
            f"got {list(examples.shape[1:])}"
        )
    loc, scale = (np.broadcast_to(p, kl.shape) for p in (prior.loc, prior.scale))
    data = {
        **network,
        "latents": [
            {"index": int(i), "kl": round(float(kl[i]), 4)} for i in np.argsort(-kl, kind="stable")
        ],
        "bound": float(np.ceil(max((abs(loc) + 3 * scale).max(), abs(codes).max()))),
        "prior": {"loc": _rounded(loc), "scale": _rounded(scale)},
        "examples": {"codes": _rounded(codes), "images": encoded(_gray_levels(examples))},
        "palette": encoded(mpl.colormaps["viridis"](np.arange(256), bytes=True)[:, :3]),
    }
    height, width = network["image"]
    description = f"Latent explorer: {len(kl)} latents, images of {height} by {width} pixels"
    return Page("latents", data, _picture(decoder, codes[0], data), description)


def _mean_kl(encoder: snt.Module, prior: tfd.Normal, images: np.ndarray) -> np.ndarray:
    """Computes the KL to the prior of each latent [L], in nats per image."""
    total = 0.0
    for start in range(0, len(images), _IMAGES_PER_CALL):
        kl = encoder(images[start : start + _IMAGES_PER_CALL]).kl_divergence(prior)
        total += tf.reduce_sum(kl, axis=0).numpy().astype(np.float64)
    return total / len(images)


def _network(decoder: Decoder, codes: np.ndarray) -> dict[str, Any]:
    """Packs a decoder's layers for the page, after checking that it computes what they say."""
    if not isinstance(decoder, Decoder):
        raise ValueError(f"decoder must be a vae_helpers Decoder, got {type(decoder).__name__}")
    hidden_sizes, output_shape, activation, _ = decoder.architecture
    names = [name for name, function in _ACTIVATIONS.items() if function is activation]
    if hidden_sizes and not names:
        raise ValueError(
            f"decoder must have an activation of tf.nn, one of {sorted(_ACTIVATIONS)}, "
            f"got {getattr(activation, '__name__', activation)}"
        )
    if len(output_shape) != 3 or output_shape[2] != 1:
        raise ValueError(f"decoder must make gray images [H, W, 1], got {list(output_shape)}")
    tried = np.random.default_rng(0).standard_normal([256, codes.shape[1]], np.float32)
    tried = np.concatenate([tried, codes])
    p = decoder(tried)
    if not isinstance(p, tfd.Bernoulli):
        raise ValueError(f"decoder must have a Bernoulli likelihood, got {type(p).__name__}")
    layers = [module for module in decoder.submodules if isinstance(module, snt.Linear)]
    weights = [w.numpy() for layer in layers for w in (layer.w, layer.b)]
    if not all(np.isfinite(w).all() for w in weights):
        raise ValueError("decoder must have finite weights, got NaN or infinity")

    pixels = p.mean().numpy().reshape(len(tried), -1)
    halves = _flat(weights, "<f2")
    half = _error(activation, _cast(weights, "<f2"), tried, pixels) < 0.75 * _TOLERANCE
    if not half and _error(activation, weights, tried, pixels) > _TOLERANCE:
        raise ValueError("decoder must compute what its linear layers and its activation say")
    packed = halves if half else _flat(weights, "<f4")
    if packed.nbytes > _MOST_BYTES:
        raise ValueError(
            f"decoder must have at most {_MOST_BYTES / 1e6:g} MB of weights, "
            f"got {packed.nbytes / 1e6:.1f} MB"
        )
    return {
        "image": list(output_shape[:2]),
        "decoder": {
            "sizes": [weights[0].shape[0], *(b.shape[0] for b in weights[1::2])],
            "activation": names[0] if names else "relu",
            "half": bool(half),
            "weights": encoded(packed),
        },
    }


def _cast(weights: list[np.ndarray], kind: str) -> list[np.ndarray]:
    with np.errstate(over="ignore"):  # infinity, which the error then tells
        return [w.astype(kind).astype(np.float32) for w in weights]


def _flat(weights: list[np.ndarray], kind: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.concatenate([w.ravel() for w in weights]).astype(kind)


def _error(activation: Any, weights: list[np.ndarray], z: np.ndarray, pixels: np.ndarray) -> float:
    """Computes how far the page's pixels would be from `pixels` at most, infinity for NaN."""
    values = z
    for i in range(0, len(weights), 2):
        with np.errstate(over="ignore", invalid="ignore"):
            values = values @ weights[i] + weights[i + 1]
        last = i + 2 == len(weights)
        values = (tf.nn.sigmoid if last else activation)(values).numpy()
    if values.shape != pixels.shape:
        return np.inf
    return float(np.nan_to_num(abs(values - pixels).max(), nan=np.inf))


def _gray_levels(images: np.ndarray) -> np.ndarray:
    return images if images.dtype == np.uint8 else np.round(255 * images).astype(np.uint8)


def _rounded(values: Any) -> list:
    return np.round(np.asarray(values, np.float64), 4).tolist()


def _picture(decoder: Decoder, code: np.ndarray, data: dict[str, Any]) -> Figure:
    """Draws what the page shows at first: image, pad and sliders."""
    order = [latent["index"] for latent in data["latents"]]
    bound, steps = data["bound"], 9
    values = bound * ((2 * np.arange(steps) + 1) / steps - 1)
    if len(order) > 1:
        z = plane(values, len(order), order[:2])
        z[:, order[2:]] = code[order[2:]]
    else:
        z = rows(values, 1)
    tiles = tile(decoder(z).mean().numpy(), columns=steps)
    image = decoder(code[None]).mean().numpy()[0, :, :, 0]

    figure = Figure(figsize=(8.6, 3.1), dpi=100)
    colors = mpl.colormaps["viridis"].resampled(32)  # of 256: a smaller file
    look = {"cmap": colors, "vmin": 0, "vmax": 1, "interpolation": "nearest"}
    left, middle = (figure.add_axes((x, 0.14, 0.293, 0.813)) for x in (0.005, 0.315))
    left.imshow(image, **look)
    left.set_xlabel("mean of p(x | z)", fontsize=9)
    middle.imshow(tiles, **look, extent=(-bound, bound, -bound, bound))
    second = order[1] if len(order) > 1 else None
    middle.plot(code[order[0]], 0 if second is None else -code[second], "o", color="#D55E00", ms=9)
    middle.lines[0].set(markeredgecolor="white", markeredgewidth=2)
    names = f"latent {order[0]} →" + ("" if second is None else f"   latent {second} ↓")
    middle.set_xlabel(names, fontsize=9)
    for axis in (left, middle):
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)

    right = figure.add_axes((0.785, 0.08, 0.205, 0.87))
    shown = data["latents"][:12]
    places = np.arange(len(shown))
    right.hlines(places, -bound, bound, color="#CCCCCC", linewidth=3)
    right.plot(code[[latent["index"] for latent in shown]], places, "o", color="#0072B2", ms=8)
    right.set(xticks=[], ylim=(max(len(shown), 10) - 0.4, -0.6))
    labels = [f"latent {latent['index']}   {latent['kl']:.2f} nats" for latent in shown]
    right.set_yticks(places, labels, fontsize=9)
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    note = "A still picture: the sliders move where the cell is run."
    figure.text(0.995, 0.02, note, ha="right", fontsize=8, color="#555555")
    return figure
