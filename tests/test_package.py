"""What importing costs, prints and leaves open; which way imports run; how a claim fails."""

import vae_helpers
from vae_helpers.claims import claim

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from code_lines import count

FOLDER = Path(vae_helpers.__file__).parent
PATHS = [path for path in sorted(FOLDER.rglob("*.py")) if path.stem != "__init__"]
MODULES = {".".join(p.relative_to(FOLDER).with_suffix("").parts): p for p in PATHS}
TREES = {module: ast.parse(path.read_text("utf-8")) for module, path in MODULES.items()}


def run(code: str, *arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_importing_the_package_loads_nothing():
    code = "import sys; a = {*sys.modules}; import vae_helpers; print({*sys.modules} - a)"
    assert run(code) == (0, "{'vae_helpers'}\n", "")


@pytest.mark.slow
def test_every_module_loads_quietly_and_leaves_tensorflow_to_be_set_up():
    """Threads and devices can still be chosen; what else is printed at the start is passed on."""
    code = """
import importlib, os, sys
class Loud:
    def find_spec(name, *_):
        name == "tensorflow" and os.write(2, b"disk on fire\\n")
sys.meta_path.insert(0, Loud)
for module in sys.argv[1:]:
    importlib.import_module("vae_helpers." + module)
import tensorflow as tf
print({"keras", "tensorflow_datasets", "distributed"} & {*sys.modules})
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
cpu, *gpus = tf.config.list_physical_devices()
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
for gpu in gpus:
    tf.config.experimental.set_memory_growth(gpu, True)
tf.zeros(2) + 1
print(len(tf.config.list_logical_devices("CPU")))
"""
    assert run(code, *MODULES) == (0, "set()\n2\n", "disk on fire\n")


ORDER = "support claims data models objective training evaluation traversals plots experiments"


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way_and_the_package_comes_before_tensorflow(module):
    """No module imports a later one, but for those of one folder."""
    order, folder, names = [*ORDER.split(), "explorers"], module.partition(".")[0], []
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import | ast.ImportFrom):
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names += [prefix + alias.name for alias in node.names]
    ours = [name.split(".")[1] for name in names if name.startswith("vae_helpers.")]
    later = order[order.index(folder) + ("." in module) :]
    assert not {*ours} & {*later}
    if folder != "support" and any(n.startswith(("tensorflow", "sonnet")) for n in names):
        assert names[0].startswith("vae_helpers"), "else TensorFlow's start-up log is printed"


@pytest.mark.parametrize("module", MODULES)
def test_what_is_public_says_what_it_does(module):
    assert ast.get_docstring(TREES[module])
    for node in TREES[module].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


@pytest.mark.parametrize(
    ("most", "paths"),
    [
        (1200, [FOLDER]),
        (750, [*FOLDER.glob("*.py")]),
        (150, [FOLDER / "training.py"]),
        (160, [FOLDER / "support"]),
        (250, [FOLDER / "explorers"]),
        (3600, [Path(__file__).parent]),
    ],
    ids=["package", "top level", "training", "support", "explorers", "tests"],
)
def test_lines_of_code_stay_below_their_limits(most, paths):
    assert count(*paths).lines <= most


def test_few_lines_of_the_package_raise():
    assert count(FOLDER).raises <= 55


def test_a_claim_that_holds_is_silent_and_one_that_fails_is_not(monkeypatch, capsys):
    monkeypatch.delenv("VAE_STRICT", raising=False)
    claim(True, "water is wet")
    assert capsys.readouterr().out == ""
    claim(False, "water is dry")
    assert "no longer holds: water is dry" in capsys.readouterr().out
    monkeypatch.setenv("VAE_STRICT", "1")
    with pytest.raises(AssertionError, match="water is dry"):
        claim(False, "water is dry")
    with pytest.raises(ValueError, match="sentence must be a text, got False"):
        claim("water is dry", False)
