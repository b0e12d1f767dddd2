"""Checks of arguments: each error names the argument, its value and what is allowed."""

import math
import numbers
from collections.abc import Sequence
from typing import Any


def positive_integer(name: str, value: Any) -> int:
    """Returns `value` as an int, or raises a ValueError that names it."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def positive_integers(name: str, values: Any) -> tuple[int, ...]:
    """Returns `values` as a tuple of ints, or raises a ValueError that names it."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{name} must be a list of positive integers, got {values!r}")
    return tuple(positive_integer(f"{name}[{i}]", value) for i, value in enumerate(values))


def integer(name: str, value: Any) -> int:
    """Returns a seed-like `value` as an int, or raises a ValueError that names it."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= value < 2**31:
        raise ValueError(f"{name} must be an integer from 0 to 2**31 - 1, got {value!r}")
    return int(value)


def number(name: str, value: Any, *, positive: bool = False) -> float:
    """Returns `value` as a finite float from 0 (or above 0) up, or raises a ValueError."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0 or (positive and value == 0):
        allowed = "a finite number above 0" if positive else "a finite number, 0 or above"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return float(value)
