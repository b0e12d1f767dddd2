"""Checks of hyperparameters: each error names the argument, its value and what is allowed."""

import numbers
from collections.abc import Sequence
from typing import Any

_LARGEST = 2**31 - 1  # of int32, in which compiled programs count
_TINY, _HUGE = 2.0**-126, 3.4028234e38  # of float32, in which they compute


def positive_integer(name: str, value: Any) -> int:
    """Returns `value` as an int, or raises a ValueError that names it."""
    return integer(name, value, low=1, kind="a positive integer")


def positive_integers(name: str, values: Any) -> tuple[int, ...]:
    """Returns `values` as a tuple of ints, or raises a ValueError that names it."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{name} must be a list of positive integers, got {values!r}")
    return tuple(positive_integer(f"{name}[{i}]", value) for i, value in enumerate(values))


def integer(name: str, value: Any, *, low: int = 0, kind: str = "an integer from 0 up") -> int:
    """Returns `value`, a seed say, as an int, or raises a ValueError that names it."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or not low <= value <= _LARGEST:
        raise ValueError(f"{name} must be {kind} of at most 2**31 - 1, got {value!r}")
    return int(value)


def number(name: str, value: Any, *, positive: bool = False) -> float:
    """Returns `value` as a float from 0 (or above 0) up that float32 holds, or raises a ValueError."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not (_TINY if positive else 0) <= value <= _HUGE:  # also false for NaN
        allowed = "a finite number above 0" if positive else "a finite number, 0 or above"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return float(value)
