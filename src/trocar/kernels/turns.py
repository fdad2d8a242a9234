"""Work that threads take as they come free, for kernels whose parts are not all as fast.

A processor's cores may differ, and one of them may be busy with something else. Parts that are
given out beforehand then wait for the slowest.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

_SHARE = 1.2  # the next part is what is left over so many times the threads; found by trial
_LEAST = 4  # planes; joining smaller parts would cost more than waiting


@lru_cache(maxsize=64)
def cuts(planes: int, threads: int) -> NDArray[np.int64]:
    """Where parts begin, and the end: large ones first, so that threads end together.

    They depend on nothing else, so that sums over parts come out the same each time.
    """
    at = [0]
    while at[-1] < planes:
        left = planes - at[-1]
        part = left if threads == 1 else max(int(left / (_SHARE * threads)), _LEAST)
        at.append(planes if left - part < _LEAST else at[-1] + part)
    out = np.array(at)
    out.flags.writeable = False
    return out


@intrinsic  # type: ignore[misc]
def claimed(_: Any, turns: Any, i: Any) -> Any:
    """The whole number at place ``i``, which goes on by one: no two threads get the same."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        given = context.make_array(turns)(context, builder, value=args[0])
        at = builder.gep(given.data, [args[1]])
        return builder.atomic_rmw("add", at, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(turns, types.intp), code
