"""A progress bar that leaves no trace, and interrupts that wait for the end of a step."""

import builtins
import contextlib
import signal
import threading
from collections.abc import Iterator

from tqdm import tqdm


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[list]:
    """Collects interrupts instead of raising them, to be asked for where nothing is half-done.

    One that comes while TensorFlow computes, as nearly all do, would be raised when the weights
    have changed and their rows are not kept yet.

    Yields:
        A list: empty, or of one element for each interrupt so far. Outside the main thread, which
        alone gets any, it stays empty.
    """
    deferred: list = []
    if threading.current_thread() is not threading.main_thread():
        yield deferred
        return
    handler = signal.signal(signal.SIGINT, lambda *interrupt: deferred.append(interrupt))
    try:
        yield deferred
    finally:
        signal.signal(signal.SIGINT, handler)


def progress_bar(total: int, shown: bool = True) -> tqdm:
    """Makes a bar that leaves no trace: in a notebook's cell, or in a terminal if there is one.

    Args:
        total: how many there are to do; the bar's `update` takes how many more are done.
        shown: False for a bar that is never seen.
    """
    if shown and "get_ipython" in vars(builtins) and hasattr(builtins.get_ipython(), "kernel"):
        return tqdm(total=total, leave=False, file=_CellOutput(), ncols=90, mininterval=0.25)
    return tqdm(total=total, leave=False, disable=None if shown else True)


class _CellOutput:
    """A stream that overwrites one line of a cell's output and at last empties it."""

    def __init__(self):
        from IPython.display import display

        self._handle = display({}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        self._handle.update({"text/plain": text} if text else {}, raw=True)

    def flush(self) -> None:
        pass
