"""The drawing of the model is that of the stored model, and a page of any width shows it."""

import re
import xml.etree.ElementTree

import pytest
import schematic


@pytest.fixture(scope="module")
def drawn():
    return schematic.schematic()


def test_the_stored_drawing_is_what_its_command_draws(drawn):
    stored = (schematic.FILES / "schematic.svg").read_text("utf-8")
    xml.etree.ElementTree.fromstring(stored)
    pictures = re.compile(r"base64,[^\"]*")  # their bytes are those of a version of libpng
    assert pictures.sub("", drawn) == pictures.sub("", stored)
    assert len(pictures.findall(stored)) == 2


def test_the_stored_image_is_of_the_stored_drawing():
    svg, image = (
        (schematic.FILES / f"schematic.{kind}").read_text("utf-8") for kind in ("svg", "html")
    )
    assert image == schematic.as_image(svg)


def test_each_drawn_code_is_its_mean_plus_scale_times_noise(drawn):
    numbers = re.findall(r">([−\d.]+)</text>", drawn)
    values = [float(number.replace("−", "-")) for number in numbers]
    columns = [values[i : i + schematic.SHOWN] for i in range(0, len(values), schematic.SHOWN)]
    assert len(columns) == 4
    for m, s, noise, z in zip(*columns, strict=True):
        assert abs(m + s * noise - z) < 0.02
