"""Kernels of the notebooks that are executed here, by `make run` as by the tests.

They are spoken to through files. Jupyter looks for free ports, and the kernel takes them a
second later: by then one can belong to another kernel, or to a connection of a cluster that runs
beside it, and the kernel dies or is never heard.
"""

import secrets

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config


def sockets() -> dict[str, str]:
    """Returns the options with which a KernelManager starts its kernel, one alone, in this way."""
    # The path of a socket may have a hundred characters, and TMPDIR alone has more on some machines.
    return {"transport": "ipc", "ip": f"/tmp/kernel-{secrets.token_hex(4)}"}


def client(notebook: nbformat.NotebookNode, **options) -> NotebookClient:
    """Returns what executes the cells of a notebook in a kernel of its own."""
    return NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        shutdown_kernel="immediate",  # with all it started; TensorFlow needs a second to end
        extra_arguments=["--log-level=ERROR"],
        config=Config(KernelManager=sockets()),
        **options,
    )
