"""The pages in a cell's output: what they hold, and what they do in a browser."""

import base64
import html
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from matplotlib import colormaps
from nbconvert import HTMLExporter
from PIL import Image

import vae_helpers
from vae_helpers.explorers.bound import bound_explorer
from vae_helpers.explorers.latents import latent_explorer
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.explorers.page import _literal
from vae_helpers.training import train

tfd = tfp.distributions

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
WEB = Path(vae_helpers.__file__).parent / "web"
BLANK = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
VIRIDIS = colormaps["viridis"](np.arange(256), bytes=True)[:, :3].astype(int)
# A picture's colors, once the page has drawn what it was told.
COLORS = """async (host, code) => {
    if (code) host.page.move(code);
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const canvas = host.shadowRoot.querySelector(".image");
    const context = canvas.getContext("2d");
    return Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
}"""
FRAME = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture
def explorer(images):
    """Makes a model of random weights, and its page."""

    def make(latent_size=10, hidden_sizes=(100, 100), activation=tf.nn.relu, prior=None):
        tf.random.set_seed(0)
        encoder = Encoder(hidden_sizes, latent_size)
        decoder = Decoder(hidden_sizes, [28, 28, 1], activation=activation)
        decoder(tf.zeros([1, latent_size]))
        for weights in decoder.trainable_variables:
            weights.assign(2 * weights + (0.1 if weights.shape.rank == 1 else 0))
        prior = prior or standard_normal(latent_size)
        return encoder, decoder, latent_explorer(encoder, decoder, prior, images[:200])

    return make


def bundle(page):
    return page._repr_mimebundle_()


def data_of(page):
    return json.loads(re.search(r"const DATA = (.*);\n", bundle(page)["text/html"])[1])


# What a page holds.


def test_the_kl_is_the_mean_over_blocks_of_images(explorer, images, monkeypatch):
    monkeypatch.setattr("vae_helpers.explorer._IMAGES_PER_CALL", 64)
    encoder, _, page = explorer()
    kl = np.mean(encoder(images[:200]).kl_divergence(standard_normal(10)), axis=0)
    shown = [latent["kl"] for latent in data_of(page)["latents"]]
    np.testing.assert_allclose(shown, np.sort(kl)[::-1], atol=1e-3)


def test_a_page_is_html_and_a_picture(explorer):
    *_, page = explorer()
    output = bundle(page)
    assert set(output) == {"text/html", "image/png", "text/plain"}
    picture = Image.open(io.BytesIO(base64.b64decode(output["image/png"])))
    assert 700 < picture.width < 1000 and len(output["image/png"]) < 100_000
    assert f'src="data:image/png;base64,{output["image/png"]}"' in output["text/html"]
    assert html.escape(repr(page)[1:-1]) in output["text/html"]
    assert output["text/plain"] == "<Latent explorer: 10 latents, images of 28 by 28 pixels>"


def test_what_is_left_without_scripts_is_the_picture(explorer):
    *_, page = explorer(latent_size=2, hidden_sizes=[])
    left = re.sub(r"<script>.*?</script>", "", bundle(page)["text/html"], flags=re.DOTALL)
    assert re.fullmatch(
        r'<div data-page="\w+"><img src="[^"]*" alt="[^"]*" style="[^"]*"></div>\s*', left
    )


@pytest.mark.slow
def test_the_page_of_the_posts_model_is_small(images, make_model):
    encoder, decoder, prior = make_model(10, [100, 100])
    train(encoder, decoder, prior, images, training_steps=1024, progress=False)
    page = latent_explorer(encoder, decoder, prior, images[:1000])
    assert sum(map(len, bundle(page).values())) <= 400_000


@pytest.mark.parametrize("name", ["01_elbo", "05_traversals"])
def test_the_stored_pages_are_small_and_there(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    outputs = [o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])]
    (output,) = [o for o in outputs if "data-page=" in o.get("text/html", "")]
    assert sum(map(len, output.values())) <= 400_000
    view = {"01_elbo": "elbo.js", "05_traversals": "latents.js"}[name]
    for file in ("page.js", view):
        assert (WEB / file).read_text() in output["text/html"], f"run {name} again: {file} is newer"


def test_the_same_model_gives_the_same_bytes(explorer):
    assert bundle(explorer()[2]) == bundle(explorer()[2])
    first, other = (bound_explorer(1, 0, 1, x, q_mean=0, q_scale=1) for x in (1, 2))
    place = re.compile(r'data-page="(\w+)"')
    assert (
        place.search(bundle(first)["text/html"])[1] != place.search(bundle(other)["text/html"])[1]
    )


def test_it_asks_no_address(explorer):
    for page in (explorer()[2], bound_explorer(1, 0, 1, 1, q_mean=0, q_scale=1)):
        addresses = re.findall(r"\w+://[\w./]+", bundle(page)["text/html"])
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}  # a name, not a place
        assert not re.search(
            r"\b(fetch|import|XMLHttpRequest|@import)\b\s*\(", bundle(page)["text/html"]
        )


def test_text_cannot_end_the_script():
    assert "<" not in _literal({"</script>": "<!--"})
    assert json.loads(_literal({"</script>": "<!--"})) == {"</script>": "<!--"}


def test_latents_come_in_the_order_of_their_kl(explorer, images):
    encoder, _, page = explorer()
    kl = encoder(images[:200]).kl_divergence(standard_normal(10)).numpy().mean(axis=0)
    latents = data_of(page)["latents"]
    assert [latent["index"] for latent in latents] == list(np.argsort(-kl))
    np.testing.assert_allclose([latent["kl"] for latent in latents], np.sort(kl)[::-1], atol=1e-3)


def test_examples_are_the_first_images_or_those_given(explorer, images):
    encoder, decoder, page = explorer()
    codes = encoder(images[:10]).mean()
    np.testing.assert_allclose(data_of(page)["examples"]["codes"], codes, atol=1e-4)
    given = latent_explorer(
        decoder,
        encoder,
        standard_normal(10),
        images[:200],
        np.float32(0.9999 * images[50:53] / 255),
    )
    np.testing.assert_allclose(
        data_of(given)["examples"]["codes"], encoder(images[50:53]).mean(), atol=1e-3
    )
    stored = np.frombuffer(base64.b64decode(data_of(given)["examples"]["images"]), np.uint8)
    np.testing.assert_array_equal(stored.reshape(3, 28, 28, 1), images[50:53])


def test_the_sliders_reach_the_prior_and_all_codes(explorer, images):
    encoder, decoder, page = explorer(latent_size=3)
    assert data_of(page)["bound"] == 3
    page = latent_explorer(encoder, decoder, tfd.Normal([0.0, -5.0, 1.0], 2.0), images[:9])
    assert data_of(page)["bound"] == 11
    bias = next(v for v in encoder.trainable_variables if v.shape == [3])  # of the means
    bias.assign([0.0, -20.5, 0.0])
    far = np.abs(encoder(images[:9]).mean()).max()
    assert far > 12
    page = latent_explorer(encoder, decoder, standard_normal(3), images[:9])
    assert data_of(page)["bound"] == np.ceil(far)


def test_the_still_picture_is_what_the_decoder_makes(explorer, images, monkeypatch):
    monkeypatch.setattr(
        "vae_helpers.explorer.Page", lambda view, data, figure, text: (data, figure)
    )
    encoder, decoder, (data, figure) = explorer()
    code = encoder(images[:1]).mean().numpy()[0]
    first, second = [latent["index"] for latent in data["latents"]][:2]
    image, pad = (axis.images[0].get_array() for axis in figure.axes[:2])
    np.testing.assert_allclose(image, decoder(code[None]).mean()[0, :, :, 0], atol=1e-6)
    z = np.tile(code, [2, 1])
    steps = data["bound"] * (2 * np.arange(9) - 8) / 9
    z[:, first], z[:, second] = steps[[7, 2]], steps[[0, 5]]  # columns, and rows from above
    known = decoder(z).mean()[..., 0]
    np.testing.assert_allclose(pad[:28, 7 * 28 : 8 * 28], known[0], atol=1e-5)
    np.testing.assert_allclose(pad[5 * 28 : 6 * 28, 2 * 28 : 3 * 28], known[1], atol=1e-5)
    (x,), (y,) = figure.axes[1].lines[0].get_data()
    assert (x, -y) == pytest.approx((code[first], code[second]))  # upwards is less


def test_the_still_picture_of_the_bound_has_its_numbers(monkeypatch):
    monkeypatch.setattr("vae_helpers.elbo.Page", lambda view, data, figure, text: (data, figure))
    model = {"weight": -0.7, "bias": 2, "noise_scale": 1.3, "x": -1}
    data, figure = bound_explorer(**model, q_mean=0.4, q_scale=0.7)
    variance = 0.7**2 + 1.3**2
    mean, scale = -0.7 * (-1 - 2) / variance, 1.3 / variance**0.5
    landscape, _, cut = figure.axes
    star, dot = (line.get_xydata()[0] for line in landscape.lines)
    np.testing.assert_allclose([star, dot], [[mean, scale], [0.4, 0.7]])
    known = closed_forms(0.4, 0.7, **model)
    assert cut.lines[0].get_ydata()[0] == pytest.approx(known["evidence"])
    assert cut.lines[-1].get_xydata()[0] == pytest.approx([0.4, known["elbo"]])
    assert data["scales"] == pytest.approx([0.5 * 0.7, 1.3])


def test_half_precision_gives_way_where_it_is_too_coarse(explorer, images):
    encoder, decoder, page = explorer()
    assert data_of(page)["decoder"]["half"]
    last = decoder.trainable_variables[-1]
    decoder.trainable_variables[1].assign(1e3 * decoder.trainable_variables[1])
    page = latent_explorer(encoder, decoder, standard_normal(10), images[:200])
    assert not data_of(page)["decoder"]["half"]
    last.assign(last * np.nan)
    with pytest.raises(ValueError, match="decoder must have finite weights"):
        latent_explorer(encoder, decoder, standard_normal(10), images[:200])


def test_what_the_page_cannot_carry_is_named(images):
    encoder, decoder, prior = Encoder([8], 3), Decoder([8], [28, 28, 1]), standard_normal(3)
    with pytest.raises(ValueError, match=r"examples must have.*got \[28, 28, 3\]"):
        latent_explorer(encoder, decoder, prior, np.repeat(images[:20], 3, axis=3))
    encoder = Encoder([8], 3, scale_fn=lambda u: 1e30 + u)
    with pytest.raises(ValueError, match="encoder and prior must have a finite KL"):
        latent_explorer(encoder, decoder, prior, images[:20])


class Doubled(Decoder):
    def __call__(self, z):
        return super().__call__(2 * z)


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (lambda z: z, "decoder must be a vae_helpers Decoder, got function"),
        (Decoder([8], [28, 28, 1], activation=tf.nn.softsign), "activation of tf.nn.*softsign"),
        (Decoder([8], [28, 28, 3]), r"gray images \[H, W, 1\], got \[28, 28, 3\]"),
        (Decoder([8], [28, 28]), r"gray images \[H, W, 1\], got \[28, 28\]"),
        (
            Decoder([8], [28, 28, 1], likelihood=tfd.ContinuousBernoulli),
            "Bernoulli likelihood, got Cont",
        ),
        (Decoder([8], [14, 28, 1]), r"examples must have.*\[14, 28, 1\], got \[28, 28, 1\]"),
        (Decoder([1300], [28, 28, 1]), "decoder must have at most 2 MB of weights, got 2.1 MB"),
        (Doubled([8], [28, 28, 1]), "decoder must compute what its linear layers"),
    ],
)
def test_a_decoder_that_it_cannot_carry_is_named(images, decoder, message):
    with pytest.raises(ValueError, match=message):
        latent_explorer(decoder, Encoder([8], 3), standard_normal(3), images[:20])


def test_other_arguments_are_checked(images):
    encoder, decoder = Encoder([8], 3), Decoder([8], [28, 28, 1])
    with pytest.raises(ValueError, match="prior must be a tfd.Normal, got Laplace"):
        latent_explorer(encoder, decoder, tfd.Laplace(tf.zeros(3), 1.0), images[:20])
    with pytest.raises(ValueError, match="encoder must be a function, got None"):
        latent_explorer(decoder, None, standard_normal(3), images[:20])


# What it does in a browser.


@pytest.fixture
def show(browser, tmp_path):
    """Opens HTML; fails on a script's error, and on anything asked of the network."""
    opened, errors, asked = [], [], []

    def show(text, width=1000, **options):
        path = tmp_path / f"page{len(opened)}.html"
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        page = context.new_page()
        opened.append(context)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield show
    for context in opened:
        context.close()
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:"))] == []


def live(show, page, **options):
    """Opens a page by itself, and returns it with the element that it lives in."""
    shown = show(BLANK + bundle(page)["text/html"], **options)
    return shown, shown.locator("[data-page]")


def state(host):
    return np.array(host.evaluate("(host) => host.page.z"))


def probabilities(colors):
    """Undoes viridis: colors to numbers in [0, 1]."""
    colors = np.reshape(colors, [-1, 4])[:, :3]
    distance = abs(colors[:, None] - VIRIDIS).sum(axis=2)
    assert distance.min(axis=1).max() == 0
    return distance.argmin(axis=1) / 255


@pytest.mark.slow
def test_the_canvas_is_what_tensorflow_decodes(explorer, show):
    """For 100 random codes, on every pixel, to 2/255: of probability, then of color."""
    _, decoder, page = explorer()
    _, host = live(show, page)
    codes = np.random.default_rng(1).standard_normal([100, 10]).astype(np.float32)
    expected = decoder(codes).mean().numpy().reshape(100, -1)
    assert expected.min() < 0.05 and expected.max() > 0.95
    decoded = host.evaluate("(host, codes) => codes.map(host.page.decode)", codes.tolist())
    assert abs(decoded - expected).max() < 2 / 255
    for code, pixels in zip(codes, expected, strict=True):
        shown = probabilities(host.evaluate(COLORS, code.tolist()))
        index = np.minimum(np.floor(256 * pixels), 255) / 255
        assert abs(shown - index).max() < 2.01 / 255
        gray = ((pixels > 0.25) & (pixels < 0.75)).sum()
        said = host.locator(".measure").inner_text()
        assert abs(int(re.fullmatch(r"(\d+) gray pixels of 784", said)[1]) - gray) <= 5
    assert gray < 700


@pytest.mark.slow
@pytest.mark.parametrize(
    "activation",
    [tf.nn.leaky_relu, tf.nn.elu, tf.nn.softplus, tf.nn.swish, tf.nn.sigmoid, tf.nn.tanh],
    ids=lambda activation: activation.__name__,
)
def test_other_activations(explorer, show, activation):
    _, decoder, page = explorer(3, [20, 30], activation)
    _, host = live(show, page)
    codes = 3 * np.random.default_rng(1).standard_normal([100, 3]).astype(np.float32)
    decoded = host.evaluate("(host, codes) => codes.map(host.page.decode)", codes.tolist())
    assert abs(decoded - decoder(codes).mean().numpy().reshape(100, -1)).max() < 2 / 255


@pytest.mark.slow
def test_single_precision_and_no_hidden_layer(explorer, show, images):
    encoder, decoder, _ = explorer(2, [])
    decoder.trainable_variables[1].assign(1e5 * decoder.trainable_variables[1])
    page = latent_explorer(encoder, decoder, standard_normal(2), images[:20])
    assert not data_of(page)["decoder"]["half"]
    _, host = live(show, page)
    codes = np.random.default_rng(1).standard_normal([50, 2]).astype(np.float32)
    decoded = host.evaluate("(host, codes) => codes.map(host.page.decode)", codes.tolist())
    assert abs(decoded - decoder(codes).mean().numpy().reshape(50, -1)).max() < 2 / 255


@pytest.mark.slow
def test_sliders_move_their_latent(explorer, show):
    _, decoder, page = explorer()
    shown, host = live(show, page)
    before = state(host)
    latents, bound = data_of(page)["latents"], data_of(page)["bound"]
    assert shown.get_by_role("slider").count() == 10
    for place in (0, 4):
        latent = latents[place]["index"]
        name = f"latent {latent}, KL {latents[place]['kl']:.2f} nats"
        slider = shown.get_by_role("slider", name=name, exact=True)
        slider.focus()
        shown.keyboard.press("End")
        assert state(host)[latent] == pytest.approx(bound)
        shown.keyboard.press("ArrowLeft")
        assert state(host)[latent] == pytest.approx(bound * 59 / 60, rel=1e-6)
        before[latent] = state(host)[latent]
        np.testing.assert_allclose(state(host), before, atol=1e-6)
        shown.evaluate(FRAME)
        assert slider.get_attribute("aria-valuetext") == f"{bound * 59 / 60:.2f}"
    expected = decoder(before[None].astype(np.float32)).mean().numpy().ravel()
    assert abs(probabilities(host.evaluate(COLORS)) - expected).max() < 4 / 255
    assert "latents, the most used first" in shown.locator(".head").inner_text()


@pytest.mark.slow
def test_buttons_do_what_they_say(explorer, show, images):
    prior = tfd.Normal(loc=tf.constant([2.0, 0, 0]), scale=tf.constant([0.5, 1, 1]))
    encoder, _, page = explorer(3, [20], prior=prior)
    shown, host = live(show, page)
    codes = encoder(images[:10]).mean().numpy()
    np.testing.assert_allclose(state(host), codes[0], atol=1e-4)  # where it starts
    status = shown.get_by_role("status")
    assert status.inner_text() == ""

    shown.get_by_role("button", name="Set all to 0").click()
    assert (state(host) == 0).all()
    assert status.inner_text().startswith("All latents at 0: ")

    for number in (10, 3):
        shown.get_by_role("button", name=f"Test image {number}", exact=True).press("Enter")
        np.testing.assert_allclose(state(host), codes[number - 1], atol=1e-4)
        assert status.inner_text().startswith(f"The code of test image {number}: ")

    sample = shown.get_by_role("button", name="Sample from the prior")
    sample.press("Space")
    draws = sample.evaluate(
        """(button) => Array.from({length: 2000}, () => {
            button.click();
            return button.getRootNode().host.page.z;
        })"""
    )
    error = 5 / np.sqrt(2000)
    np.testing.assert_allclose(np.mean(draws, axis=0), prior.loc, atol=error)
    np.testing.assert_allclose(np.std(draws, axis=0), prior.scale, atol=error)


@pytest.mark.slow
def test_the_pad_moves_the_two_most_used(explorer, show):
    *_, page = explorer()
    shown, host = live(show, page)
    first, second, *others = (latent["index"] for latent in data_of(page)["latents"])
    bound, before = data_of(page)["bound"], state(host)
    pad = shown.get_by_role("application")
    box = pad.bounding_box()
    shown.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.mouse.down()
    shown.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"], steps=4)
    shown.mouse.up()
    shown.mouse.move(box["x"], box["y"])
    z = state(host)
    np.testing.assert_allclose(z[[first, second]], [bound / 2, -bound / 2], atol=bound / 60)
    np.testing.assert_array_equal(z[others], before[others])

    pad.focus()
    key = "new KeyboardEvent('keydown', { key: 'ArrowUp', cancelable: true })"
    assert not pad.evaluate(f"(pad) => pad.dispatchEvent({key})"), "the page would scroll"
    for key, (right, down) in {
        "ArrowRight": (1, 0), "ArrowDown": (0, 1), "ArrowLeft": (-1, 0), "ArrowUp": (0, -1),
        "Shift+ArrowDown": (0, 5),
    }.items():  # fmt: skip
        before = state(host)
        shown.keyboard.press(key)
        moved = (state(host) - before)[[first, second]]
        np.testing.assert_allclose(moved, np.multiply([right, down], bound / 30), atol=1e-5)
    for _ in range(20):
        shown.keyboard.press("Shift+ArrowDown")
    assert state(host)[second] == bound
    shown.evaluate(FRAME)
    assert f"latent {second}: {bound:.2f}" in pad.get_attribute("aria-label")
    knob, box = shown.locator(".knob").bounding_box(), pad.bounding_box()
    assert knob["y"] + knob["height"] / 2 == pytest.approx(box["y"] + box["height"], abs=1)


@pytest.mark.slow
def test_the_tiles_follow_the_other_latents(explorer, show):
    _, decoder, page = explorer()
    shown, host = live(show, page)
    first, second, third, *_ = (latent["index"] for latent in data_of(page)["latents"])
    host.evaluate("(host, move) => host.page.move(move)", {str(third): 1.5})
    shown.wait_for_timeout(500)
    z = np.tile(state(host).astype(np.float32), [2, 1])
    bound = data_of(page)["bound"]
    z[0, [first, second]] = -bound * 8 / 9  # the tile at the top left
    z[1, [first, second]] = bound * 4 / 9, -bound * 2 / 9  # column 6, row 3
    expected = decoder(z).mean().numpy().reshape(2, -1)
    for pixels, (column, row) in zip(expected, [(0, 0), (6, 3)], strict=True):
        colors = shown.locator(".tiles").evaluate(
            """(canvas, [x, y]) => Array.from(canvas.getContext("2d").getImageData(x, y, 28, 28).data)""",
            [28 * column, 28 * row],
        )
        assert abs(probabilities(colors) - pixels).max() < 4 / 255


@pytest.mark.slow
def test_one_latent(explorer, show):
    *_, page = explorer(1, [20])
    shown, host = live(show, page)
    pad = shown.get_by_role("application")
    pad.focus()
    before, bound = state(host), data_of(page)["bound"]
    shown.keyboard.press("ArrowDown")
    assert state(host) == before
    shown.keyboard.press("ArrowRight")
    np.testing.assert_allclose(state(host) - before, bound / 30, atol=1e-5)
    assert shown.get_by_role("slider").count() == 1
    assert shown.locator(".down").count() == 0


@pytest.mark.slow
def test_many_latents_stay_usable(explorer, show):
    *_, page = explorer(64, [20])
    shown, _ = live(show, page)
    assert shown.get_by_role("slider").count() == 12
    more = shown.get_by_text("52 more, less used")
    more.focus()
    shown.keyboard.press("Enter")
    assert shown.get_by_role("slider").count() == 64


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("color", ["rgb(20, 20, 20)", "rgb(230, 230, 230)"])
def test_it_fits_a_phone_and_takes_the_color_of_the_text(explorer, show, width, color):
    pages = [explorer(20, [20])[2], bound_explorer(1, 0, 1, 1, q_mean=0, q_scale=1)]
    shown = show(
        f'{BLANK}<body style="margin: 8px; color: {color}">'
        + "".join(bundle(page)["text/html"] for page in pages),
        width=width,
        color_scheme="dark",
    )
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    for part in ("button", ".slider", "td", "text"):
        for style in shown.locator(part).evaluate_all(
            "parts => parts.map(p => getComputedStyle(p))"
        ):
            assert style["color"] == color
    for control in shown.locator("button, .slider, .pad").all():
        if control.is_visible():
            assert control.bounding_box()["height"] >= 24  # large enough for a finger


@pytest.mark.slow
def test_two_explorers_on_a_page_of_nbconvert(explorer, show, images):
    """And a third with the same bytes as the first: each lives by itself."""
    encoder, decoder, page = explorer(3, [20])
    other = latent_explorer(encoder, decoder, standard_normal(3), images[:300])
    outputs = [
        nbformat.v4.new_output("execute_result", bundle(p), execution_count=1)
        for p in (page, other, page)
    ]
    cells = [nbformat.v4.new_code_cell("explorer", outputs=[output]) for output in outputs]
    # A loader of modules on the page, as nbconvert's require.js, is not to be called.
    loader = "data:text/javascript,window.define=()=>{throw Error('called')};define.amd={}"
    exporter = HTMLExporter(mathjax_url="data:text/javascript,", require_js_url=loader)
    text, _ = exporter.from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    assert loader in html.unescape(text)
    shown = show(text)
    hosts = shown.locator("[data-page]")
    assert hosts.count() == 3
    for host in hosts.all():
        assert not host.locator("img").is_visible()
        assert host.get_by_role("slider").count() == 3
    before = [state(host) for host in hosts.all()]
    hosts.nth(1).get_by_role("slider").first.press("End")
    after = [state(host) for host in hosts.all()]
    assert [(a == b).all() for a, b in zip(after, before, strict=True)] == [True, False, True]


@pytest.mark.slow
def test_in_a_frame_like_colabs(explorer, show):
    """An output of its own origin, that may run scripts and nothing else."""
    *_, page = explorer(3, [20])
    inner = html.escape(BLANK + bundle(page)["text/html"])
    shown = show(
        f'<iframe sandbox="allow-scripts" width="900" height="600" srcdoc="{inner}"></iframe>'
    )
    frame = shown.frame_locator("iframe")
    frame.get_by_role("button", name="Set all to 0").click()
    assert (state(frame.locator("[data-page]")) == 0).all()


@pytest.mark.slow
def test_added_by_a_script_as_jupyterlab_does(explorer, show):
    """JupyterLab sets the HTML first, then puts a copy in place of each script."""
    *_, page = explorer(3, [20])
    shown = show(BLANK + '<div id="output"></div>')
    shown.evaluate(
        """(text) => {
            const output = document.createElement("div");
            output.innerHTML = text;
            const script = output.querySelector("script");
            const copy = document.createElement("script");
            copy.textContent = script.textContent;
            script.replaceWith(copy);
            document.getElementById("output").append(output);
        }""",
        bundle(page)["text/html"],
    )
    assert shown.get_by_role("slider").count() == 3
    # Its shortcuts listen further out: the arrows are ours, Ctrl+S is not.
    shown.evaluate("addEventListener('keydown', (event) => (window.heard = event.key))")
    shown.get_by_role("slider").first.press("ArrowDown")
    assert shown.evaluate("window.heard") is None
    shown.get_by_role("slider").first.press("Control+F8")
    assert shown.evaluate("window.heard") == "F8"


@pytest.mark.slow
def test_without_scripts_the_picture_stands(explorer, show):
    *_, page = explorer(3, [20])
    shown = show(BLANK + bundle(page)["text/html"], java_script_enabled=False)
    picture = shown.locator("img")
    assert picture.is_visible() and picture.bounding_box()["width"] > 700
    assert shown.locator("body").inner_text().strip() == ""


# The bound's page.

MODEL = {"weight": 1.5, "bias": 0.5, "noise_scale": 0.5, "x": 2.5}


def closed_forms(m, sigma, weight, bias, noise_scale, x):
    """Computes the page's terms with TFP, in nats."""
    q = tfd.Normal(np.float64(m), np.float64(sigma))
    prior, scale = tfd.Normal(np.float64(0), np.float64(1)), np.hypot(weight, noise_scale)
    posterior = tfd.Normal(weight * (x - bias) / scale**2, noise_scale / scale)
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    z = m + sigma * nodes  # exact for the quadratic log p(x|z)
    log_p = tfd.Normal(weight * z + bias, np.float64(noise_scale)).log_prob(x)
    likelihood = float((weights * log_p.numpy()).sum() / weights.sum())
    kl = float(q.kl_divergence(prior))
    return {
        "likelihood": likelihood,
        "kl": -kl,
        "elbo": likelihood - kl,
        "gap": float(q.kl_divergence(posterior)),
        "evidence": float(tfd.Normal(np.float64(bias), scale).log_prob(x)),
    }


def numbers(shown):
    cells = shown.locator("[data-term]").all()
    texts = {cell.get_attribute("data-term"): cell.inner_text() for cell in cells}
    assert all(text.endswith(" nats") for text in texts.values())
    return {name: float(text.split()[0].replace("−", "-")) for name, text in texts.items()}


@pytest.mark.slow
@pytest.mark.parametrize("model", [MODEL, {"weight": -0.7, "bias": 2, "noise_scale": 1.3, "x": -1}])
def test_the_numbers_of_the_bound_are_tfps(show, model):
    page = bound_explorer(**model, q_mean=0.4, q_scale=0.7)
    shown, host = live(show, page)
    mean, scale = shown.get_by_role("slider").all()
    assert [s.get_attribute("aria-label") for s in (mean, scale)] == ["mean m of q", "scale σ of q"]
    seen = []
    for keys in ([], ["Home"], ["End"], ["PageDown"], ["ArrowLeft", "PageDown", "PageDown"]):
        for slider in (mean, scale):
            for key in keys:
                slider.press(key)
            shown.evaluate(FRAME)
            q = host.evaluate("(host) => host.page.q")
            seen.append(tuple(q))
            expected = closed_forms(*q, **model)
            assert numbers(shown) == pytest.approx(expected, abs=6e-5)
            assert expected["elbo"] + expected["gap"] == pytest.approx(expected["evidence"])
    assert seen[0] == (0.4, 0.7) and len(set(seen)) >= 8
    assert seen[5] == pytest.approx([data_of(page)[name][1] for name in ("means", "scales")])


@pytest.mark.slow
def test_the_bounds_buttons_and_pad(show):
    page = bound_explorer(**MODEL, q_mean=1.6, q_scale=0.5)
    shown, host = live(show, page)
    for name, q in {
        "The prior": (0, 1),
        "The posterior": (1.2, 0.1**0.5),
        "Our guess": (1.6, 0.5),
    }.items():
        shown.get_by_role("button", name=name).click()
        shown.evaluate(FRAME)
        assert host.evaluate("(host) => host.page.q") == pytest.approx(q)
        gap = closed_forms(*q, **MODEL)["gap"]
        assert numbers(shown)["gap"] == pytest.approx(gap, abs=6e-5)
        assert shown.get_by_role("status").inner_text() == f"{name}: the gap is {gap:.2f} nats."
    pad, knob = shown.get_by_role("application"), shown.locator(".knob")
    (low, high), (bottom, top) = data_of(page)["means"], data_of(page)["scales"]
    box = pad.bounding_box()
    shown.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
    m, sigma = host.evaluate("(host) => host.page.q")
    assert m == pytest.approx(low + 0.25 * (high - low), abs=0.02)
    assert sigma == pytest.approx(top - 0.25 * (top - bottom), abs=0.02)
    shown.evaluate(FRAME)
    place = knob.bounding_box()
    assert place["x"] + place["width"] / 2 == pytest.approx(box["x"] + 0.25 * box["width"], abs=1)
    pad.focus()
    shown.keyboard.press("ArrowUp")
    assert host.evaluate("(host) => host.page.q")[1] == pytest.approx(sigma + (top - bottom) / 60)


@pytest.mark.slow
def test_the_bounds_drawings_agree_with_its_numbers(show):
    """The dot hangs below the ceiling by the gap, and the contour of its gap goes through it."""
    page = bound_explorer(**MODEL, q_mean=1.6, q_scale=0.5)
    shown, _ = live(show, page)
    ceiling = shown.locator(".slice .ceiling").bounding_box()
    dot = shown.locator(".slice circle").bounding_box()
    axis = shown.locator(".slice rect.axis").bounding_box()
    nats = axis["height"] / 6.7
    fallen = (dot["y"] + dot["height"] / 2 - ceiling["y"] - ceiling["height"] / 2) / nats
    assert fallen == pytest.approx(closed_forms(1.6, 0.5, **MODEL)["gap"], abs=0.05)
    # On the line of 1 nat: the rightmost point is where the posterior's scale is ours.
    box = "(shape) => { const { x, width } = shape.getBBox(); return [x, width]; }"
    left, width = shown.locator(".landscape rect.axis").evaluate(box)
    start, length = shown.locator(".contour").nth(1).evaluate(box)
    low, high = data_of(page)["means"]
    right = low + (start + length - left) / width * (high - low)
    assert closed_forms(right, 0.1**0.5, **MODEL)["gap"] == pytest.approx(1, abs=0.01)


def test_a_prior_of_other_latents_is_named(explorer):
    with pytest.raises(ValueError, match="prior must have the latent size of q"):
        explorer(latent_size=3, prior=standard_normal(4))
