"""Checks of arguments: each error names the argument, its value and what is allowed."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

_MOST = 2**31 - 1  # of int32, in which compiled programs count
_TINY, _HUGE = 2.0**-126, 3.4028234e38  # of float32, in which they compute


def positive_integer(name: str, value: Any) -> int:
    """Returns `value` as an int, or raises a ValueError that names it."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    if value > _MOST:
        raise ValueError(f"{name} must be at most 2**31 - 1, got {value!r}")
    return int(value)


def positive_integers(name: str, values: Any) -> tuple[int, ...]:
    """Returns `values` as a tuple of ints, or raises a ValueError that names it."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{name} must be a list of positive integers, got {values!r}")
    return tuple(positive_integer(f"{name}[{i}]", value) for i, value in enumerate(values))


def integer(name: str, value: Any) -> int:
    """Returns a seed-like `value` as an int, or raises a ValueError that names it."""
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Integral)
        or not 0 <= value <= _MOST
    ):
        raise ValueError(f"{name} must be an integer from 0 to 2**31 - 1, got {value!r}")
    return int(value)


def number(name: str, value: Any, *, positive: bool = False) -> float:
    """Returns `value` as a float from 0 (or above 0) up that float32 holds, or raises a ValueError."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not (_TINY if positive else 0) <= value <= _HUGE:  # also false for NaN
        allowed = "a finite number above 0" if positive else "a finite number, 0 or above"
        beyond = ", beyond float32" if is_number and (value > _HUGE or 0 < value < _TINY) else ""
        raise ValueError(f"{name} must be {allowed}, got {value!r}{beyond}")
    return float(value)


def function(name: str, value: Any) -> Callable:
    """Returns `value` if it can be called, or raises a ValueError that names it."""
    if not callable(value):
        raise ValueError(f"{name} must be a function, got {value!r}")
    return value


def distribution(name: str, value: Any) -> Any:
    """Returns `value` if it is a distribution, or raises a ValueError that names it."""
    if isinstance(value, type) or not hasattr(value, "log_prob"):
        raise ValueError(f"{name} must be a distribution of TFP, got {value!r}")
    return value


def called(name: str, network: Any, x: Any) -> Any:
    """Returns the distribution that a network makes of `x`, or raises a ValueError that names it."""
    if isinstance(network, type):
        raise ValueError(f"{name} must be an instance, got the class {network.__name__}")
    distribution = function(name, network)(x)
    if not hasattr(distribution, "sample"):
        raise ValueError(
            f"{name} must return a distribution of TFP, got {type(distribution).__name__}"
        )
    return distribution
