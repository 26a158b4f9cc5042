"""What users' arguments must satisfy.

Every message names the argument, its value, the rule and the next step.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


def integer(name: str, value: Any, minimum: int) -> int:
    """Return `value` as an int of at least `minimum`; bools and floats are not integers."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} (={value!r}) must be an integer, not a bool; pass e.g. {minimum}.")
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} (={value!r}) must be an integer of at least {minimum}, got "
            f"{type(value).__name__}; pass e.g. {minimum}."
        ) from None
    if result < minimum:
        raise ValueError(f"{name} (={result}) must be at least {minimum}; pass e.g. {minimum}.")
    return result


def odd(name: str, value: Any, why: str = "") -> int:
    """Return `value` as an odd int of at least 1; `why` goes into the message, after "odd"."""
    result = integer(name, value, 1)
    if result % 2 == 0:
        raise ValueError(f"{name} (={result}) must be odd{why}; pass {result + 1}.")
    return result


def real(name: str, value: Any) -> float:
    """Return `value` as a finite float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"{name} (={value!r}) must be a real number, got {type(value).__name__}; "
            "pass a Python float."
        )
    if not math.isfinite(value):
        raise ValueError(f"{name} (={value!r}) must be finite; pass e.g. 0.0.")
    return float(value)


def rate(name: str, value: Any) -> float:
    """Return `value` if it is a share that can be dropped: from 0 on, and below 1."""
    result = real(name, value)
    if not 0 <= result < 1:
        raise ValueError(
            f"{name} (={value!r}) must be at least 0 and below 1, where nothing would be left; "
            "pass e.g. 0.2."
        )
    return result


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of `allowed`."""
    if not isinstance(value, str):
        raise TypeError(
            f"{name} (={value!r}) must be a string, got {type(value).__name__}; "
            f"choose one of {', '.join(map(repr, allowed))}."
        )
    if value not in allowed:
        raise ValueError(
            f"{name} (={value!r}) is not known; choose one of {', '.join(map(repr, allowed))}."
        )
    return value


def floating_dtype(name: str, value: Any) -> Any:
    """Return `value` if it is a floating dtype that JAX can compute in."""
    try:
        dtype = jnp.dtype(value)
    except TypeError:
        raise TypeError(f"{name} (={value!r}) is not a dtype; pass e.g. jnp.float32.") from None
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"{name} (={dtype}) must be a floating dtype; pass e.g. jnp.float32 or jnp.bfloat16."
        )
    if dtype == np.float64 and not jax.config.jax_enable_x64:  # pyright: ignore
        raise ValueError(
            f"{name} (=float64) needs JAX's 64-bit mode, which is off; call "
            "jax.config.update('jax_enable_x64', True) first, or pass jnp.float32."
        )
    return value


def per_axis(name: str, value: Any, ndim: int, minimum: int = 1) -> tuple[int, ...]:
    """Return one integer of at least `minimum` for each of `ndim` spatial axes."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return (integer(name, value, minimum),) * ndim
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(
            f"{name} (={value!r}) must be an integer or a sequence of {ndim} integers; "
            f"pass e.g. {minimum} or {(minimum,) * ndim}."
        )
    if len(value) != ndim:
        raise ValueError(
            f"{name} (={value!r}) must have one entry for each of the {ndim} spatial axes, got "
            f"{len(value)}; pass e.g. {(minimum,) * ndim}."
        )
    return tuple(integer(f"{name}[{i}]", v, minimum) for i, v in enumerate(value))


def floating(name: str, array: Any, axes: str, min_ndim: int, *, exact: bool = False) -> jax.Array:
    """Return `array` as a floating JAX array with at least (or exactly) `min_ndim` axes.

    Args:
        name: the argument's name, for the message.
        array: what the user passed.
        axes: the axes in words, such as `"(..., H, W, C)"`, for the message.
        min_ndim: the number of named axes.
        exact: whether leading axes are forbidden.
    """
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise TypeError(
            f"{name} must be an array of shape {axes}, got {type(array).__name__}; "
            "convert it with jnp.asarray."
        )
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{name} has dtype {array.dtype}, but a floating dtype is needed; convert it with "
            f"{name}.astype(jnp.float32)."
        )
    if array.dtype == np.float64 and not jax.config.jax_enable_x64:  # pyright: ignore
        raise ValueError(
            f"{name} has dtype float64, but JAX's 64-bit mode is off and would round it to "
            "float32 silently; call jax.config.update('jax_enable_x64', True) first, or pass "
            f"{name}.astype(np.float32)."
        )
    if array.ndim < min_ndim or (exact and array.ndim != min_ndim):
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}, but {axes} is needed "
            f"({'exactly' if exact else 'at least'} {min_ndim} axes); reshape it."
        )
    return jnp.asarray(array)


def axis(name: str, array: Any, position: int, expected: int, what: str) -> None:
    """Raise unless `array.shape[position] == expected`, which is `what` (in words)."""
    if array.shape[position] != expected:
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}: axis {position} is "
            f"{array.shape[position]}, but must be {expected}, {what}; pass {name} with "
            f"{expected} there, or change what it has to match."
        )


def nonempty(name: str, array: Any, first: int, axes: str) -> None:
    """Raise if one of the axes of `array` from `first` (counted from the end) on has size zero."""
    if 0 in array.shape[first:]:
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}: no axis of {axes} may be empty; "
            "pass at least one pixel and one channel."
        )
