"""Loads TensorFlow without the lines that its native code prints, and without Keras 3.

TensorFlow prints them whatever TF_CPP_MIN_LOG_LEVEL says (tensorflow issue 100442), and Jupyter
stores them in the notebook as errors. They are dropped by name; any other line is passed on.
Nothing but the loading happens here: devices and threads can be set up afterwards.

TensorFlow Probability stands on Keras 2. To load both costs a second and 80 MB more.
"""

import os
import re
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what is fatal; errors are exceptions, too
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

_STARTUP_LOG = re.compile(
    rb"All log messages before absl::InitializeLog"
    rb"|oneDNN custom operations are on"
    rb"|Could not find cuda drivers"
    rb"|Unable to register cu\w+ factory"
    rb"|computation placer already registered"
)


def _load() -> None:
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            log.seek(0)
            os.write(2, b"".join(line for line in log if not _STARTUP_LOG.search(line)))


_load()
