"""The book and the slides as a reader meets them: built by make's commands, opened in a browser.

What a page asks for comes from the folder that was built, and from nowhere else.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from address import read
from paths import notebooks, pages

ROOT = Path(__file__).parent.parent
WIDTHS = 1280, 390  # of a desktop, of a phone
SOURCES = [
    path.relative_to(ROOT) for path in [*notebooks(), *pages(), *ROOT.glob("tools/book/*.md")]
]
ADDRESSES = [path.with_suffix(".html").as_posix() for path in SOURCES]
DECKS = ["01_elbo", "03_training", "05_traversals"]
TYPESET = "() => document.readyState == 'complete' && (window.MathJax?.startup?.promise.then(() => true) ?? true)"
BROKEN = "images => images.filter(i => !i.complete || i.naturalWidth == 0).map(i => i.src)"
SQUEEZED = """images => images.filter(i => i.clientWidth && Math.abs(
    i.clientWidth / i.clientHeight * i.naturalHeight / i.naturalWidth - 1) > 0.03).map(i => i.alt)"""
WITHOUT_TEXT = (
    "images => images.filter(i => !i.alt || /^[0-9a-f]{16}|[.]png$/.test(i.alt)).map(i => i.src)"
)
PLAIN_TEX = """() => [...document.querySelectorAll("article :is(p, li, td)")]
    .flatMap(e => [...e.childNodes])
    .filter(node => node.nodeType == Node.TEXT_NODE && /[$\\\\]/.test(node.data))
    .map(node => node.data)"""

SAID = "With these hyperparameters this no longer holds: so it is"

pytestmark = pytest.mark.slow


def make(target: str, folder: Path, *more: str) -> Path:
    """Runs what `make target` would run, and has it write to another folder."""
    command = ["make", "--dry-run", "--no-print-directory", "--always-make", target]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = re.findall(rf"^(?!echo).* build/{target}.*", lines, flags=re.MULTILINE)
    here = {".venv/bin": str(Path(sys.executable).parent), "build": str(folder)}
    start = re.compile(r"^(\.venv/bin|build)(?=/)")
    words = [start.sub(lambda place: here[place[0]], word) for word in shlex.split(line)]
    command = [*words, *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder / target


@pytest.fixture(scope="module")
def book(browser, tmp_path_factory) -> Path:
    """The book, with 01 as `make run` may have left it: a claim has failed."""
    notebook = nbformat.read(ROOT / "notebooks" / "01_elbo.ipynb", as_version=4)
    guard = next(c for c in notebook.cells if "guard" in c.metadata.get("tags", []))
    guard.outputs = [nbformat.v4.new_output("stream", text=SAID)]
    folder = tmp_path_factory.mktemp("book")
    nbformat.write(notebook, folder / "01_elbo.ipynb")
    return make("book", folder, "-D", f"executed={folder}")


@pytest.fixture(scope="module")
def slides(browser, tmp_path_factory) -> Path:
    return make("slides", tmp_path_factory.mktemp("slides"))


@pytest.fixture
def opened(open_page):
    """Opens pages of a folder."""

    def open_built(folder: Path, address: str, *size: int, **options):
        def answer(asked: str):
            path = folder / unquote(asked.partition("?")[0])
            return {"path": path} if path.is_file() else None

        page = open_page(answer, address, *size, **options)
        page.wait_for_function(TYPESET)
        return page

    return open_built


def assert_that_a_slider_draws(page) -> None:
    """An explorer draws into its canvases or its SVG."""
    drawing = """() => [...document.querySelector("[data-page]").shadowRoot
        .querySelectorAll("canvas, svg")].map(e => e.toDataURL?.() ?? e.innerHTML).join()"""
    page.wait_for_timeout(200)
    before = page.evaluate(drawing)
    page.locator("[data-page] input[type=range]").first.evaluate(
        "range => { range.value = range.min; range.dispatchEvent(new Event('input')); }"
    )
    page.wait_for_timeout(300)
    assert page.evaluate(drawing) != before


def open_a_solution(page, address: str) -> None:
    """Looks at a page of solutions as it comes, and clicks on the first."""
    exercises = page.locator("article section section")
    assert exercises.count() == page.locator("details.folded").count() >= 2, address
    answer = page.get_by_text("What you should see").first
    assert not answer.is_visible()
    page.get_by_text("Solution", exact=True).first.click()
    assert answer.is_visible()


def test_every_page_shows_all_that_it_has(book, opened):
    built = {path.relative_to(book).as_posix() for path in book.glob("[!_]*/**/*.html")}
    assert built == set(ADDRESSES)
    for address in ADDRESSES:
        page = opened(book, address)
        if "/solutions/" in address:
            open_a_solution(page, address)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
        page.wait_for_function("[...document.images].every(i => i.complete)")
        assert page.locator("mjx-merror").all_inner_texts() == [], address
        assert page.locator("mjx-container").count() >= page.locator(".math").count(), address
        assert page.evaluate(PLAIN_TEX) == [], address
        assert page.locator("img").evaluate_all(BROKEN) == [], address
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
            assert page.locator("img").evaluate_all(SQUEEZED) == [], (address, width)
        assert page.locator("img").evaluate_all(WITHOUT_TEXT) == [], address
        page.close()


def test_the_handout_prints_on_two_pages(book, opened):
    page = opened(book, "tools/book/handout.html")
    margins = dict.fromkeys(("top", "bottom", "left", "right"), "15mm")
    printed = page.pdf(format="A4", margin=margins)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 2
    page.close()


def test_the_address_of_the_book_leads_to_its_front_page(book, opened):
    opened(book, "index.html").wait_for_url("**/tools/book/index.html")


def test_launch_buttons_follow_the_address_and_what_only_a_runner_needs_is_left_out(book):
    repo = read(ROOT)
    for path in (path for path in SOURCES if path.suffix == ".ipynb"):
        text = (book / path.with_suffix(".html")).read_text(encoding="utf-8")
        assert f"colab.research.google.com/github/{repo}/blob/main/{path}" in text
        assert f"mybinder.org/v2/gh/{repo}/main?urlpath=lab/tree/{path}" in text
        assert f"github.com/{repo}/blob/main/{path}" in text
        assert 'class="n">claim</span>' in text  # its import
        for mark in ("colab-badge", "COLAB_", "NBVAL_", 'class="n">claim</span><span class="p">('):
            assert mark not in text, path


def test_the_book_of_a_run_says_which_claims_failed(book):
    told = [path.stem for path in book.glob("notebooks/*.html") if SAID in path.read_text()]
    assert told == ["01_elbo"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["01_elbo", "05_traversals"])
def test_a_slider_draws_in_the_book(book, opened, name, scheme):
    page = opened(book, f"notebooks/{name}.html", color_scheme=scheme)
    assert page.locator("html").get_attribute("data-theme") == scheme
    page.locator("[data-page]").scroll_into_view_if_needed()
    assert_that_a_slider_draws(page)


def test_the_reference_has_every_public_name(book):
    text = (book / "tools" / "book" / "reference.html").read_text(encoding="utf-8")
    package = ROOT / "vae_helpers"
    for path in [*package.glob("[a-z]*.py"), *package.glob("explorers/[a-z]*.py")]:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in re.findall(r"^(?:def|class) ([A-Za-z]\w*)", path.read_text(), re.MULTILINE):
            assert f'id="{module}.{name}"' in text, (module, name)


OVERHANG = """() => {
    const seen = [...Reveal.getCurrentSlide().querySelectorAll("*")]
        .filter(e => !e.closest("aside, mjx-assistive-mml"))
        .map(e => e.getBoundingClientRect())
        .filter(box => box.width * box.height > 0);
    return [Math.max(...seen.map(box => box.right)) - 1280,
            Math.max(...seen.map(box => box.bottom)) - 720];
}"""


@pytest.mark.parametrize("name", DECKS)
def test_every_slide_fits(slides, opened, name):
    page = opened(slides, f"{name}.slides.html", 1280, 720)
    page.wait_for_function("Reveal.isReady()")
    places = page.evaluate("Reveal.getSlides().map(s => Reveal.getIndices(s))")
    assert 15 <= len(places) <= 45
    for place in places:
        page.evaluate("({h, v}) => Reveal.slide(h, v, 99)", place)
        right, bottom = page.evaluate(OVERHANG)
        assert right <= 0 and bottom <= 0, place
    assert page.locator("mjx-merror").count() == 0
    assert page.locator("mjx-container").count() >= 20
    assert page.locator("img").evaluate_all(BROKEN) == []
    assert "COLAB_RELEASE_TAG" not in page.content()


@pytest.mark.parametrize("name", ["01_elbo", "05_traversals"])
def test_a_slider_draws_in_the_deck_and_turns_no_slide(slides, opened, name):
    page = opened(slides, f"{name}.slides.html", 1280, 720)
    page.wait_for_function("Reveal.isReady()")
    page.evaluate(
        "const slide = document.querySelector('[data-page]').closest('section');"
        "const {h, v} = Reveal.getIndices(slide); Reveal.slide(h, v);"
    )
    place = page.evaluate("Reveal.getIndices()")
    assert_that_a_slider_draws(page)
    page.locator("[data-page] input[type=range]").first.press("ArrowRight")
    assert page.evaluate("Reveal.getIndices()") == place
