"""Draws the model as one picture, with a digit's real numbers in it.

`make schematic` writes vae_helpers/files/schematic.svg, which guide and README show, and an HTML
with the same as an image, which notebooks can show: an SVG by itself JupyterLab leaves out until a
reader trusts its notebook.
The numbers are those of one test image and of notebook 06's trained model of β = 1. The
picture has a ground of its own, light or dark as the reader's system is.
"""

from vae_helpers.data import load_images, to_float
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.objective import distortion, rate

import base64
import io
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import tensorflow as tf

FILES = Path(__file__).resolve().parents[1] / "vae_helpers" / "files"
MODEL = FILES / "experiments" / "VAE_1.0_10_softplus_trained-out_0.npz"
DIGIT = 4  # of the test images
SHOWN = 3  # of the ten latents

STYLE = """
.schematic { font: 15px sans-serif; text-anchor: middle }
.schematic .ground { fill: #fff }
.schematic text { fill: #222 }
.schematic .symbol { font: italic 17px serif }
.schematic .small { font-size: 12px }
.schematic .box { fill: #dbe9f6; stroke: #0072b2 }
.schematic .arrow { stroke: #222; fill: none; stroke-width: 1.5 }
.schematic .rate { fill: #0072b2 }
.schematic .distortion { fill: #b34700 }
@media (prefers-color-scheme: dark) {
  .schematic .ground { fill: #1c1f24 }
  .schematic text { fill: #e8e8e8 }
  .schematic .box { fill: #24405a; stroke: #7cc0ee }
  .schematic .arrow { stroke: #e8e8e8 }
  .schematic .rate { fill: #7cc0ee }
  .schematic .distortion { fill: #f2a365 }
}
"""
OPENING = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 236" class="schematic" role="img"
  style="width: 100%; max-width: 700px">"""


def trained() -> tuple[Encoder, Decoder]:
    """Returns the model whose numbers are shown."""
    encoder, decoder = (
        Encoder([100, 100], 10, scale_fn=tf.nn.softplus),
        Decoder([100, 100], [28, 28, 1]),
    )
    decoder(encoder(np.zeros([1, 28, 28, 1], np.uint8)).mean())  # creates the weights
    with np.load(MODEL) as weights:
        for variable, value in zip(
            [*encoder.variables, *decoder.variables], weights.values(), strict=True
        ):
            variable.assign(value)
    return encoder, decoder


def text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{words}</text>'


def arrow(start: float, end: float) -> str:
    return f'<path class="arrow" d="M{start} 112H{end}m-6 -4 6 4-6 4"/>'


def picture(x: float, ink: np.ndarray) -> str:
    """Shows ink [28, 28] in [0, 1], dark on light, 84 wide."""
    file = io.BytesIO()
    matplotlib.image.imsave(
        file, np.repeat(np.repeat(ink, 3, 0), 3, 1), cmap="gray_r", vmin=0, vmax=1
    )
    data = base64.b64encode(file.getvalue()).decode()
    return f'<image x="{x}" y="70" width="84" height="84" href="data:image/png;base64,{data}"/>'


def network(x: float, left: float, right: float, name: str) -> str:
    """Draws a trapezoid 54 wide, as high on either side as said."""
    corners = f"M{x} {112 - left}L{x + 54} {112 - right}V{112 + right}L{x} {112 + left}Z"
    return f'<path class="box" d="{corners}"/>' + text(x + 27, 116, name, "small")


def table(x: float, columns: dict[str, np.ndarray]) -> str:
    """Sets a column of numbers under each symbol, for the first latents."""
    parts = []
    for i, (symbol, values) in enumerate(columns.items()):
        middle = x + 25 + 50 * i
        parts.append(text(middle, 62, symbol, "symbol"))
        for row, value in enumerate(values[:SHOWN]):
            parts.append(text(middle, 88 + 24 * row, f"{value:.2f}".replace("-", "−")))
        parts.append(text(middle, 88 + 24 * SHOWN, "⋮"))
    for i, sign in enumerate("+·="):
        parts.append(text(x + 50 * (i + 1) - (2, 2, 2)[i], 62, sign))
    return "".join(parts)


def schematic() -> str:
    images, _ = load_images("mnist", "test")
    encoder, decoder = trained()
    x = images[DIGIT : DIGIT + 1]
    q = encoder(x)
    noise = tf.random.stateless_normal(q.loc.shape, seed=[0, 0])
    z = q.loc + q.scale * noise
    p = decoder(z)
    r = float(rate(q, standard_normal(10))[0])
    d = float(distortion(p, x)[0])
    columns = {"m": q.loc, "σ": q.scale, "ε": noise, "z": z}
    ink, mean = to_float(x)[0, ..., 0], p.mean()[0, ..., 0]
    said = (
        f"An image x of a digit goes through the encoder, which returns a mean m and a scale σ "
        f"for each of ten latents. The code is z = m + σε. The decoder makes of it p(x|z), whose "
        f"mean shows the digit again. The rate R is {r:.1f} nats, the distortion D {d:.1f} nats."
    )
    parts = [
        OPENING,
        f"<title>{said}</title><style>{STYLE}</style>",
        '<rect class="ground" width="560" height="236" rx="8"/>',
        text(52, 50, "x", "symbol"),
        picture(10, np.asarray(ink)),
        text(52, 172, "784 pixels", "small"),
        arrow(97, 108),
        network(110, 42, 22, "encoder"),
        arrow(167, 178),
        text(
            280,
            28,
            '<tspan class="symbol">q</tspan>(<tspan class="symbol">z</tspan>|'
            '<tspan class="symbol">x</tspan>): ten latents',
            "",
        ),
        table(180, {name: np.asarray(value)[0] for name, value in columns.items()}),
        arrow(382, 393),
        network(396, 22, 42, "decoder"),
        arrow(453, 464),
        text(
            508,
            50,
            '<tspan class="symbol">p</tspan>(<tspan class="symbol">x</tspan>|'
            '<tspan class="symbol">z</tspan>)',
        ),
        picture(466, np.asarray(mean)),
        text(508, 172, "its mean", "small"),
        text(280, 200, f"R = {r:.1f} nats", "rate"),
        text(280, 219, "rate: KL of q(z|x) from the prior p(z)", "small"),
        text(478, 200, f"D = {d:.1f} nats", "distortion"),
        text(478, 219, "distortion: −log p(x|z)", "small"),
        "</svg>\n",
    ]
    return "\n".join(parts)


def as_image(svg: str) -> str:
    """Returns HTML that shows a drawing as an image, with its title for who can't see it."""
    title, data = re.search("<title>(.*?)</title>", svg)[1], base64.b64encode(svg.encode()).decode()
    look = 'style="width: 100%; max-width: 700px"'
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{title}" {look}>\n'


if __name__ == "__main__":
    drawn = schematic()
    (FILES / "schematic.svg").write_text(drawn, encoding="utf-8")
    (FILES / "schematic.html").write_text(as_image(drawn), encoding="utf-8")
