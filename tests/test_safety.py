"""Nothing is run that was not meant to be: by a data file, a page, a cell or a workflow."""

import ast
import datetime
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from matplotlib.figure import Figure

from vae_helpers.explorers.page import Page

ROOT = Path(__file__).parent.parent
SCRIPTS = [
    p for folder in ("vae_helpers", "notebooks", "tests") for p in ROOT.glob(f"{folder}/**/*.py")
]
NOTEBOOKS = sorted(ROOT.glob("notebooks/**/[0-9]*.ipynb"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def sources(path: Path) -> list[str]:
    """Returns the Python of a file, a notebook's without its setup cell, and as IPython reads it."""
    if path.suffix == ".py":
        return [path.read_text(encoding="utf-8")]
    cells = nbformat.read(path, as_version=4).cells
    return [
        TransformerManager().transform_cell(cell.source)
        for cell in cells
        if cell.cell_type == "code" and "setup" not in cell.metadata.get("tags", [])
    ]


def unsafe(source: str) -> list[str]:
    """Finds what would run code that a file holds."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.append("allow_pickle")
        if isinstance(node, ast.ImportFrom) and node.module in PICKLES:
            found.append(node.module)
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            writes = name in ("pickle.dumps", "cloudpickle.dumps")
            if (ast.unparse(node.value) in PICKLES and not writes) or node.attr == "read_pickle":
                found.append(name)
            if name in ("torch.load", "yaml.load", "yaml.unsafe_load"):
                found.append(name)
    return found


@pytest.mark.parametrize(
    "path", [*SCRIPTS, *NOTEBOOKS], ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_no_file_is_loaded_that_could_run_code(path):
    assert [found for source in sources(path) for found in unsafe(source)] == []


@pytest.mark.parametrize(
    "source",
    [
        "np.load(path, allow_pickle=True)",
        "pickle.load(file)",
        "from pickle import loads",
        "pd.read_pickle(path)",
        "joblib.load(path)",
        "yaml.load(text)",
    ],
)
def test_what_could_run_code_would_be_found(source):
    assert unsafe(source)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_only_the_setup_cell_installs(path):
    """No shell, no installer and no download elsewhere; IPython's magics are calls here, too."""
    calls = r"get_ipython\(\)|os\.system|shell=True|\bpip\b|urllib|requests\."
    known = (
        '"-m", "pip", "install", "--quiet", f"distributed=={version}"'  # 08, where Colab has none
    )
    text = "\n".join(sources(path)).replace(known, "")
    assert re.findall(calls, text) == []


class Elements(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_a_page_escapes_what_it_is_given():
    hostile = "\"><img src=x onerror=alert(1)><!-- </script><script>alert('2')</script> & '"
    data = {hostile: hostile, "list": [hostile]}
    page = Page("latents", data, Figure(), hostile)._repr_mimebundle_()["text/html"]
    tags = Elements(page).found
    assert [tag for tag, _ in tags] == ["div", "img", "script"]
    assert tags[1][1]["alt"] == hostile and set(tags[1][1]) == {"src", "alt", "style"}
    assert "<img src=x" not in page and page.count("</script>") == 1


def test_scripts_write_markup_of_ours_alone():
    """The one place that takes HTML takes the file beside the script; the rest sets text."""
    for path in (ROOT / "vae_helpers" / "web").glob("*.js"):
        script = path.read_text(encoding="utf-8")
        assert re.findall(
            r".*(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\().*", script
        ) == (["    page.innerHTML = markup;"] if path.name == "page.js" else [])


def workflows():
    return [(path, yaml.safe_load(path.read_text(encoding="utf-8"))) for path in WORKFLOWS]


def test_each_job_says_what_it_may_and_it_is_the_least():
    may = {}
    for path, workflow in workflows():
        assert workflow["permissions"] == {}, path
        # YAML 1.1 reads the key `on` as true.
        assert not {"pull_request_target", "workflow_run"} & set(workflow[True])
        may |= {f"{path.stem} {name}": job["permissions"] for name, job in workflow["jobs"].items()}
    assert may.pop("book publish") == {"pages": "write", "id-token": "write"}
    assert may.pop("weekly report") == {"issues": "write"}
    assert may and all(rights == {"contents": "read"} for rights in may.values())


def test_actions_are_pinned_and_leave_no_token_behind():
    for path, workflow in workflows():
        steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
        for step in steps:
            assert "${{ github.event" not in step.get("run", "")
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
        lines = re.findall(r"uses: .*", path.read_text(encoding="utf-8"))
        assert all(re.search(r" # v\d+\.\d+\.\d+$", line) for line in lines), (
            "the version beside it"
        )


def test_every_requirement_is_one_version():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if not line.startswith(("#", " "))]
    assert len(pinned) > 100
    assert [line for line in pinned if not re.match(r"[A-Za-z0-9._-]+==[^\s=]+( |$)", line)] == []


def test_a_waiver_has_a_day_and_a_reason():
    """`make audit` reads the first two."""
    lines = (ROOT / "tests" / "audit-waivers.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if not line.startswith("#"):
            _, day, _ = line.split(maxsplit=2)
            datetime.date.fromisoformat(day)


def test_every_target_of_the_weekly_run_exists():
    """And what is there to be looked at is looked at."""
    ((_, weekly),) = [item for item in workflows() if item[0].stem == "weekly"]
    targets = {entry["target"] for entry in weekly["jobs"]["test"]["strategy"]["matrix"]["include"]}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)
    assert {"audit", "links"} <= targets


@pytest.mark.parametrize("category", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
def test_what_our_own_code_should_no_longer_do_is_an_error(category):
    with pytest.raises(category):
        warnings.warn_explicit("old", category, "data.py", 1, module="vae_helpers.data")
