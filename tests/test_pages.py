"""Each notebook as a page in a browser: no script error, no TeX error, no missing image."""

import re
from pathlib import Path

import jupyter_server_mathjax
import pytest
from nbconvert import HTMLExporter

PATHS = sorted((Path(__file__).parent.parent / "notebooks").glob("**/[0-9]*.ipynb"))
MATHJAX = Path(jupyter_server_mathjax.__file__).parent / "static"
CDN = "https://cdn.example/mathjax/"
# The package has MathJax with one of its fonts.
FONT = """<script type="text/x-mathjax-config">MathJax.Hub.Config({"HTML-CSS": {
    availableFonts: [], preferredFont: null, imageFont: null, webFont: "STIX-Web"}});</script>"""
BADGE = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="20"/>'
BADGES = ("https://colab.research.google.com/assets/", "https://mybinder.org/badge")
WIDTHS = 390, 1280  # of a phone, of a desktop


def elsewhere(address: str) -> dict | None:
    """Answers what a page asks of the network: MathJax and badges from here, nothing else."""
    path = MATHJAX / address.removeprefix(CDN).split("?")[0]
    if address.startswith(CDN) and path.exists():
        return {"path": path}
    if address.startswith(CDN) and "/fonts/" in address:
        return {"status": 404}
    if address.startswith(BADGES):
        return {"body": BADGE, "content_type": "image/svg+xml"}
    if "require" in address:  # nbconvert's loader of widgets, which no notebook has
        return {"body": "", "content_type": "text/javascript"}
    return None


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_page_shows_all_that_it_has(open_page, path):
    exporter = HTMLExporter(mathjax_url=f"{CDN}MathJax.js?config=TeX-AMS-MML_HTMLorMML-full,Safe")
    text, _ = exporter.from_filename(path)
    html = {"body": text.replace("<head>", "<head>" + FONT, 1), "content_type": "text/html"}
    page = open_page(lambda address: elsewhere(address) if address else html, width=WIDTHS[0])
    # MathJax is done when the queue that it works off comes to this call.
    page.evaluate("() => new Promise(done => MathJax.Hub.Queue(done))")

    # MathJax sets what it can't read as an error, and a macro that it doesn't know in red.
    unread = page.locator('.MathJax_Error, .merror, .noError, .MathJax [style*="color: red"]')
    assert unread.all_inner_texts() == []
    source = path.read_text(encoding="utf-8")
    formulas = re.findall(r"(?<!\\)\$[^$\n]+\$", source)
    assert page.locator(".MathJax").count() >= min(5, len(formulas))
    broken = "images => images.filter(i => !i.complete || i.naturalWidth == 0).map(i => i.src)"
    images = page.locator("img")
    assert images.count() >= min(3, source.count('"image/png"'))
    assert images.evaluate_all(broken) == []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        wide = "images => images.filter(i => i.offsetWidth > innerWidth).map(i => i.alt)"
        assert images.evaluate_all(wide) == [], width
