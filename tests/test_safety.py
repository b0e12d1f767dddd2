"""What is run is what was meant: nothing unpickled, actions pinned, workflows that may do little."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAY = {"publish": {"pages": "write", "id-token": "write"}, "report": {"issues": "write"}}


def code():
    """Yields the code of the package, the commands and the notebooks."""
    for folder in ("vae_helpers", "notebooks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.name, path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                yield (
                    f"{path.name}, {cell.id}",
                    re.sub(r"^( *)!.*", r"\1pass", cell.source, flags=re.MULTILINE),
                )


def test_nothing_is_unpickled_or_evaluated():
    tried = 0
    for place, source in code():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert not re.search(r"(pickle|joblib|dill|marshal)\.loads?$|^read_pickle", name), (
                    place
                )
                assert name not in ("eval", "exec"), place
                assert not {"allow_pickle", "shell"} & {k.arg for k in node.keywords}, place
                tried += 1
    assert tried > 1000


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_do_little_and_their_actions_are_pinned(path):
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("permissions", {}) == MAY.get(name, {}), name
    actions = re.findall(r"uses: (.*)", text)
    assert len(actions) == sum("uses" in s for j in workflow["jobs"].values() for s in j["steps"])
    for action in actions:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    # What someone else may write, as a branch's name or a title, is no part of a command.
    assert not re.search(r"run:.*\$\{\{ (?!matrix\.)", text)
