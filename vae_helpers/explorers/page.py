"""Small pages in a cell's output: HTML that needs no kernel, and a picture in its stead.

Everything is in the output itself: no address is asked for anything. Where scripts are not
run, as on GitHub or in a stored notebook that a reader does not trust yet, the picture stands.
"""

import base64
import contextlib
import hashlib
import html
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

_WEB = Path(__file__).parent


class Page:
    """What a cell shows: as its last line, a live page or a picture of it.

    The same arguments give the same bytes, so that a notebook run again stays as it is.

    Args:
        name: the view, whose files are <name>.html and <name>.js.
        data: what the view draws: numbers, strings, and lists and dicts of them.
        figure: how the page looks before anyone touches it.
        description: says in words what the picture shows.
    """

    def __init__(self, name: str, data: dict[str, Any], figure: Figure, description: str):
        self._description = description
        self._picture = base64.b64encode(_png(figure)).decode()
        self._html = _compose(name, data, self._picture, description)

    def __repr__(self) -> str:
        return f"<{self._description}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self._html, "image/png": self._picture, "text/plain": repr(self)}


@contextlib.contextmanager
def default_settings() -> Iterator[None]:
    """Sets a reader's own Matplotlib style and NumPy error handling aside.

    A picture is made to be read on white, and small numbers may round to 0.
    """
    with style.context("default"), np.errstate(all="ignore"):
        yield


def encoded(array: np.ndarray) -> str:
    """Returns an array's bytes in base64, as the pages' scripts read them."""
    return base64.b64encode(array.tobytes()).decode()


def _compose(name: str, data: dict[str, Any], picture: str, description: str) -> str:
    style_sheet, shared, markup, script = (
        (_WEB / file).read_text(encoding="utf-8")
        for file in ("page.css", "page.js", f"{name}.html", f"{name}.js")
    )
    code = f"const DATA = {_literal(data)};\n{shared}{script}"
    markup = f"<style>{style_sheet}</style>{markup}"
    # Two pages may stand side by side: a place is found by what belongs there.
    digest = hashlib.sha256((markup + code).encode()).hexdigest()[:12]
    return (
        f'<div data-page="{digest}"><img src="data:image/png;base64,{picture}" '
        f'alt="{html.escape(description)}" style="max-width: 100%"></div>\n'
        f'<script>\n(() => {{\n"use strict";\n{code}'
        f'start("{digest}", {_literal(markup)}, build);\n}})();\n</script>'
    )


def _literal(value: Any) -> str:
    """Writes a JavaScript literal that can't end the script it stands in."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _png(figure: Figure) -> bytes:
    """Draws a figure in 128 colors: a fourth of the size."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    picture = Image.open(drawn).convert("RGB")
    picture = picture.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()
