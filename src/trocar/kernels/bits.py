"""The bits of floating-point numbers, for loops that would not run in lanes otherwise."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

_INTEGER = {types.float32: types.int32, types.float64: types.int64}
_FLOAT = {i: f for f, i in _INTEGER.items()}


def _cast(kind: Any, into: dict[Any, Any]) -> Any:
    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return into[kind](kind), make


@intrinsic
def as_bits(_context: Any, value: Any) -> Any:
    """The integer with the bits of a float; of numbers not below 0 the greater has the greater."""
    return _cast(value, _INTEGER)


@intrinsic
def as_float(_context: Any, value: Any) -> Any:
    """The float that has the bits of an integer."""
    return _cast(value, _FLOAT)
