"""The check of a GPU: what it compares, and that it is no failure where there is none."""

import subprocess
import sys
from pathlib import Path

import gpu_check
import pytest
import tensorflow as tf


def test_numbers_agree_up_to_what_rounding_explains():
    first = dict.fromkeys(gpu_check.ALLOWED, 1.0)
    assert gpu_check.compare(first, first)["agrees"].all()
    for name, allowed in gpu_check.ALLOWED.items():
        table = gpu_check.compare(first, first | {name: 1 + 2 * allowed})
        assert table.index[~table["agrees"]].tolist() == [name]


@pytest.mark.weekly
def test_the_processor_agrees_with_itself_and_not_with_another_training(images, tmp_path):
    first, second = (gpu_check.numbers(images[:2000], tmp_path) for _ in range(2))
    assert (gpu_check.compare(first, second)["difference"] == 0).all()
    (tmp_path / "first.npz").unlink()
    tf.random.set_seed(1)
    other = gpu_check.compare(first, gpu_check.numbers(images[:2000], tmp_path))
    assert other["agrees"].tolist() == [False, False, True, True, True], "one model is scored"


@pytest.mark.weekly
def test_a_process_of_its_own_measures_a_device(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "__file__", str(tmp_path / "short.py"))
    code = "import gpu_check; gpu_check.BATCH_SIZES = [64]; gpu_check.main()"
    (tmp_path / "short.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    numbers, speeds = gpu_check.measured(str(tmp_path), CUDA_VISIBLE_DEVICES="-1")
    assert [*numbers] == [*gpu_check.ALLOWED] and speeds["64"] > 0


@pytest.mark.weekly
def test_without_a_gpu_it_says_so():
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU: run tools/gpu_check.py")
    path = Path(gpu_check.__file__)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "not run: no GPU\n")
