"""The scripts of the workflows that write, run in a clone: what is pushed, and asked for instead."""

import re
import subprocess
import sys
from pathlib import Path

import address
import colab_moved
import pytest
import yaml

ROOT = Path(__file__).parent.parent
FORK = "someone/their-fork"


def jobs(name: str) -> dict:
    return yaml.safe_load((ROOT / ".github/workflows" / f"{name}.yml").read_text())["jobs"]


def script(job: dict) -> str:
    """Returns the first script of a job."""
    return next(step["run"] for step in job["steps"] if "run" in step)


class Fork:
    """A clone of a copy, whose remote is a folder, and whose gh is a stub that notes its calls."""

    def __init__(self, folder: Path):
        self.clone, self.remote = folder / "clone", folder / "remote.git"
        self.calls, self.bin = folder / "calls", folder / "bin"
        names = ["Makefile", "tools/address.py", "tools/paths.py", "requirements.txt"]
        for path in [*address.files(ROOT), *(ROOT / name for name in names)]:
            target = self.clone / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            # Without pictures, or git would take seconds to pack them.
            target.write_bytes(re.sub(rb'"[A-Za-z0-9+/=\\n]{999,}"', b'""', path.read_bytes()))
        self.bin.mkdir()
        self.stub("gh", f'echo "$*" >> "{self.calls}"; [ "$2" = create ] || echo "$FOUND"')
        self.sh("""git init --quiet --initial-branch main && git add --all
            git -c user.name=a -c user.email=a@example.org commit --quiet --message "A fork"
            git clone --quiet --bare . ../remote.git && git remote add origin ../remote.git""")

    def stub(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def protect_main(self) -> None:
        hook = self.remote / "hooks" / "pre-receive"
        hook.write_text("#!/bin/sh\n! grep -q refs/heads/main\n")
        hook.chmod(0o755)

    def sh(self, text: str, **more: str) -> str:
        """Runs a script as a step of a workflow, and returns its output."""
        path = f"{self.bin}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        environment = {"PATH": path, "GITHUB_REPOSITORY": FORK, "GIT_CONFIG_GLOBAL": "/dev/null"}
        return subprocess.run(
            ["bash", "-e", "-c", text],
            check=True,
            cwd=self.clone,
            env=environment | {"GITHUB_OUTPUT": str(self.clone.parent / "output")} | more,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def output(self, text: str) -> dict[str, str]:
        """Runs a script as a step, and returns what it hands on."""
        file = self.clone.parent / "output"
        file.write_text("")
        self.sh(text)
        return dict(line.split("=", 1) for line in file.read_text().splitlines())

    def asked(self) -> list[str]:
        """Returns the calls of gh that open a pull request."""
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [call for call in calls if call.startswith("pr create")]

    def changed(self, branch: str) -> list[str]:
        """Returns the files that the commits of a branch of the remote change."""
        names = (
            f"git -C ../remote.git diff --name-only $(git rev-list --max-parents=0 HEAD) {branch}"
        )
        return self.sh(names).splitlines()


@pytest.fixture
def fork(tmp_path) -> Fork:
    return Fork(tmp_path)


@pytest.mark.parametrize("before", [address.UNSET, "upstream/vae-tutorial"])
def test_a_fork_takes_its_own_address_once(fork, before):
    check, write = jobs("address").values()
    address.write(fork.clone, before)
    fork.sh(
        "git -c user.name=a -c user.email=a@b commit -qam as-it-was || true; git push -q origin main"
    )
    assert fork.output(script(check)) == {"moved": "yes"}
    fork.sh("git checkout --quiet .")  # the other job has a checkout of its own
    fork.sh(script(write))
    fork.sh("git clone --quiet ../remote.git ../pushed")
    for path in address.files(fork.clone.parent / "pushed"):
        text = path.read_text(encoding="utf-8")
        assert before not in text and (FORK in text or path.name == "GLOSSARY.md")
    log = fork.sh("git -C ../remote.git log --format='%an %s' main").splitlines()
    assert log[0] == f"github-actions[bot] The address of this copy: {FORK}"
    assert fork.asked() == []
    assert fork.output(script(check)) == {}


def test_nothing_follows_where_the_address_is_its_own():
    check, write = jobs("address").values()
    place = [step.get("id") for step in check["steps"]].index("address")
    later = {step.get("if") for step in check["steps"][place + 1 :]}
    assert later == {"steps.address.outputs.moved"}
    assert write["needs"] == "check" and write["if"] == "needs.check.outputs.moved"


@pytest.mark.parametrize(("found", "opened"), [("", 1), ("{}", 0)])
def test_where_main_takes_no_push_one_pull_request_is_opened(fork, found, opened):
    fork.protect_main()
    fork.sh(script(jobs("address")["write"]), FOUND=found)
    assert fork.changed("main") == []
    assert {"README.md", "pyproject.toml"} < set(fork.changed(f"address/{FORK}"))
    asked = f"pr create --repo {FORK} --base main --head address/{FORK} --title"
    assert [call.startswith(asked) for call in fork.asked()] == [True] * opened


@pytest.mark.parametrize(("found", "opened"), [("", 1), ("{}", 0)])
def test_a_lock_that_changed_is_offered_and_no_other_file(fork, found, opened):
    lock, offer = jobs("weekly")["lock"], jobs("weekly")["offer"]
    fork.stub("make", "true")
    assert fork.output(script(lock)) == {"patch": ""}
    fork.stub("make", "echo new==1.0 >> requirements.txt; echo stray >> Makefile")
    patch = fork.output(script(lock))["patch"]
    fork.sh("git checkout --quiet .")
    fork.sh(script(offer), FOUND=found, PATCH=patch)
    assert fork.changed("lock") == ["requirements.txt"] and fork.changed("main") == []
    assert fork.sh("git -C ../remote.git show lock:requirements.txt").endswith("\nnew==1.0\n")
    asked = f"pr create --repo {FORK} --base main --head lock --title"
    assert [call.startswith(asked) for call in fork.asked()] == [True] * opened


def test_the_weekly_report_is_of_every_other_job():
    weekly = jobs("weekly")
    assert {*weekly.pop("report")["needs"]} == set(weekly)


@pytest.mark.parametrize(
    ("python", "packages", "said"),
    [
        ("3.13.15", {"tqdm": "9"}, ["as of 2026-01-02"]),
        ("3.14.1", {}, ["python 3.13 -> 3.14"]),
        ("3.13.1", {"numpy": "2.2.0"}, ["numpy 1.0 -> 2.2.0"]),
        ("3.13.1", {"tf-keras": None}, ["tf-keras 1.0 -> none"]),
    ],
)
def test_what_colab_has_moved_is_said(tmp_path, monkeypatch, capsys, python, packages, said):
    before = dict.fromkeys(colab_moved.OURS[1:], "1.0")
    assert set(before) < set(colab_moved.listed(colab_moved.IMAGE.read_text()))
    now = [f"{name.replace('-', '_')}=={v}" for name, v in (before | packages).items() if v]
    (tmp_path / "pip-freeze.txt").write_text("\n".join(["# A list", "a @ file:///a", *now, ""]))
    (tmp_path / "os-info.txt").write_text(f"Ubuntu 22.04.5 LTS\nPython {python}\n")
    image = tmp_path / "colab-2026-01-02.txt"
    image.write_text(
        "\n".join(["# (Python 3.13)", *(f"{name}=={v}" for name, v in before.items())])
    )
    monkeypatch.setattr(colab_moved, "IMAGE", image)
    monkeypatch.setattr("sys.argv", ["colab_moved.py", tmp_path.as_uri()])
    if "->" in said[0]:
        with pytest.raises(SystemExit, match="Colab has moved on"):
            colab_moved.main()
    else:
        colab_moved.main()
    assert capsys.readouterr().out.splitlines() == said


def test_lists_that_cannot_be_had_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["colab_moved.py", tmp_path.as_uri()])
    with pytest.raises(SystemExit, match="not to be had from file:"):
        colab_moved.main()
