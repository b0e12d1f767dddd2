"""Damaged files, full disks, interrupts and odd surroundings: said in a line, and nothing is lost."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from vae_helpers import data, experiments
from vae_helpers.data import load_images
from vae_helpers.experiments import sweep

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))
import address
import commands
import run

SMALL = {"hidden_sizes": [4], "latent_size": 1, "training_steps": 2}


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def exchange(path):
    shutil.copy(path.with_name("mnist-test.tfrecord-00000-of-00001"), path)


@pytest.mark.parametrize("damage", [truncate, flip, exchange, Path.unlink])
def test_damaged_images_are_never_trained_on(tmp_path, monkeypatch, damage):
    folder = shutil.copytree(data._EMBEDDED, tmp_path / "tfds")
    monkeypatch.setattr(data, "_EMBEDDED", folder)
    path = folder / "mnist" / "3.0.1" / "mnist-train.tfrecord-00000-of-00001"
    damage(path)
    with pytest.raises(OSError, match=f"{re.escape(str(path))} is .*Restore it"):
        load_images("mnist", "train")


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half(path, content):
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])
    full()


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.ipynb"
    commands.write(path, b"old")
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match=f"{path} cannot be written .No space left.*is as it was"):
        commands.write(path, b"new and longer")
    assert path.read_bytes() == b"old" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("command", ["run.py --to {} 01_elbo.ipynb", "run.py --to x nowhere.ipynb"])
def test_a_command_that_cannot_write_or_read_says_so_before_the_work(tmp_path, command):
    (tmp_path / "file").touch()
    script, *arguments = command.format(tmp_path / "file" / "folder").split()
    done = subprocess.run(
        [sys.executable, ROOT / "notebooks" / script, *arguments],
        capture_output=True,
        check=False,
        cwd=ROOT / "notebooks" if "01" in command else tmp_path,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert re.search(r"^(NotADirectory|FileNotFound|OS)Error: .*", done.stderr)
    assert "Traceback" not in done.stderr and "01_elbo.ipynb  " not in done.stdout


def test_an_interrupt_of_make_run_leaves_whole_files(tmp_path, monkeypatch, capsys):
    executed = []

    def execute(path, quick):
        if executed:
            raise KeyboardInterrupt
        executed.append(path)
        return run.nbformat.read(path, as_version=4), 0.5

    monkeypatch.setattr(run, "execute", execute)
    names = [str(ROOT / "notebooks" / name) for name in ("01_elbo.ipynb", "02_model.ipynb")]
    monkeypatch.setattr(sys, "argv", ["run.py", "--to", str(tmp_path), *names])
    with pytest.raises(SystemExit) as stopped:
        commands.run(run.main)
    assert stopped.value.code == 130 and "run it again" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["01_elbo.html", "01_elbo.ipynb"]


@pytest.mark.parametrize("last", range(3))
def test_an_interrupted_change_of_address_goes_on(tmp_path, monkeypatch, last):
    for name in ("pyproject.toml", "README.md", "notebooks/01_elbo.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    written, write = [], commands.write

    def interrupted(path, content):
        if len(written) == last:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(commands, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            address.write(tmp_path, "me/my-fork")
    address.write(tmp_path, "me/my-fork")
    assert address.read(tmp_path) == "me/my-fork"
    assert not any(address.UNSET in path.read_text() for path in address.files(tmp_path))


def test_a_sweep_whose_disk_is_full_goes_on_later(images, tmp_path, monkeypatch):
    configurations = [SMALL | {"seed": seed} for seed in range(3)]
    file = tmp_path / "rows.csv"
    sweep(configurations[:1], images, images[:100], file=file, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(experiments.csv, "writer", full)
        with pytest.raises(OSError, match=f"file {file} cannot be written .No space left"):
            sweep(configurations, images, images[:100], file=file, progress=False)
    assert len(file.read_text().splitlines()) == 2
    table = sweep(configurations, images, images[:100], file=file, progress=False)
    assert len(file.read_text().splitlines()) == 4
    known = sweep(configurations, images, images[:100], progress=False)
    pd.testing.assert_frame_equal(table, known)


def test_a_file_that_no_sweep_can_write_is_named_before_the_training(images, tmp_path):
    (tmp_path / "file").touch()
    for file in (tmp_path / "file" / "rows.csv", tmp_path / "nowhere" / "rows.csv"):
        with pytest.raises(OSError, match=f"file {file} cannot be written"):
            sweep([SMALL], images, images[:100], file=file)


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
THREADS = "tf.config.threading.set_intra_op_parallelism_threads(1)"
SURROUNDINGS = {  # what runs before, and the images' type
    "as usual": ("", "float32"),
    "TensorFlow in use": (f"import tensorflow as tf; {THREADS}; tf.constant(1.0) + 1", "float32"),
    "float64": ("import tf_keras; tf_keras.backend.set_floatx('float64')", "float64"),
    "mixed precision": (
        "import tf_keras; tf_keras.mixed_precision.set_global_policy('mixed_float16')",
        "float32",
    ),
    "local": ("import locale; locale.setlocale(locale.LC_ALL, '')", "float32"),
}


@pytest.mark.slow
def test_odd_surroundings_give_the_same_numbers(tmp_path):
    """Also in a folder with spaces and other letters, on one thread, without a display."""
    folder = tmp_path / "Übung 1, größer"
    folder.mkdir()
    shutil.copytree(ROOT / "vae_helpers", folder / "vae_helpers")
    odd = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")}
    odd |= {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "LC_ALL": "de_DE.UTF-8"}
    installed = subprocess.run(["locale", "-a"], capture_output=True, check=False, text=True)
    if "de_DE.utf8" not in installed.stdout:  # commas in numbers can't be tried
        odd["LC_ALL"] = "C.UTF-8"
    results = {}
    for name, (prelude, dtype) in SURROUNDINGS.items():
        done = subprocess.run(
            [sys.executable, "-c", prelude + PROGRAM.format(dtype=dtype)],
            capture_output=True,
            check=False,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)} if name == "as usual" else odd,
            text=True,
        )
        assert done.returncode == 0, (name, done.stderr)
        place, *results[name] = json.loads(done.stdout.splitlines()[-1])
        assert Path(place).is_relative_to(folder)
    for name, numbers in results.items():
        assert numbers == pytest.approx(results["as usual"], rel=1e-3), name


def test_a_package_of_another_place_is_refused(tmp_path, monkeypatch):
    (tmp_path / "vae_helpers").mkdir()
    (tmp_path / "vae_helpers" / "__init__.py").touch()
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, ROOT / "notebooks" / "run.py", "--to", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, check=False, env=environment, text=True)
    assert done.returncode == 1
    assert re.search(r"ImportError: vae_helpers would be imported from .*uninstall", done.stderr)
