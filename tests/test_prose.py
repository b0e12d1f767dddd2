"""Numbers in prose that speak of results are held by what the notebooks print or guard."""

import re

import nbformat
import paths
import prose
import pytest


def find(path, notebook=None):
    return prose.find(notebook or nbformat.read(path, as_version=4), path)


@pytest.mark.parametrize(
    "path", paths.notebooks(), ids=lambda path: path.parent.name + "-" + path.stem
)
def test_every_number_in_the_text_is_printed_or_guarded(path):
    found = find(path)
    unheld = [f"{f.cell}: {f.context}" for f in found if not f.kind]
    assert found and unheld == [], f"python tools/prose.py {path} shows what holds which"


def test_every_exception_made_by_hand_is_needed():
    by_hand = {
        (paths.name(path).removesuffix(".ipynb"), f.cell, f.text)
        for path in paths.notebooks()
        for f in find(path)
        if f.kind == "by hand"
    }
    assert by_hand == {(*key, text) for key, texts in prose.BY_HAND.items() for text in texts}


def other_digits(text):
    return re.sub(r"\d", lambda digit: str((int(digit[0]) + 5) % 10), text)


def held_by_outputs(path, notebook):
    """Returns the places of the results of two digits or more; one digit is easily met."""
    found = find(path, notebook)
    return {f[:3] for f in found if f.kind == "output" and prose.value(f.text)[2] > 1}


def test_doctored_outputs_are_noticed():
    """All digits of the stored texts change: they no longer hold what they held."""
    tried = noticed = 0
    for path in paths.notebooks():
        notebook = nbformat.read(path, as_version=4)
        held = held_by_outputs(path, notebook)
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                for texts in (output, output.get("data", {})):
                    for kind in {"text", "text/plain", "text/markdown"} & set(texts):
                        texts[kind] = other_digits(texts[kind])
        tried += len(held)
        noticed += len(held - held_by_outputs(path, notebook))
    assert tried > 100 and noticed > 0.85 * tried
