"""Nothing is run that was not meant to be: by a page, a cell or a workflow.

That no data file is loaded which could run code, and no shell is started, is ruff's to see.
"""

from vae_helpers.explorers.page import Page

import re
from pathlib import Path

import nbformat
import pytest
import yaml
from matplotlib.figure import Figure
from paths import notebooks

ROOT = Path(__file__).parent.parent
NOTEBOOKS = notebooks()
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in ROOT.glob(".github/workflows/*.yml")
}
JOBS = {
    f"{name} {job}": steps
    for name, workflow in WORKFLOWS.items()
    for job, steps in workflow["jobs"].items()
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_only_the_setup_cell_installs(path):
    """No shell, no magic, no installer and no download elsewhere."""
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    text = "\n".join(c.source for c in code if "setup" not in c.metadata.get("tags", []))
    # 08, where Colab has none
    text = text.replace("    !pip install --quiet {wanted}\n", "")
    assert re.findall(r"^\s*[!%]|\bpip\b|urllib|requests\.", text, flags=re.MULTILINE) == []


def test_a_page_escapes_what_it_is_given():
    hostile = "\"><img src=x onerror=alert(1)><!-- </script><script>alert('2')</script> & '"
    page = Page("latents", {hostile: [hostile]}, Figure(), hostile)
    html = page._repr_mimebundle_()["text/html"]
    tags = re.findall(r"<(?:/?\w|!)[^\s>]*", html)
    assert tags == ["<div", "<img", "</div", "<script", "</script"]
    assert 'alt="&quot;&gt;&lt;img src=x' in html


def test_scripts_write_markup_of_ours_alone():
    """The one place that takes HTML takes the file beside the script; the rest sets text."""
    scripts = sorted((ROOT / "vae_helpers" / "explorers").glob("*.js"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in scripts)
    found = re.findall(
        r".*(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\().*", text
    )
    assert found == ["    page.innerHTML = markup;"]


def test_each_job_says_what_it_may_and_it_is_the_least():
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {}
        # YAML 1.1 reads the key `on` as true.
        assert not {"pull_request_target", "workflow_run"} & set(workflow[True])
    may = {name: job["permissions"] for name, job in JOBS.items()}
    assert may.pop("book publish") == {"pages": "write", "id-token": "write"}
    assert may.pop("weekly report") == {"issues": "write"}
    offers = {"contents": "write", "pull-requests": "write"}
    assert may.pop("address write") == may.pop("weekly offer") == offers
    assert may and all(rights == {"contents": "read"} for rights in may.values())


def test_actions_are_pinned_and_leave_no_token_behind():
    for step in [step for job in JOBS.values() for step in job["steps"]]:
        assert set(re.findall(r"\$\{\{ *(\w+)", step.get("run", ""))) <= {"matrix"}
        action = step.get("uses", "actions/none@" + 40 * "0")
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action)
        assert "checkout" not in action or step["with"]["persist-credentials"] is False


def test_every_requirement_is_one_version():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if not line.startswith(("#", " "))]
    assert len(pinned) > 100
    assert [line for line in pinned if not re.match(r"[A-Za-z0-9._-]+==[^\s=]+( |$)", line)] == []
