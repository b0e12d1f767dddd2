"""Loads TensorFlow without the start-up log that its native code prints, and without Keras 3.

Imported before TensorFlow by each module that uses it. TensorFlow prints
some lines at import, at its first look for a GPU and, before 2.21, at the first
use of XLA, whatever TF_CPP_MIN_LOG_LEVEL says (tensorflow issue 100442), and
Jupyter stores them in the notebook as errors. They are provoked here, and dropped
by name; every other line that appears meanwhile is passed on.

TensorFlow Probability stands on Keras 2. To load both costs a second and 80 MB more.
"""

import os
import re
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors and worse
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

_PROCESS = os.getpid()
_STARTUP_LOG = re.compile(
    rb"All log messages before absl::InitializeLog"
    rb"|oneDNN custom operations are on"
    rb"|Could not find cuda drivers"
    rb"|failed call to cuInit"
    rb"|Unable to register cu\w+ factory"
    rb"|computation placer already registered"
    rb"|XLA service 0x|StreamExecutor device|Compiled cluster using XLA"
)


def _load() -> None:
    if sys.stderr is not None:  # as it is in a process without a terminal
        sys.stderr.flush()
    try:
        os.fstat(2)
    except OSError:  # closed: the next file that is opened would get its number, and all logs
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
            tf.function(lambda: tf.zeros([]), jit_compile=True)()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            log.seek(0)
            for line in log:
                if not _STARTUP_LOG.search(line):
                    os.write(2, line)


def refuse_fork() -> None:
    """Raises a RuntimeError in a fork of this process, where TensorFlow would wait for ever."""
    if os.getpid() != _PROCESS:
        raise RuntimeError(
            "TensorFlow cannot run in a fork of the process that loaded it: start processes anew, "
            'as an executor does with mp_context=multiprocessing.get_context("spawn")'
        )


_load()
