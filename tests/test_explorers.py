"""The explorers: what their pages hold, and what these do in a browser."""

from vae_helpers.explorers import bound, latents, page
from vae_helpers.explorers.bound import bound_explorer
from vae_helpers.explorers.latents import latent_explorer
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.traversals import plane, tile

import base64
import functools
import html
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from matplotlib import style

tfd = tfp.distributions

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
WEB = Path(page.__file__).parent
MODEL = {"weight": 1.5, "bias": 0.5, "noise_scale": 0.5, "x": 2.5}
OTHER = {"weight": -0.7, "bias": 2, "noise_scale": 1.3, "x": -1}
GUESS = {"q_mean": 1.6, "q_scale": 0.5}
HEAD = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
# Waits until a page has drawn what it was told.
FRAME = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
# As texts: Playwright looks at each number of a list, for seconds.
PIXELS = "(e, [x, y]) => e.getContext('2d').getImageData(x, y, 28, 28).data.join()"
DECODED = "(host, codes) => codes.map(code => host.page.decode(code).join()).join()"


def explore(
    images, latent_size=10, hidden_sizes=(100, 100), prior=None, scale=2, **decoder_options
):
    """Makes a model of random weights, and its page."""
    tf.random.set_seed(0)
    encoder, standard = Encoder(hidden_sizes, latent_size), standard_normal(latent_size)
    decoder = Decoder(hidden_sizes, [28, 28, 1], **decoder_options)
    decoder(tf.zeros([1, latent_size]))
    for weights in decoder.trainable_variables:
        weights.assign(scale * weights + (0.1 if weights.shape.rank == 1 else 0))
    shown = latent_explorer(encoder, decoder, prior or standard, images[:200])
    return encoder, decoder, shown


@pytest.fixture(scope="module")
def explored(images):
    """`explore`, once for the same arguments: what it returns stays as it is."""
    return functools.cache(functools.partial(explore, images))


def bundle(shown) -> dict[str, str]:
    return shown._repr_mimebundle_()


def data_of(shown) -> dict:
    return json.loads(re.search(r"const DATA = (.*);\n", bundle(shown)["text/html"])[1])


def closed_forms(q, weight, bias, noise_scale, x) -> list[float]:
    """Computes the terms of the bound with TFP, in nats, in the order of the page's table."""
    m, sigma = np.float64(q)
    q, prior = tfd.Normal(m, sigma), tfd.Normal(np.float64(0), np.float64(1))
    total = np.hypot(weight, noise_scale)
    posterior = tfd.Normal(weight * (x - bias) / total**2, noise_scale / total)
    log_p = tfd.Normal(weight * m + bias, np.float64(noise_scale)).log_prob(x)
    likelihood = log_p - 0.5 * (weight * sigma / noise_scale) ** 2
    kl, gap = q.kl_divergence(prior), q.kl_divergence(posterior)
    evidence = tfd.Normal(np.float64(bias), total).log_prob(x)
    return [float(term) for term in (likelihood, -kl, likelihood - kl, gap, evidence)]


# What a page holds.


def test_a_page_is_html_and_a_picture_that_stands_without_scripts(explored):
    *_, shown = explored()
    output = bundle(shown)
    assert set(output) == {"text/html", "image/png", "text/plain"}
    assert output["text/plain"] == "<Latent explorer: 10 latents, images of 28 by 28 pixels>"
    left = re.sub(r"<script>.*?</script>", "", output["text/html"], flags=re.DOTALL)
    img = f'<img src="data:image/png;base64,{output["image/png"]}" alt="{repr(shown)[1:-1]}" '
    assert re.fullmatch(rf'<div data-page="\w+">{re.escape(img)}style="[^"]*"></div>\s*', left)
    assert len(output["image/png"]) < 100_000 and len(output["text/html"]) < 400_000


@pytest.mark.parametrize(("name", "view"), [("01_elbo", "bound"), ("05_traversals", "latents")])
def test_the_stored_pages_are_small_and_up_to_date(name, view):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    outputs = [o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])]
    (output,) = [o for o in outputs if "data-page=" in o.get("text/html", "")]
    assert sum(map(len, output.values())) <= 400_000
    for file in ("page.js", f"{view}.js"):
        assert (WEB / file).read_text() in output["text/html"], f"run {name} again: {file} is newer"


def test_the_same_model_gives_the_same_bytes_and_another_model_another_name(explored, images):
    assert bundle(explored(3, (20,))[2]) == bundle(explore(images, 3, (20,))[2])
    pages = [bundle(bound_explorer(**model, **GUESS))["text/html"] for model in (MODEL, OTHER)]
    assert len({re.search(r'data-page="(\w+)"', text)[1] for text in pages}) == 2


def test_no_address_is_asked_for(explored):
    for shown in (explored(2, (5,))[2], bound_explorer(**MODEL, **GUESS)):
        text = bundle(shown)["text/html"]
        # A name, not a place.
        assert set(re.findall(r"\w+://[\w./]+", text)) <= {"http://www.w3.org/2000/svg"}
        assert not re.search(r"\b(fetch|import|XMLHttpRequest|@import)\b\s*\(", text)


STYLE = {
    "text.color": "white", "image.origin": "lower", "axes.grid": True, "font.size": 24,
    "figure.autolayout": True, "lines.linewidth": 8, "savefig.bbox": "tight",
}  # fmt: skip


def test_a_readers_own_style_and_numpy_errors_change_no_page(images):
    def pages():
        narrow = bound_explorer(**MODEL, q_mean=0, q_scale=0.01)
        return [bundle(shown) for shown in (explore(images, 2, (5,), scale=1e-6)[2], narrow)]

    plain = pages()
    with style.context(["dark_background", STYLE]), np.errstate(all="raise"):
        assert pages() == plain
        explore(images, 2, (5,), scale=1e6)  # more than half precision holds


def test_latents_come_in_the_order_of_their_mean_kl(images, monkeypatch):
    monkeypatch.setattr(latents, "_IMAGES_PER_CALL", 64)
    encoder, _, shown = explore(images)
    kl = encoder(images[:200]).kl_divergence(standard_normal(10)).numpy().mean(axis=0)
    listed = data_of(shown)["latents"]
    assert [latent["index"] for latent in listed] == list(np.argsort(-kl))
    np.testing.assert_allclose([latent["kl"] for latent in listed], np.sort(kl)[::-1], atol=1e-3)


def test_examples_are_the_first_images_or_those_given(explored, images):
    encoder, decoder, shown = explored(3, (20,))
    codes = encoder(images[:10]).mean()
    np.testing.assert_allclose(data_of(shown)["examples"]["codes"], codes, atol=1e-4)
    given = np.float32(0.9999 * images[50:53] / 255)
    shown = latent_explorer(encoder, decoder, standard_normal(3), images[:200], given)
    examples = data_of(shown)["examples"]
    np.testing.assert_allclose(examples["codes"], encoder(images[50:53]).mean(), atol=1e-3)
    stored = np.frombuffer(base64.b64decode(examples["images"]), np.uint8)
    np.testing.assert_array_equal(stored.reshape(3, 28, 28, 1), images[50:53])


def test_the_sliders_reach_the_prior_and_all_codes(images):
    encoder, decoder, shown = explore(images, 3, (20,))
    assert data_of(shown)["bound"] == 3
    prior = tfd.Normal([0.0, -5.0, 1.0], 2.0)
    assert data_of(latent_explorer(encoder, decoder, prior, images[:9]))["bound"] == 11
    for weights in encoder.trainable_variables:
        weights.assign(10 * weights)
    shown = latent_explorer(encoder, decoder, prior, images[:9])
    assert data_of(shown)["bound"] == np.ceil(np.abs(encoder(images[:9]).mean()).max()) > 11


def test_the_still_picture_is_what_the_decoder_makes(images, monkeypatch):
    monkeypatch.setattr(latents, "Page", lambda name, data, figure, description: (data, figure))
    encoder, decoder, (data, figure) = explore(images)
    code = encoder(images[:1]).mean().numpy()
    first, second, *others = [latent["index"] for latent in data["latents"]]
    z = plane(data["bound"] * (2 * np.arange(9) - 8) / 9, 10, [first, second])
    z[:, others] = code[:, others]
    image, pad, _ = figure.axes
    for axis, known in ((image, decoder(code).mean()[0]), (pad, tile(decoder(z).mean(), 9))):
        np.testing.assert_allclose(axis.images[0].get_array(), np.squeeze(known), atol=1e-6)
        assert axis.images[0].origin == "upper" and axis.yaxis.get_inverted()
    assert pad.lines[0].get_xydata()[0] == pytest.approx(code[0, [first, second]])


def test_the_still_picture_of_the_bound_has_its_numbers(monkeypatch):
    monkeypatch.setattr(bound, "Page", lambda name, data, figure, description: figure)
    landscape, _, cut = bound_explorer(**OTHER, q_mean=0.4, q_scale=0.7).axes
    star, dot = (line.get_xydata()[0] for line in landscape.lines)
    assert closed_forms(star, **OTHER)[3] == pytest.approx(0) and dot == pytest.approx([0.4, 0.7])
    *_, elbo, _, evidence = closed_forms(dot, **OTHER)
    assert cut.lines[0].get_ydata()[0] == pytest.approx(evidence)
    assert cut.lines[-1].get_xydata()[0] == pytest.approx([0.4, elbo])


@pytest.mark.parametrize(
    ("hidden_sizes", "latent_size", "shape"),
    [([], 1, (1, 1, 1)), ([4, 3, 2], 14, (64, 2, 1))],
)
def test_a_model_of_any_size_has_its_page(make_model, hidden_sizes, latent_size, shape):
    model = make_model(latent_size, hidden_sizes, shape)
    shown = latent_explorer(*model, np.full([2, *shape], 0.5))
    assert f"{latent_size} latents, images of {shape[0]} by {shape[1]} pixels" in repr(shown)


class Doubled(Decoder):
    def __call__(self, z):
        return super().__call__(2 * z)


MNIST, COLORED = [28, 28, 1], np.zeros([2, 28, 28, 3], np.uint8)
BAD_MODELS = [
    ({"images": np.zeros([3, 28, 28], np.uint8)}, "images must"),
    ({"examples": np.full([1, 28, 28, 1], 3.0)}, "examples must"),
    ({"examples": COLORED}, r"gray images .* and \[28, 28, 3\]"),
    ({"decoder": Encoder([8], 3)}, "decoder must be a vae_helpers Decoder itself, got .*Encoder"),
    ({"decoder": Doubled([8], MNIST)}, "decoder must be .* itself, got .*Doubled"),
    ({"decoder": Decoder([8], MNIST, activation=tf.nn.softsign)}, "activation of .*softsign"),
    ({"decoder": Decoder([8], [28, 28, 3]), "images": COLORED}, r"gray images .*got \[28, 28, 3\]"),
    ({"decoder": Decoder([8], [14, 28, 1])}, r"of one size, got \[14, 28, 1\] and"),
    (
        {"decoder": Decoder([8], MNIST, likelihood=tfd.ContinuousBernoulli)},
        "decoder must have a tfd.Bernoulli as its likelihood, got ContinuousBernoulli",
    ),
    ({"prior": tfd.Laplace(tf.zeros(3), 1.0)}, r"prior must be a .*tfd.Normal .*got .*Laplace"),
    ({"prior": standard_normal(4)}, r"prior must .* of shape \[3\], got .*batch_shape=\[4\]"),
    ({"prior": tfd.Normal(np.zeros(3), np.ones(3))}, "prior must be a float32 .*dtype=float64"),
    ({"encoder": Encoder([8], 3, scale_fn=lambda u: 1e30 + u)}, "must have a finite KL"),
]


@pytest.mark.parametrize(("changed", "message"), BAD_MODELS, ids=lambda value: str(value)[:40])
def test_a_model_that_the_page_cannot_carry_is_named(images, make_model, changed, message):
    encoder, decoder, prior = make_model(3, [8], MNIST)
    valid = {"encoder": encoder, "decoder": decoder, "prior": prior, "images": images[:20]}
    with pytest.raises(ValueError, match=message):
        latent_explorer(**valid | changed)


@pytest.mark.parametrize("index", [0, 1], ids=["encoder", "decoder"])
def test_weights_that_are_not_finite_are_named(images, index):
    *networks, _ = explore(images, 3, (20,))
    networks[index].trainable_variables[-1].assign(networks[index].trainable_variables[-1] * np.nan)
    with pytest.raises(ValueError, match=f"{['encoder', 'decoder'][index]} .*must have .*finite"):
        latent_explorer(*networks, standard_normal(3), images[:20])


@pytest.mark.parametrize("name", [*MODEL, *GUESS])
def test_a_bad_number_of_the_bound_is_named(name):
    for value in (None, "1", [1.0], np.nan, np.inf, *([0, -1.0] if "scale" in name else [])):
        with pytest.raises(ValueError, match=f"{name} must be a finite number"):
            bound_explorer(**MODEL | GUESS | {name: value})


# What it does in a browser.


@pytest.fixture
def show(open_page):
    """Opens HTML, or an explorer by itself."""

    def show(shown, **options):
        text = shown if isinstance(shown, str) else bundle(shown)["text/html"]
        answer = {"body": HEAD + text, "content_type": "text/html"}
        opened = open_page(lambda address: None if address else answer, width=1000, **options)
        return opened, opened.locator("[data-page]")

    return show


def state(host) -> np.ndarray:
    return np.array(host.evaluate("(host) => host.page.z ?? host.page.q"))


def probabilities(canvas, corner=(0, 0)) -> np.ndarray:
    """Reads an image from a canvas: the darker, the more ink."""
    colors = np.fromstring(canvas.evaluate(PIXELS, list(corner)), sep=",").reshape(-1, 4)[:, :3]
    assert (np.ptp(colors, axis=1) == 0).all()
    return 1 - colors[:, 0] / 255


def numbers(opened) -> list[float]:
    """Reads the table of the bound."""
    texts = opened.locator("[data-term]").all_inner_texts()
    return [float(text.removesuffix(" nats").replace("−", "-")) for text in texts]


@pytest.mark.slow
def test_the_canvas_is_what_tensorflow_decodes(explored, show):
    _, decoder, shown = explored()
    opened, host = show(shown)
    image, measure = opened.locator(".image"), opened.locator(".measure")
    codes = np.random.default_rng(1).standard_normal([20, 10]).astype(np.float32)
    expected = decoder(codes).mean().numpy().reshape(20, -1)
    assert expected.min() < 0.05 and expected.max() > 0.95
    for code, pixels in zip(codes.tolist(), expected, strict=True):
        host.evaluate("(host, code) => host.page.move(code)", code)
        opened.evaluate(FRAME)
        assert abs(probabilities(image) - pixels).max() < 4 / 255
        gray = ((pixels > 0.25) & (pixels < 0.75)).sum()
        said = re.fullmatch(r"(\d+) gray pixels of 784", measure.inner_text())[1]
        assert abs(int(said) - gray) <= 5 and gray < 700

    opened.wait_for_timeout(500)  # the tiles are drawn in what is left of the frames
    z, limit = np.tile(codes[-1], [2, 1]), data_of(shown)["bound"]
    plane = [latent["index"] for latent in data_of(shown)["latents"][:2]]
    z[0, plane] = -limit * 8 / 9  # the tile at the top left
    z[1, plane] = limit * 4 / 9, -limit * 2 / 9  # column 6, row 3
    seen = [probabilities(opened.locator(".tiles"), corner) for corner in ([0, 0], [168, 84])]
    assert abs(seen - decoder(z).mean().numpy().reshape(2, -1)).max() < 4 / 255


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "hidden_sizes", "scale"),
    [(name, (20, 30), 2) for name in latents._ACTIVATIONS] + [("relu", (), 1e5)],
)
def test_every_activation_and_precision_decodes_alike(
    explored, show, activation, hidden_sizes, scale
):
    options = {"activation": getattr(tf.nn, activation), "scale": scale}
    _, decoder, shown = explored(3, hidden_sizes, **options)
    assert data_of(shown)["decoder"]["half"] == (scale == 2)  # elsewhere it is too coarse
    codes = 3 * np.random.default_rng(1).standard_normal([100, 3]).astype(np.float32)
    _, host = show(shown)
    decoded = np.fromstring(host.evaluate(DECODED, codes.tolist()), sep=",")
    assert abs(decoded - decoder(codes).mean().numpy().ravel()).max() < 2 / 255


@pytest.mark.slow
def test_sliders_move_their_latent(explored, show):
    *_, shown = explored()
    opened, host = show(shown)
    expected, limit = state(host), data_of(shown)["bound"]
    for latent in data_of(shown)["latents"][::4]:
        name = f"latent {latent['index']}, KL {latent['kl']:.2f} nats"
        slider = opened.get_by_role("slider", name=name, exact=True)
        for key, part in (("End", 1), ("ArrowLeft", 59 / 60), ("Home", -1)):
            slider.press(key)
            expected[latent["index"]] = part * limit
            np.testing.assert_allclose(state(host), expected, atol=1e-6)
        opened.evaluate(FRAME)
        assert slider.get_attribute("aria-valuetext") == f"−{limit:.2f}"


@pytest.mark.slow
def test_buttons_set_the_codes_that_they_name(show, images):
    prior = tfd.Normal(loc=tf.constant([2.0, 0, 0]), scale=tf.constant([0.5, 1, 1]))
    encoder, _, shown = explore(images, 3, (20,), prior)
    opened, host = show(shown)
    codes, status = encoder(images[:10]).mean().numpy(), opened.get_by_role("status")
    np.testing.assert_allclose(state(host), codes[0], atol=1e-4)  # where it starts
    assert status.inner_text() == ""
    for name, said, code in [
        ("Set all to 0", "All latents at 0", [0, 0, 0]),
        ("Test image 10", "The code of test image 10", codes[9]),
        ("Test image 3", "The code of test image 3", codes[2]),
    ]:
        opened.get_by_role("button", name=name, exact=True).press("Enter")
        np.testing.assert_allclose(state(host), code, atol=1e-4)
        assert status.inner_text().startswith(f"{said}: ")
    draws = opened.get_by_role("button", name="Sample from the prior").evaluate(
        "e => Array.from({length: 2000}, () => { e.click(); return e.getRootNode().host.page.z; })"
    )
    np.testing.assert_allclose(np.mean(draws, axis=0), prior.loc, atol=5 / 2000**0.5)
    np.testing.assert_allclose(np.std(draws, axis=0), prior.scale, atol=5 / 2000**0.5)


@pytest.mark.slow
def test_the_pad_moves_the_two_most_used_by_mouse_and_keys(explored, show):
    *_, shown = explored()
    opened, host = show(shown)
    first, second = (latent["index"] for latent in data_of(shown)["latents"][:2])
    expected, limit = state(host), data_of(shown)["bound"]
    pad = opened.get_by_role("application")
    width = pad.bounding_box()["width"]
    middle, corner = ({"x": x * width, "y": y * width} for x, y in ((0.5, 0.5), (0.75, 0.25)))
    pad.drag_to(pad, source_position=middle, target_position=corner)
    opened.mouse.move(0, 0)
    expected[[first, second]] = limit / 2, -limit / 2
    np.testing.assert_allclose(state(host), expected, atol=limit / 60)

    key = "new KeyboardEvent('keydown', { key: 'ArrowUp', cancelable: true })"
    assert not pad.evaluate(f"(pad) => pad.dispatchEvent({key})"), "the page would scroll"
    moves = {"ArrowRight": (1, 0), "ArrowDown": (0, 1), "ArrowLeft": (-1, 0), "ArrowUp": (0, -1)}
    for key, way in (moves | {"Shift+ArrowDown": (0, 5)}).items():
        before = state(host)
        pad.press(key)
        moved = (state(host) - before)[[first, second]]
        np.testing.assert_allclose(moved, np.multiply(way, limit / 30), atol=1e-5)
    for _ in range(12):
        pad.press("Shift+ArrowDown")
    opened.evaluate(FRAME)
    assert state(host)[second] == limit
    assert f"latent {second}: {limit:.2f}" in pad.get_attribute("aria-label")
    assert opened.locator(".knob").evaluate("knob => knob.style.top") == "100%"


@pytest.mark.slow
def test_one_latent_has_a_pad_of_one_row_and_many_stay_usable(explored, show):
    *_, shown = explored(1, (20,))
    opened, host = show(shown)
    pad, before = opened.get_by_role("application"), state(host)
    pad.press("ArrowDown")
    assert state(host) == before
    pad.press("ArrowRight")
    np.testing.assert_allclose(state(host) - before, data_of(shown)["bound"] / 30, atol=1e-5)
    assert opened.get_by_role("slider").count() == 1 and opened.locator(".down").count() == 0

    opened, _ = show(explored(64, (20,))[2])
    assert opened.get_by_role("slider").count() == 12
    opened.get_by_text("52 more, less used").press("Enter")
    assert opened.get_by_role("slider").count() == 64


@pytest.mark.slow
def test_both_fit_a_phone_and_take_the_color_of_the_text(explored, show):
    pages = [explored(20, (20,))[2], bound_explorer(**MODEL, **GUESS)]
    opened, _ = show("<body>" + "".join(bundle(shown)["text/html"] for shown in pages))
    heights = "all => all.filter(e => e.checkVisibility()).map(e => e.offsetHeight)"
    for width, color in ((1280, "rgb(20, 20, 20)"), (360, "rgb(230, 230, 230)")):
        opened.set_viewport_size({"width": width, "height": 800})
        opened.evaluate("color => { document.body.style.color = color; }", color)
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        for part in ("button", ".slider", "td", "text"):
            colors = "all => all.map(e => getComputedStyle(e).color)"
            assert set(opened.locator(part).evaluate_all(colors)) == {color}
        # Large enough for a finger.
        assert min(opened.locator("button, .slider, .pad").evaluate_all(heights)) >= 24


@pytest.mark.slow
def test_explorers_on_one_page_live_by_themselves(explored, show, images):
    """Two, and a third with the same bytes as the first, beside a loader of modules."""
    encoder, decoder, shown = explored(3, (20,))
    other = latent_explorer(encoder, decoder, standard_normal(3), images[:300])
    loader = "<script>window.define = () => { throw Error('called') }; define.amd = {}</script>"
    text = loader + "".join(bundle(page)["text/html"] for page in (shown, other, shown))
    _, hosts = show(text)
    before = [state(host) for host in hosts.all()]
    hosts.nth(1).get_by_role("slider").first.press("End")
    after = [state(host) for host in hosts.all()]
    assert [(a == b).all() for a, b in zip(after, before, strict=True)] == [True, False, True]
    assert not any(host.locator("img").is_visible() for host in hosts.all())


@pytest.mark.slow
def test_buttons_work_in_a_frame_like_colabs(explored, show):
    """An output of its own origin, that may run scripts and nothing else."""
    inner = html.escape(HEAD + bundle(explored(3, (20,))[2])["text/html"])
    opened, _ = show(f'<iframe sandbox="allow-scripts" width="900" srcdoc="{inner}"></iframe>')
    frame = opened.frame_locator("iframe")
    frame.get_by_role("button", name="Set all to 0").click()
    assert (state(frame.locator("[data-page]")) == 0).all()


@pytest.mark.slow
def test_sliders_and_keys_work_where_a_script_adds_them_as_jupyterlab_does(explored, show):
    """JupyterLab sets the HTML first, then puts a copy in place of each script."""
    opened, _ = show("<body></body>")
    opened.evaluate(
        """(text) => {
            const output = document.createElement("div");
            output.innerHTML = text;
            const copy = document.createElement("script");
            copy.textContent = output.querySelector("script").textContent;
            output.querySelector("script").replaceWith(copy);
            document.body.append(output);
        }""",
        bundle(explored(3, (20,))[2])["text/html"],
    )
    assert opened.get_by_role("slider").count() == 3
    # Its shortcuts listen further out: the arrows are ours, Ctrl+F8 is not.
    opened.evaluate("addEventListener('keydown', (event) => (window.heard = event.key))")
    opened.get_by_role("slider").first.press("ArrowDown")
    assert opened.evaluate("window.heard") is None
    opened.get_by_role("slider").first.press("Control+F8")
    assert opened.evaluate("window.heard") == "F8"


@pytest.mark.slow
def test_without_scripts_the_picture_is_seen(explored, show):
    opened, _ = show(explored(3, (20,))[2], java_script_enabled=False)
    picture = opened.locator("img")
    assert picture.is_visible() and picture.bounding_box()["width"] >= 640
    assert opened.locator("body").inner_text().strip() == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "posterior"), [(MODEL, (1.2, 0.1**0.5)), (OTHER, (2.1 / 2.18, 1.3 / 2.18**0.5))]
)
def test_the_numbers_of_the_bound_are_tfps_wherever_q_is_moved(show, model, posterior):
    shown = bound_explorer(**model, **GUESS)
    opened, host = show(shown)
    (low, high), (bottom, top) = data_of(shown)["means"], data_of(shown)["scales"]
    for control, key, q in [
        ("[aria-label='mean m of q']", "End", (high, 0.5)),
        ("[aria-label='scale σ of q']", "Home", (high, bottom)),
        ("[data-to=prior]", "Enter", (0, 1)),
        ("[data-to=posterior]", "Enter", posterior),
        ("[data-to=guess]", "Enter", (1.6, 0.5)),
        (".pad", "ArrowDown", (1.6, 0.5 - (top - bottom) / 60)),
    ]:
        opened.locator(control).press(key)
        opened.evaluate(FRAME)
        assert state(host) == pytest.approx(q)
        assert numbers(opened) == pytest.approx(closed_forms(q, **model), abs=6e-5)
    assert opened.get_by_role("status").inner_text().startswith("Our guess: the gap is ")
    pad = opened.get_by_role("application")
    box = pad.bounding_box()
    pad.click(position={"x": 0.25 * box["width"], "y": 0.25 * box["height"]})
    q = low + 0.25 * (high - low), top - 0.25 * (top - bottom)
    assert state(host) == pytest.approx(q, abs=0.02)


@pytest.mark.slow
def test_the_drawings_of_the_bound_agree_with_its_numbers(show):
    """The dot hangs below the ceiling by the gap, and the line of 1 nat is where the gap is 1."""
    shown = bound_explorer(**MODEL, **GUESS)
    opened, _ = show(shown)
    opened.evaluate(FRAME)
    box = "(shape) => { const b = shape.getBBox(); return [b.x, b.y, b.width, b.height]; }"
    parts = ".slice rect.axis", ".slice .ceiling", ".slice circle", ".landscape rect.axis"
    axis, ceiling, dot, area = (opened.locator(part).evaluate(box) for part in parts)
    line = opened.locator(".contour").nth(1).evaluate(box)
    fallen = (dot[1] + dot[3] / 2 - ceiling[1]) * 6.7 / axis[3]
    assert fallen == pytest.approx(closed_forms((1.6, 0.5), **MODEL)[3], abs=0.01)
    # Its rightmost point is where the posterior's scale is ours.
    low, high = data_of(shown)["means"]
    right = low + (line[0] + line[2] - area[0]) / area[2] * (high - low)
    assert closed_forms((right, 0.1**0.5), **MODEL)[3] == pytest.approx(1, abs=0.01)
