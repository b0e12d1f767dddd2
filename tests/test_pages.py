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


def serve(route) -> None:
    """Answers what a page asks of the network: MathJax and badges from here, nothing else."""
    url = route.request.url
    path = MATHJAX / url.removeprefix(CDN).split("?")[0]
    if url.startswith(CDN) and path.exists():
        route.fulfill(path=path)
    elif url.startswith(BADGES):
        route.fulfill(body=BADGE, content_type="image/svg+xml")
    elif "require" in url:  # nbconvert's loader of widgets, which no notebook has
        route.fulfill(body="", content_type="text/javascript")
    else:
        route.abort()


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_page_shows_all_that_it_has(browser, tmp_path, path):
    exporter = HTMLExporter(mathjax_url=f"{CDN}MathJax.js?config=TeX-AMS-MML_HTMLorMML-full,Safe")
    text, _ = exporter.from_filename(path)
    page_path = tmp_path / "page.html"
    page_path.write_text(text.replace("<head>", "<head>" + FONT, 1), encoding="utf-8")
    page = browser.new_page(viewport={"width": WIDTHS[0], "height": 900})
    errors, lost = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: lost.append((request.resource_type, request.url)))
    page.route("http*://**/*", serve)
    page.goto(page_path.as_uri())
    # MathJax is done when the queue that it works off comes to this call.
    page.evaluate("() => new Promise(done => MathJax.Hub.Queue(done))")

    assert errors == []
    assert [url for kind, url in lost if kind != "font"] == []
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
    assert errors == []  # nor at the other width
    page.close()
