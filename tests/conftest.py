"""Data and models that several tests share.

TensorFlow is loaded by who uses it: the process that hands out the tests needs none.
"""

import os
import re
import shutil
import sys

os.environ["MPLBACKEND"] = "agg"

import pytest


@pytest.fixture(autouse=True)
def unseeded():
    """Leaves TensorFlow without a seed: new weights would be drawn from one that is set."""
    yield
    if tf := sys.modules.get("tensorflow"):
        tf.random.set_seed(None)


@pytest.fixture(scope="session")
def images():
    """The 10,000 test images of MNIST, uint8."""
    from vae_helpers.data import load_images

    return load_images("mnist", "test")[0]


@pytest.fixture(scope="session")
def small_images(images):
    """2,000 of them at 7 by 7 pixels."""
    return images[:2000, ::4, ::4]


SITE = "http://page.example/"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="session")
def browser():
    """A Chromium without a window; what needs one is skipped where there is none."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser to look with: none of {', '.join(BROWSERS)} is on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens pages; fails on a script's error, and on a request for what is not there."""
    pages, faults = [], []

    def open_page(answer, address="", width=1280, height=900, **options):
        """Opens an address of a site.

        `answer` takes an address, relative to the site or of elsewhere, and returns what
        Playwright is to fulfill the request with; None where nothing is.
        """

        def serve(route) -> None:
            asked = route.request.url.removeprefix(SITE)
            if found := answer(asked):
                route.fulfill(**found)
            else:
                faults.append(f"nothing at {asked[:200]}")
                route.abort()

        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        pages.append(page)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.route(re.compile("^(?!data:|blob:)"), serve)
        page.goto(SITE + address)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert faults == []


@pytest.fixture
def make_model():
    """Makes an encoder, a decoder and a prior of small sizes, without weights.

    Tests that train this model on uint8 images use the same program, which takes 3 s to compile.
    """
    from vae_helpers.models import Decoder, Encoder, standard_normal

    def make(latent_size: int = 2, hidden_sizes=(16,), output_shape=(7, 7, 1), **encoder_options):
        return (
            Encoder(hidden_sizes, latent_size, **encoder_options),
            Decoder(hidden_sizes, output_shape),
            standard_normal(latent_size),
        )

    return make
