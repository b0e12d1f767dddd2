"""Numbers in prose that speak of results are held by what the notebooks print or guard."""

import re

import nbformat
import prose
import pytest

ROOT = prose.FOLDER.parent
# What README.md says in numbers, and the file that holds it, or why it is no result.
README = {
    "Sonnet 2": ("pyproject.toml", r'"dm-sonnet>=2\.'),
    "Python 3.11, 3.12 or 3.13": ("Makefile", r"Python 3\.11, 3\.12 or 3\.13 is needed"),
    "a scale of 0": "what notebook 02 asks",
    "less than 1.4 GB": ("Makefile", r"^refresh:.*\n.* --memory 1\.4$"),
    "below 1.4 GB": ("Makefile", r"^refresh:.*\n.* --memory 1\.4$"),
    "3 GB in all": ("notebooks/08_scaling_out.ipynb", "take 3 GB of memory, more than Binder"),
    "a table over 50 seeds": ("tools/PUBLISHED_RUN.md", "^# The published run among 50 of ours$"),
    "tries 62 sets": ("Makefile", "^test-reruns:.* 62 sets"),  # test_reruns.py counts them
    "Apache License 2.0": ("pyproject.toml", '^license = "Apache-2.0"$'),
    "Attribution-Share Alike 3.0": (
        "vae_helpers/files/tfds/mnist/README.md",
        r"Attribution-Share Alike 3\.0",
    ),
    "25 October 2019": "of the post",
}


def find(path, notebook=None):
    return prose.find(notebook or nbformat.read(path, as_version=4), path)


@pytest.mark.parametrize("path", prose.PATHS, ids=lambda path: path.parent.name + "-" + path.stem)
def test_every_number_is_held(path):
    found = find(path)
    assert found and [f"{f.cell}: {f.context}" for f in found if not f.kind] == []


def test_what_is_held_by_hand_is_there():
    by_hand = {
        (path.relative_to(prose.FOLDER).with_suffix("").as_posix(), f.cell, f.text)
        for path in prose.PATHS
        for f in find(path)
        if f.kind == "by hand"
    }
    assert by_hand == {(*key, text) for key, texts in prose.BY_HAND.items() for text in texts}


def test_every_number_of_the_readme_is_held():
    """But for times, which are those of one machine."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = prose.blank(re.compile(r"```.*?```|`[^`\n]*`", flags=re.DOTALL), text)
    found = [match for match, _ in prose.spoken(text)]
    found += re.finditer(r"\d+(?:\.\d+)? [GM]B\b", code)
    spans = []
    for said, holder in README.items():
        assert said in text
        spans += [match.span() for match in re.finditer(re.escape(said), text)]
        if isinstance(holder, tuple):
            held = (ROOT / holder[0]).read_text(encoding="utf-8")
            assert re.search(holder[1], held, flags=re.MULTILINE), (said, holder[0])
    loose = [m for m in found if not any(a <= m.start() and m.end() <= b for a, b in spans)]
    assert [text[max(0, m.start() - 30) : m.end() + 30] for m in loose] == []


def other_digits(text):
    return re.sub(r"\d", lambda digit: str((int(digit[0]) + 5) % 10), text)


def held_by_outputs(path, notebook):
    """Returns the places of the results of two digits or more; one digit is easily met."""
    found = find(path, notebook)
    return {f[:3] for f in found if f.kind == "output" and prose.value(f.text)[2] > 1}


def test_doctored_outputs_are_noticed():
    """All digits of the stored texts change: they no longer hold what they held."""
    tried = noticed = 0
    for path in prose.PATHS:
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
