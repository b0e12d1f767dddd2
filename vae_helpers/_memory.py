"""Gives freed memory back to the system."""

import ctypes
import sys


def release() -> None:
    """Returns the free pages of the C library's heap, which it would keep for itself.

    Reading the images and compiling leave some 80 MB each, that nothing needs afterwards, out of the
    2 GB that Binder grants. Other C libraries than glibc have no such call.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)
