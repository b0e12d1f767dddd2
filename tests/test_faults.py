"""What can go wrong around the code goes wrong here: it is said, and nothing is lost or half-written.

Disks that are full or can't be written to, interrupts, two at once, and kernels and machines that
are not as ours.
"""

from vae_helpers import experiments, training
from vae_helpers.data import load_images
from vae_helpers.evaluation import evaluate
from vae_helpers.experiments import sweep
from vae_helpers.training import train

import ast
import contextlib
import csv
import errno
import functools
import itertools
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
resource = pytest.importorskip("resource", reason="only a Unix limits the size of files")


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


SWEPT = [{"hidden_sizes": [4], "latent_size": 2, "seed": seed} for seed in range(4)]


@pytest.fixture
def stub(monkeypatch, images):
    """Sweeps whose models need no training; returns `sweep` of them."""

    def row(configuration, *_):
        return {"elbo": -100.0 - configuration["seed"], "active_units": 2}

    monkeypatch.setattr(experiments, "_run", row)
    return functools.partial(sweep, images=images[:10], test_images=images[:10], progress=False)


def whole_rows(file: Path) -> list[int]:
    """Returns the seeds of a sweep's file after checking that each row is whole and there once."""
    if not file.exists() or not file.read_text():
        return []
    text = file.read_text()
    assert text.endswith("\n")
    columns, *rows = csv.reader(text.splitlines())
    assert all(len(row) == len(columns) for row in rows)
    seeds = [json.loads(row[columns.index("seed")]) for row in rows]
    assert len(set(seeds)) == len(seeds)
    return seeds


def test_a_sweep_on_a_full_disk_goes_on_when_there_is_room(stub, tmp_path):
    known, file = stub(SWEPT), tmp_path / "rows of β.csv"
    stub(SWEPT[:1], file=file)
    for room in (1, 40):  # part of a row: its first character, and into its digest
        with (
            disk_full(file.stat().st_size + room),
            pytest.raises(OSError, match="rows of β.csv cannot be written.*run the sweep again"),
        ):
            stub(SWEPT, file=file)
        assert not file.read_text().endswith("\n")
    pd.testing.assert_frame_equal(stub(SWEPT, file=file), known)
    assert sorted(whole_rows(file)) == [0, 1, 2, 3]
    new = tmp_path / "new.csv"  # and where not even the names of the columns have room
    with disk_full(10), pytest.raises(OSError, match="new.csv cannot be written"):
        stub(SWEPT, file=new)
    pd.testing.assert_frame_equal(stub(SWEPT, file=new), known)


def test_a_sweep_that_cannot_keep_a_row_trains_no_others(stub, tmp_path, monkeypatch):
    row, trained, failed = experiments._run, [], threading.Event()

    def run_one(configuration, *data):
        trained.append(configuration["seed"])
        if configuration["seed"]:
            failed.wait(10)
        return row(configuration, *data)

    def refused(*_):
        raise OSError("no room")

    monkeypatch.setattr(experiments, "_run", run_one)
    monkeypatch.setattr(experiments._File, "add", refused)
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(OSError, match="no room"):
            stub(SWEPT, file=tmp_path / "rows.csv", executor=pool)
        failed.set()
    assert set(trained) <= {0, 1}  # the second had begun


def test_two_models_train_side_by_side_and_no_more(stub, monkeypatch):
    row, running, seen = experiments._run, [], []

    def run_one(configuration, *data):
        running.append(configuration)
        time.sleep(0.2)
        seen.append(len(running))
        running.remove(configuration)
        return row(configuration, *data)

    monkeypatch.setattr(experiments, "_run", run_one)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    stub(SWEPT)
    assert max(seen) == 2


def test_a_measure_that_leaves_the_program_is_a_row(stub, monkeypatch):
    row = experiments._run

    def run_one(configuration, *data):
        if configuration["seed"] == 1:
            sys.exit("done")
        return row(configuration, *data)

    monkeypatch.setattr(experiments, "_run", run_one)
    with pytest.warns(UserWarning, match="1 of 4 configurations failed"):
        table = stub(SWEPT)
    assert table["error"].tolist() == [None, "SystemExit: done", None, None]


def test_a_sweep_whose_file_cannot_be_written_says_so_before_it_trains(stub, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "_run", lambda *_: pytest.fail("it trained"))
    (tmp_path / "rows.csv").write_text("")
    for place in ("rows.csv/rows.csv", "no folder/rows.csv", "."):
        file = tmp_path / place
        with pytest.raises(OSError, match=f"file {file} cannot be written"):
            stub(SWEPT, file=file)


def test_a_sweep_whose_file_is_read_only_says_so_before_it_trains(stub, tmp_path, monkeypatch):
    file = tmp_path / "rows.csv"
    stub(SWEPT[:1], file=file)
    opened = Path.open

    def refused(path, mode="r", *arguments, **options):  # chmod does not stop root
        if path == file and set(mode) & set("aw+"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(experiments, "_run", lambda *_: pytest.fail("it trained"))
    with pytest.raises(OSError, match=f"file {file} cannot be written .*Permission denied"):
        stub(SWEPT, file=file)


@pytest.mark.parametrize("content", ['{"a": 1}', "notes\nlast line", "batches", "a,b\n1,2\n3"])
def test_a_file_that_is_no_sweeps_stays_as_it_is(stub, tmp_path, content):
    """It may be the only copy of something else, and a last line without its end is no damage."""
    file = tmp_path / "notes.txt"
    file.write_bytes(content.encode())
    with pytest.raises(ValueError, match=f"file must be new or of another sweep, got {file}: "):
        stub(SWEPT, file=file)
    assert file.read_bytes() == content.encode()


def test_a_sweep_goes_on_from_a_file_that_ends_anywhere(stub, tmp_path):
    file = tmp_path / "rows.csv"
    known = stub(SWEPT[:2], file=file)
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        pd.testing.assert_frame_equal(stub(SWEPT[:2], file=file), known)
        assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines()), size


@pytest.mark.parametrize("damage", ["", "\x00\xff", '"', '{"', "1,2,3\n"])
def test_a_sweep_names_a_damaged_file(stub, tmp_path, damage):
    file = tmp_path / "rows.csv"
    stub(SWEPT[:2], file=file)
    first, second, third = file.read_bytes().splitlines(keepends=True)
    broken = second[:-8] + damage.encode("latin1") + b"\n"
    file.write_bytes(first + broken + third)
    with pytest.raises(ValueError, match=f"file must be new or of another sweep, got {file}: "):
        stub(SWEPT, file=file)
    assert file.read_bytes() == first + broken + third


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


@pytest.mark.slow
def test_an_interrupt_at_any_line_of_a_sweep_loses_no_row(stub, tmp_path):
    known, numbers = stub(SWEPT), set()
    folders = itertools.count()

    def again():
        again.file = tmp_path / str(next(folders)) / "rows.csv"
        again.file.parent.mkdir()
        return stub(SWEPT, file=again.file)

    for table in interrupted_everywhere(experiments, again):
        seeds = whole_rows(again.file)
        if table is not None:
            numbers.add(len(table))
            assert sorted(seeds) == sorted(table.get("seed", [])), "what is returned is kept"
            if len(table):
                pd.testing.assert_frame_equal(
                    table, known.loc[table["seed"]].reset_index(drop=True)
                )
        pd.testing.assert_frame_equal(stub(SWEPT, file=again.file), known)
        assert sorted(whole_rows(again.file)) == [0, 1, 2, 3]
    assert {0, 4} <= numbers


def test_a_second_interrupt_of_a_sweep_keeps_the_finished_rows(stub, tmp_path, monkeypatch):
    """One that does not wait for the models in training, as the first does."""
    file, row = tmp_path / "rows.csv", experiments._run

    def interrupting(configuration, *data):
        if configuration["seed"] == 1:
            while whole_rows(file) != [0]:
                time.sleep(0.01)
            for _ in range(2):
                time.sleep(0.2)  # until it waits again
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        return row(configuration, *data)

    monkeypatch.setattr(experiments, "_run", interrupting)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # one after the other
    handler, table = signal.signal(signal.SIGINT, signal.default_int_handler), None
    with contextlib.suppress(KeyboardInterrupt):
        table = stub(SWEPT, file=file)
    signal.signal(signal.SIGINT, handler)
    assert table is not None, "raised, and the rows are lost"
    assert table["seed"].tolist() == whole_rows(file) == [0]


def test_a_sweep_whose_processes_are_all_interrupted_has_no_rows(stub, monkeypatch):
    """As by Ctrl-C in a terminal, which reaches them all."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "_run", interrupted)
    table = stub(SWEPT)
    assert len(table) == 0 and list(table.columns) == ["error"]


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
@pytest.mark.parametrize("what", ["load_images", "train", "evaluate", "decoder", "sweep"])
def test_a_fork_is_refused_where_it_would_hang(images, make_model, what):
    model = make_model()
    codes = model[0](images[:1000]).loc
    model[1](codes)
    work = {
        "load_images": load_images,
        "train": lambda: train(*model, images, progress=False),
        "evaluate": lambda: evaluate(*model, images),
        "decoder": lambda: model[1](codes),
        "sweep": lambda: sweep([{"hidden_sizes": [4], "latent_size": 1}], images, images),
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
