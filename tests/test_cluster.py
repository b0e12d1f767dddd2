"""The commands that notebook 08 shows for other machines, run on two addresses of this one."""

from vae_helpers import experiments
from vae_helpers.data import load_images
from vae_helpers.experiments import sweep

import os
import re
import runpy
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from paths import NOTEBOOKS

distributed = pytest.importorskip("distributed")

CELLS = {cell.id: cell for cell in nbformat.read(NOTEBOOKS / "08_scaling_out.ipynb", 4).cells}
CONFIGURATIONS = [
    {"hidden_sizes": [16], "latent_size": 2, "training_steps": 30, "seed": seed}
    for seed in range(4)
]


def blocks(cell, language):
    return re.findall(rf"```{language}\n(.*?)```", CELLS[cell].source, flags=re.DOTALL)


def run(text, folder):
    """Runs lines of the notebook in a folder, and returns their names."""
    (folder / "lines.py").write_text(text)
    return runpy.run_path(str(folder / "lines.py"), {"distributed": distributed})


def free_port():
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return own.getsockname()[1]


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def lines(port):
    """The commands of the notebook, for this address: a certificate, options, scheduler, worker."""
    (lines,) = blocks("elsewhere", "bash")
    lines = lines.replace("first-machine:8786", f"127.0.0.1:{port}")
    lines = lines.replace("--port 8786", f"--port {port} --host 127.0.0.1")
    return re.sub(r"\\\n *", "", lines).splitlines()


@pytest.fixture(scope="module")
def certificate(lines, tmp_path_factory):
    """Returns the folder of a certificate and its key."""
    folder = tmp_path_factory.mktemp("cluster")
    subprocess.run(["bash", "-c", lines[0]], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def cluster(lines, certificate):
    """Starts what the notebook says, the scheduler and two machines of one worker each."""
    _, tls, scheduler, worker = lines
    worker = worker.replace("--nworkers 2", "--nworkers 1")
    seen = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    seen["DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT"] = "5s"
    options = {"cwd": certificate, "env": os.environ | seen, "start_new_session": True}
    started = []
    try:
        for number, command in enumerate([scheduler, worker, worker], 1):
            where = "" if command == scheduler else f" --host 127.0.0.{number}"
            log = (certificate / f"{number}.log").open("w")
            process = subprocess.Popen(
                ["bash", "-c", f"{tls}\n{command}{where}"], stdout=log, stderr=log, **options
            )
            started.append(process)
        yield
    finally:
        for process in reversed(started):
            os.killpg(process.pid, signal.SIGTERM)
        for process in started:
            process.wait(30)


@pytest.fixture
def client(cluster, certificate, port, monkeypatch):
    """Connects as the notebook says."""
    monkeypatch.chdir(certificate)
    connect = blocks("elsewhere", "python")[0]
    names = run(connect.replace("first-machine:8786", f"127.0.0.1:{port}"), certificate)
    with names["client"] as client:
        client.wait_for_workers(2, timeout=60)
        yield client


@pytest.mark.weekly
def test_a_sweep_on_two_machines_with_tls(client, port):
    """The numbers are those of this process; who has no certificate is not let in."""
    images, _ = load_images("mnist", "test[:1000]")
    addresses = {name.rpartition(":")[0] for name in client.scheduler_info()["workers"]}
    assert addresses == {"tls://127.0.0.2", "tls://127.0.0.3"}
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
        anybody.wrap_socket(plain) as encrypted,
    ):
        encrypted.recv(1)
    there = sweep(CONFIGURATIONS, images, images[:100], executor=client.get_executor())
    here = sweep(CONFIGURATIONS, images, images[:100])
    pd.testing.assert_frame_equal(there, here, check_exact=True)


@pytest.mark.weekly
def test_a_model_that_kills_each_worker_is_a_row(client, monkeypatch, tmp_path):
    """Dask gives it up when four have died of it, and now and then who waited behind it each time.

    The images, lost with all workers, come again.
    """
    images, _ = load_images("mnist", "test[:1000]")
    options = {"executor": client.get_executor(), "file": tmp_path / "rows.jsonl"}

    def run(data, *, measure, **configuration):  # goes by value: workers start without TensorFlow
        if configuration["seed"] == 1:
            os._exit(1)
        return {"elbo": float(data[0].mean())}

    monkeypatch.setattr(experiments, "_run", run)
    with pytest.warns(UserWarning, match="[123] of 4 configurations failed"):
        errors = sweep(CONFIGURATIONS, images, images[:100], **options)["error"]
    assert errors[1].startswith("KilledWorker: Attempted to run task")
    assert errors.dropna().str.contains("on 4 different workers").all()
    others = [c for c in CONFIGURATIONS if c["seed"] != 1]
    assert sweep(others, images, images[:100], **options)["elbo"].tolist() == [images.mean()] * 3


def test_the_recipe_for_slurm_asks_for_what_its_workers_need(certificate, monkeypatch):
    """Rendered, not submitted: there is no SLURM here."""
    pytest.importorskip("dask_jobqueue")
    monkeypatch.chdir(certificate)
    connect, recipe = blocks("elsewhere", "python")
    made, _, submitted = recipe.partition("cluster.scale")
    with run(connect.partition("client =")[0] + made, certificate)["cluster"] as cluster:
        script = cluster.job_script()
    assert re.search(
        "#SBATCH -p cpu\n(?:#.*\n)*#SBATCH --cpus-per-task=2\n#SBATCH --mem=4G\n", script
    )
    assert "#SBATCH -t 01:00:00\n" in script
    assert re.search("dask_worker tls://.* --nthreads 1 .*--nworkers 2 ", script)
    assert "--tls-ca-file cert.pem --tls-cert cert.pem --tls-key key.pem" in script
    assert submitted.startswith("(jobs=100)")
