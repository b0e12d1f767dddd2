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
    "some 15 MB each": ("vae_helpers/training.py", "gives back some 10 of its 25 MB"),
    "a table over 50 seeds": ("tests/PUBLISHED_RUN.md", "^# The published run among 50 of ours$"),
    "tries 62 sets": ("Makefile", "^test-reruns:.* 62 sets"),  # test_reruns.py counts them
    "Apache License 2.0": ("pyproject.toml", '^license = "Apache-2.0"$'),
    "Attribution-Share Alike 3.0": (
        "vae_helpers/files/tfds/mnist/README.md",
        r"Attribution-Share Alike 3\.0",
    ),
    "25 October 2019": "of the post",
}

NAMES = [path.relative_to(prose.FOLDER).with_suffix("").as_posix() for path in prose.PATHS]


def parametrize():
    return pytest.mark.parametrize("path", prose.PATHS, ids=NAMES)


def read(path):
    return nbformat.read(path, as_version=4)


def loose(notebook, path):
    return {(f.cell, f.start) for f in prose.find(notebook, path) if not f.kind}


def other_digits(text):
    return re.sub(r"\d", lambda digit: str((int(digit[0]) + 5) % 10), text)


@parametrize()
def test_every_number_is_held(path):
    found = prose.find(read(path), path)
    assert found
    print(*(f"{f.cell}: {f.text} by {f.kind} {f.holder}" for f in found), sep="\n")
    assert [f"{f.cell}: {f.context}" for f in found if not f.kind] == []


def test_what_is_held_by_hand_is_there():
    by_hand = {
        (name, f.cell, f.text)
        for name, path in zip(NAMES, prose.PATHS, strict=True)
        for f in prose.find(read(path), path)
        if f.kind == "by hand"
    }
    assert by_hand == {(*key, text) for key, texts in prose.BY_HAND.items() for text in texts}


def test_every_number_of_the_readme_is_held():
    """But for times, which are those of one machine."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = prose.blank(re.compile(r"```.*?```|`[^`\n]*`", flags=re.DOTALL), text)
    found = [match for match, _ in prose.spoken(text)]
    found += re.finditer(r"\d+(?:\.\d+)? [GM]B\b", code)
    places = {said: [m.span() for m in re.finditer(re.escape(said), text)] for said in README}
    spans = [span for where in places.values() for span in where]
    loose = [m for m in found if not any(a <= m.start() and m.end() <= b for a, b in spans)]
    assert [text[max(0, m.start() - 30) : m.end() + 30] for m in loose] == []
    assert [said for said, where in places.items() if not where] == []
    for said, holder in README.items():
        if isinstance(holder, tuple):
            held = (ROOT / holder[0]).read_text(encoding="utf-8")
            assert re.search(holder[1], held, flags=re.MULTILINE), (said, holder[0])


def results(notebook, path):
    """Returns the results of two digits or more by where they stand; one digit is easily met."""
    found = prose.find(notebook, path)
    kinds = ("output", "guard", "arithmetic")
    return {(f.cell, f.start): f for f in found if f.kind in kinds and prose.value(f.text)[2] > 1}


@pytest.mark.slow
def test_doctored_sentences_are_noticed():
    """Every third result with another last digit: but for some that another number then holds."""
    tried = noticed = 0
    for path in prose.PATHS:
        notebook, before = read(path), (tried, noticed)
        cells = {cell.id: cell for cell in notebook.cells}
        for place, f in [*results(notebook, path).items()][::3]:
            cell, source = cells[f.cell], cells[f.cell].source
            last = f.start + len(f.text.rstrip("}")) - 1
            cell.source = source[:last] + other_digits(source[last]) + source[last + 1 :]
            noticed += place in loose(notebook, path)
            tried += 1
            cell.source = source
        print(f"{path.name}: {noticed - before[1]} of {tried - before[0]} noticed")
    assert tried > 50 and noticed > 0.85 * tried


def test_doctored_outputs_are_noticed():
    """All digits of the stored texts change: they no longer hold what they held."""
    tried = noticed = 0
    for path in prose.PATHS:
        notebook = read(path)
        held = {place for place, f in results(notebook, path).items() if f.kind == "output"}
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                for texts in (output, output.get("data", {})):
                    for kind in {"text", "text/plain", "text/markdown"} & set(texts):
                        texts[kind] = other_digits(texts[kind])
        kept = {place for place, f in results(notebook, path).items() if f.kind == "output"}
        print(f"{path.name}: {len(held - kept)} of {len(held)} noticed")
        assert held - kept or not held
        tried, noticed = tried + len(held), noticed + len(held - kept)
    assert tried > 100 and noticed > 0.85 * tried
