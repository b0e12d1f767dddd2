"""What can go wrong around the code goes wrong here: it is said, and nothing is lost or half-written.

Damaged data, disks that are full or can't be written to, interrupts, two at once, and kernels and
machines that are not as ours.
"""

import ast
import contextlib
import functools
import itertools
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest

from vae_helpers import data, training
from vae_helpers.data import load_images
from vae_helpers.evaluation import evaluate
from vae_helpers.training import train

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))
import address
import commands
import run

resource = pytest.importorskip("resource", reason="only a Unix limits the size of files")
TEST_FILE = "mnist-test.tfrecord-00000-of-00001"
TRAIN_FILE = "mnist-train.tfrecord-00000-of-00001"


# Data


@pytest.fixture
def copied_mnist(tmp_path, monkeypatch) -> Path:
    """The folder of MNIST's files, as links that a test replaces."""
    folder = tmp_path / "tfds" / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    for path in (data._EMBEDDED / "mnist" / "3.0.1").iterdir():
        (folder / path.name).symlink_to(path)
    monkeypatch.setattr(data, "_EMBEDDED", tmp_path / "tfds")
    return folder


def flipped(content: bytes) -> bytes:
    """Changes one bit, in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("name", [TEST_FILE, TRAIN_FILE, "features.json", "dataset_info.json"])
@pytest.mark.parametrize("change", [flipped, lambda c: c[:-1], lambda c: b"", None])
def test_a_damaged_data_file_is_said_and_never_read(copied_mnist, monkeypatch, name, change):
    import tensorflow_datasets as tfds

    path = copied_mnist / name
    content = path.read_bytes()
    path.unlink()
    if change:
        path.write_bytes(change(content))
    monkeypatch.setattr(tfds, "load", lambda *_, **__: pytest.fail("it was read"))
    found = "damaged" if change else "missing"
    with pytest.raises(OSError, match=f"{re.escape(str(path))} is {found}.*git checkout"):
        load_images("mnist", "test")


def test_other_images_under_the_name_are_refused(copied_mnist):
    """Whole files, which TFDS would read without a word."""
    (copied_mnist / TEST_FILE).unlink()
    (copied_mnist / TEST_FILE).symlink_to(copied_mnist / TRAIN_FILE)
    with pytest.raises(OSError, match=f"{TEST_FILE} is damaged or of another image set"):
        load_images("mnist", "test")


def test_whole_files_are_read_from_anywhere(copied_mnist):
    images, labels = load_images("mnist", "test[:3]")
    assert (
        images.shape == (3, 28, 28, 1)
        and labels.tolist() == load_images("mnist", "test[:3]")[1].tolist()
    )


# Disks


@contextlib.contextmanager
def disk_full(size: int):
    """Lets no file grow beyond a size: a write ends half-way, as on a disk without room."""
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.endswith((".part", ".draft"))]


def ended(main, *arguments) -> int | str | None:
    """Runs a command as `python notebooks/….py` does; returns what it ends with."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["command", *map(str, arguments)])
        commands.run(main)
    return end.value.code


def test_a_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file"
    commands.write(path, b"old")
    with disk_full(100), pytest.raises(OSError, match=f"{path} cannot be written .*is as it was"):
        commands.write(path, bytes(1000))
    assert path.read_bytes() == b"old" and leftovers(tmp_path) == []
    with pytest.raises(OSError, match=f"{path}/file cannot be written"):
        commands.write(path / "file", b"below a file")
    commands.write(path, bytes(1000))
    assert path.read_bytes() == bytes(1000)


@pytest.fixture
def notebook(tmp_path) -> Path:
    path = tmp_path / "small.ipynb"
    cells = [nbformat.v4.new_code_cell("1 + 1", id="sum")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture
def executed(monkeypatch):
    """Stands for the execution of a notebook: its source is longer afterwards."""
    count = itertools.count()

    def execute(path, quick):
        next(count)
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[0].source += f"  # {'ran ' * 1000}"
        return notebook, 0.1

    monkeypatch.setattr(run, "execute", execute)
    monkeypatch.setattr(commands, "check_package", lambda: None)
    return count


def test_make_run_on_a_full_disk(notebook, executed, tmp_path):
    before, out = notebook.read_bytes(), tmp_path / "out"
    for place in (["--in-place"], ["--to", out]):
        with disk_full(2000):
            message = ended(run.main, *place, notebook)
        assert "small.ipynb cannot be written" in message and "run the command again" in message
        assert notebook.read_bytes() == before
    with disk_full(100_000):  # room for the notebook, but not for its HTML
        assert "small.html cannot be written" in ended(run.main, "--to", out, notebook)
    assert [path.name for path in out.iterdir()] == ["small.ipynb"]
    assert leftovers(tmp_path) == []
    assert ended(run.main, "--to", out, notebook) == 0
    assert {path.name for path in out.iterdir()} == {"small.ipynb", "small.html"}


def test_make_run_where_nothing_can_be_written_says_so_before_it_works(notebook, executed):
    message = ended(run.main, "--to", notebook / "below a file", notebook)
    assert f"nothing can be written to {notebook}/below a file" in message
    assert next(executed) == 0


def test_make_run_names_what_is_no_notebook(notebook, monkeypatch, capsys):
    monkeypatch.setattr(commands, "check_package", lambda: None)
    assert "there is no notebook" in ended(run.main, "--in-place", notebook.with_name("no.ipynb"))
    assert ended(run.main, "--to", notebook.parent, notebook) == 2
    assert "--to must be another folder" in capsys.readouterr().err
    notebook.write_text(notebook.read_text()[:-20])
    assert ended(run.main, "--in-place", notebook) == 1
    assert str(notebook) in capsys.readouterr().err


def test_an_address_half_written_is_completed(tmp_path):
    for path in address.files(ROOT):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    address.write(tmp_path, "me/first")

    def having(text: bytes) -> list[Path]:
        return [path for path in address.files(tmp_path) if text in path.read_bytes()]

    places = having(b"me/first")
    room = sorted(path.stat().st_size for path in places)[len(places) // 2]  # for half of them
    with disk_full(room), pytest.raises(OSError, match="cannot be written"):
        address.write(tmp_path, "me/second")
    assert 0 < len(having(b"me/second")) < len(places) and leftovers(tmp_path) == []
    address.write(tmp_path, "me/second")
    assert having(b"me/second") == places and having(b"me/first") == []
    assert address.read(tmp_path) == "me/second"


# Interrupts


class Interrupter:
    """Sends the interrupt of a terminal before the n-th line that a module's code runs.

    Not before the line of a `with`, which comes once more at its end: Python notices an interrupt
    when that has run.
    """

    def __init__(self, module, n: int):
        self.file, self.left = module.__file__, n
        self.withs = set()
        for node in ast.walk(ast.parse(Path(self.file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.With):
                self.withs |= {*range(node.lineno, node.body[0].lineno)}

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename != self.file:
            return None
        if event == "line" and frame.f_lineno not in self.withs:
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)
        return self

    def __enter__(self):
        self.handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.tracer = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *_):
        sys.settrace(self.tracer)
        signal.signal(signal.SIGINT, self.handler)

    @property
    def came(self) -> bool:
        return self.left <= 0


def interrupted_everywhere(module, function, stride: int = 1):
    """Yields what `function` returns, None for an interrupt, if one comes before its n-th line."""
    for n in itertools.count(1, stride):
        result = None
        with Interrupter(module, n) as interrupt, contextlib.suppress(KeyboardInterrupt):
            result = function()
        if not interrupt.came:
            assert n > 30, "its lines are seen"
            return
        yield result


@pytest.mark.slow
def test_an_interrupt_at_any_line_of_train_leaves_rows_and_weights_of_one_step(
    images, make_model, monkeypatch
):
    monkeypatch.setattr(training, "STEPS_PER_CALL", 2)
    images, handler = images[:100], signal.getsignal(signal.SIGINT)
    options = {"training_steps": 5, "batch_size": 10, "progress": False}

    def weights(model):
        return [v.numpy() for v in (*model[0].variables, *model[1].variables)]

    model = make_model()
    train(*model, images, **options)
    start = weights(model)
    after, known = {0: start}, None
    for steps in (2, 4, 5):
        known = train(*model, images, **options | {"training_steps": steps})
        after[steps] = weights(model)
        for variable, value in zip((*model[0].variables, *model[1].variables), start, strict=True):
            variable.assign(value)

    kept = set()

    def again():
        for variable, value in zip((*model[0].variables, *model[1].variables), start, strict=True):
            variable.assign(value)
        return train(*model, images, **options)

    for losses in interrupted_everywhere(training, again, stride=3):
        assert signal.getsignal(signal.SIGINT) == handler
        if losses is None:  # raised: before the first step, or after the last
            same = [all(map(np.array_equal, weights(model), after[steps])) for steps in (0, 5)]
            assert any(same)
        else:
            steps = len(losses)
            kept.add(steps)
            assert losses.attrs["interrupted"]
            assert losses.equals(known[:steps])
            assert all(map(np.array_equal, weights(model), after[steps]))
        again()  # the next begins with a compiled program, too
    assert kept == {0, 2, 4, 5}
    assert again().equals(known)


@pytest.mark.slow
def test_an_interrupt_while_a_model_compiles_leaves_others_as_they_were(
    images, make_model, monkeypatch
):
    known = train(*make_model(), images, training_steps=3)

    def interrupted(*_):
        raise KeyboardInterrupt

    training._kept_programs.cache_clear()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training._CompiledSteps, "_steps", interrupted)
        train(*make_model(), images, training_steps=3)
    assert train(*make_model(), images, training_steps=3).equals(known)


def test_make_run_interrupted_keeps_what_is_finished(
    notebook, executed, tmp_path, monkeypatch, capsys
):
    """Before the execution, after it, and while each of the files is written."""
    second = notebook.with_name("second.ipynb")
    shutil.copy(notebook, second)
    expected = {"small.ipynb", "small.html", "second.ipynb", "second.html"}
    execute, replace = run.execute, Path.replace
    numbers = []
    for n in itertools.count(1):
        out, events = tmp_path / f"out{n}", itertools.count(1)

        def point(function, *arguments, events=events, n=n):
            if next(events) == n:
                raise KeyboardInterrupt
            return function(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(run, "execute", functools.partial(point, execute))
            patch.setattr(Path, "replace", lambda *arguments: point(replace, *arguments))
            end = ended(run.main, "--to", out, notebook, second)
        names = {path.name for path in out.iterdir()}
        assert names <= expected and leftovers(out) == []
        for name in names & {"small.ipynb", "second.ipynb"}:
            nbformat.validate(nbformat.read(out / name, as_version=4))
        if end == 0:
            break
        assert end == 130 and "Interrupted" in capsys.readouterr().err
        numbers.append(len(names))
    assert numbers == [0, 0, 1, 2, 2, 3] and names == expected


# Two at once

WRITES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import commands
for _ in range(300):
    commands.write(Path(sys.argv[2]), sys.argv[3].encode() * 100_000)
"""


def both(*commands) -> list[tuple[int, str]]:
    """Runs two commands side by side; returns what each ends with and what it complains of."""
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(list(map(str, command)), **options) for command in commands]
    complaints = [process.communicate(timeout=120)[1] for process in processes]
    return [(p.returncode, said) for p, said in zip(processes, complaints, strict=True)]


def test_two_that_write_one_file_leave_the_whole_of_either(tmp_path):
    file = tmp_path / "file"
    command = [sys.executable, "-c", WRITES, ROOT / "notebooks", file]
    assert both([*command, "a"], [*command, "b"]) == [(0, "")] * 2
    assert file.read_text() in ("a" * 100_000, "b" * 100_000)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_two_runs_of_a_notebook_leave_it_whole(notebook, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, ROOT / "notebooks" / "run.py", "--to", out, notebook]
    assert [code for code, _ in both(command, command)] == [0, 0]
    assert {path.name for path in out.iterdir()} == {"small.ipynb", "small.html"}
    result = nbformat.read(out / "small.ipynb", as_version=4)
    nbformat.validate(result)
    assert result.cells[0].outputs[0].data == {"text/plain": "2"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "small.ipynb"}


# Kernels and machines

PROGRAM = """
from vae_helpers.data import load_images, to_float
from vae_helpers.evaluation import evaluate
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.plots import plot_reconstructions
from vae_helpers.training import train
import json, vae_helpers
images, _ = load_images("mnist", "test")
model = Encoder([16], 2), Decoder([16], [28, 28, 1]), standard_normal(2)
losses = train(*model, to_float(images).numpy().astype({dtype!r}), training_steps=70)
elbo = evaluate(*model, images[:100])["elbo"].mean()
plot_reconstructions({{"x": images[:3]}}).savefig("figure.png")
print(json.dumps([vae_helpers.__file__, losses["total"].iloc[-1], elbo]))
"""
IN_USE = """
import locale, tensorflow as tf, tf_keras
locale.setlocale(locale.LC_ALL, "")
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.constant(1.0) + 1
tf_keras.backend.set_floatx("float64")
"""
MIXED = """
import tf_keras
tf_keras.mixed_precision.set_global_policy("mixed_float16")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only a Unix forks")
@pytest.mark.parametrize("what", ["load_images", "train", "evaluate", "decoder"])
def test_a_fork_is_refused_where_it_would_hang(images, make_model, what):
    model = make_model()
    codes = model[0](images[:1000]).loc
    model[1](codes)
    work = {
        "load_images": load_images,
        "train": lambda: train(*model, images, progress=False),
        "evaluate": lambda: evaluate(*model, images),
        "decoder": lambda: model[1](codes),
    }
    child = os.fork()
    if not child:
        try:
            work[what]()
        except RuntimeError as error:
            os._exit(7 if "TensorFlow cannot run in a fork" in str(error) else 1)
        finally:
            os._exit(1)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("it hangs")
    assert os.waitstatus_to_exitcode(status) == 7


@pytest.mark.slow
def test_odd_surroundings_give_the_same_numbers(tmp_path, monkeypatch, capsys):
    """Also in a folder with spaces and other letters, on one thread, without a display."""
    monkeypatch.chdir(tmp_path)
    usual = tmp_path / "usual.py"
    usual.write_text(PROGRAM.format(dtype="float32"))
    runpy.run_path(str(usual))
    _, *known = json.loads(capsys.readouterr().out.splitlines()[-1])
    folder = tmp_path / "Übung 1, größer"
    folder.mkdir()
    shutil.copytree(ROOT / "vae_helpers", folder / "vae_helpers")
    odd = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")}
    odd |= {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "LC_ALL": "de_DE.UTF-8"}
    installed = subprocess.run(["locale", "-a"], capture_output=True, check=False, text=True)
    if "de_DE.utf8" not in installed.stdout:  # commas in numbers can't be tried
        odd["LC_ALL"] = "C.UTF-8"
    for prelude, dtype in ((IN_USE, "float64"), (MIXED, "float32")):
        done = subprocess.run(
            [sys.executable, "-c", prelude + PROGRAM.format(dtype=dtype)],
            capture_output=True,
            check=False,
            cwd=folder,
            env=odd,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        place, *numbers = json.loads(done.stdout.splitlines()[-1])
        assert Path(place).is_relative_to(folder)
        assert numbers == pytest.approx(known, rel=1e-3), prelude


@pytest.mark.slow
def test_a_package_of_another_place_is_refused(tmp_path, monkeypatch):
    (tmp_path / "vae_helpers").mkdir()
    (tmp_path / "vae_helpers" / "__init__.py").touch()
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, ROOT / "notebooks" / "run.py", "--to", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, check=False, env=environment, text=True)
    assert done.returncode == 1
    assert re.search(r"ImportError: vae_helpers would be imported from .*uninstall", done.stderr)
