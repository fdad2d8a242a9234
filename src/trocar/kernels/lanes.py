"""Numbers that go side by side through one instruction, for kernels that compilers do not widen.

``Lanes`` is a type for compiled code: as many float32 or float64 numbers as this processor takes at
once, with +, - and *, read from and written to the rows of arrays at any place. A loop written
with it runs in lanes because it says so, where a plain loop over a dozen arrays does not: compilers
fear that two of them overlap.

Nothing here checks a bound. Whoever reads or writes whole lanes sees to it that they are there.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _width() -> int:
    """Bytes that go through one instruction; any answer is right, another is only slower."""
    if config.CPU_NAME:  # compiling for another processor than this
        return 16
    has = binding.get_host_cpu_features()
    return 64 if has.get("avx512f") else 32 if has.get("avx") else 16


WIDTH = _width()


class Lanes(types.Type):  # type: ignore[misc]
    """So many numbers side by side: ``count``, or as many as go through one instruction."""

    def __init__(self, dtype: Any, count: int = 0) -> None:
        self.dtype = dtype
        self.count = count or WIDTH * 8 // dtype.bitwidth
        super().__init__(name=f"Lanes({dtype} x {self.count})")


@register_model(Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        one = ir.FloatType() if lanes.dtype == types.float32 else ir.DoubleType()
        super().__init__(manager, lanes, ir.VectorType(one, lanes.count))


def _operate(op: Callable[..., Any], name: str) -> None:
    """Teach the compiler an operator on two of a kind; a product and a sum may become one."""

    @infer_global(op)
    class Typing(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Lanes) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(op, Lanes, Lanes)  # type: ignore[misc]
    def _code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, name)(*args, flags=("contract",))


for _op, _name in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _operate(_op, _name)


def _everywhere(builder: Any, value: Any, count: int) -> Any:
    """One number in all lanes."""
    none = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    first = builder.insert_element(none, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, none, ir.Constant(ir.VectorType(_I32, count), [0] * count))


def _place(builder: Any, start: Any, i: Any, lanes: Any) -> Any:
    """A pointer to the lanes that begin at place i."""
    return builder.bitcast(builder.gep(start, [i]), lanes.as_pointer())


@intrinsic  # type: ignore[misc]
def start(_: Any, array: Any, row: Any) -> Any:
    """Where a row of an array begins, for the functions below: all its indices but the last.

    It keeps no count of who holds the array, which in a loop costs more than the work: whoever
    calls must hold the array for as long.
    """
    if not isinstance(array, types.Array) or array.layout != "C" or len(row) != array.ndim - 1:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        given = context.make_array(array)(context, builder, value=args[0])
        at = [*cgutils.unpack_tuple(builder, args[1]), ir.Constant(_I64, 0)]
        return cgutils.get_item_pointer(context, builder, array, given, at)

    return types.CPointer(array.dtype)(array, types.UniTuple(types.intp, len(row))), code


@intrinsic  # type: ignore[misc]
def abreast(_: Any, array: Any) -> Any:
    """How many of an array's numbers go side by side; known before anything runs."""
    count = WIDTH * 8 // array.dtype.bitwidth

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(_I64, count)

    return types.intp(array), code


@intrinsic  # type: ignore[misc]
def everywhere(_: Any, value: Any) -> Any:
    """The same number in every lane."""
    lanes = Lanes(value)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _everywhere(builder, args[0], lanes.count)

    return lanes(value), code


@intrinsic  # type: ignore[misc]
def read(_: Any, like: Any, start: Any, i: Any) -> Any:
    """The numbers from place ``i``, as many as ``like`` has."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = _place(builder, args[1], args[2], context.get_value_type(like))
        return builder.load(at, align=start.dtype.bitwidth // 8)

    return like(like, start, types.intp), code


@intrinsic  # type: ignore[misc]
def write(_: Any, start: Any, i: Any, lanes: Any) -> Any:
    """Put the numbers at place ``i`` and after."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = _place(builder, args[0], args[1], context.get_value_type(lanes))
        builder.store(args[2], at, align=start.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(start, types.intp, lanes), code


def _wanted(builder: Any, lanes: Any, count: Any) -> Any:
    """Which lanes come before ``count``; compared in whole numbers as wide as the lanes."""
    whole = ir.IntType(lanes.dtype.bitwidth)
    order = ir.Constant(ir.VectorType(whole, lanes.count), list(range(lanes.count)))
    if lanes.dtype.bitwidth < 64:
        count = builder.trunc(count, whole)
    return builder.icmp_signed("<", order, _everywhere(builder, count, lanes.count))


def _all(builder: Any, lanes: Any, count: Any) -> Any:
    """Are all lanes wanted? Nearly always, and then plain instructions are quicker."""
    return builder.icmp_signed(">=", count, ir.Constant(_I64, lanes.count))


def _called(
    builder: Any, name: str, gives: Any, args: list[Any], fastmath: tuple[str, ...] = ()
) -> Any:
    """Call a function of the compiler's own."""
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(gives, [a.type for a in args]), name
    )
    return builder.call(function, args, fastmath=fastmath)


@intrinsic  # type: ignore[misc]
def read_some(_: Any, like: Any, start: Any, i: Any, count: Any) -> Any:
    """The same, but the first ``count`` of them and then 0; beyond them nothing is read."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector, size = context.get_value_type(like), start.dtype.bitwidth // 8
        at = _place(builder, args[1], args[2], vector)
        with builder.if_else(_all(builder, like, args[3])) as (all_of, some):
            with all_of:
                whole, here = builder.load(at, align=size), builder.block
            with some:
                wanted, align = _wanted(builder, like, args[3]), ir.Constant(_I32, size)
                part = _called(
                    builder, f"llvm.masked.load.v{like.count}f{size * 8}.p0", vector,
                    [at, align, wanted, ir.Constant(vector, None)],
                )  # fmt: skip
                there = builder.block
        out = builder.phi(vector)
        out.add_incoming(whole, here)
        out.add_incoming(part, there)
        return out

    return like(like, start, types.intp, types.intp), code


@intrinsic  # type: ignore[misc]
def write_some(_: Any, start: Any, i: Any, count: Any, lanes: Any) -> Any:
    """Put the first ``count`` of the numbers at place ``i`` and after, and leave what is beyond."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector, size = context.get_value_type(lanes), start.dtype.bitwidth // 8
        at = _place(builder, args[0], args[1], vector)
        with builder.if_else(_all(builder, lanes, args[2])) as (all_of, some):
            with all_of:
                builder.store(args[3], at, align=size)
            with some:
                # One at a time: the instruction for some of them is slow on some processors.
                kept = cgutils.alloca_once_value(builder, args[3])
                one = context.get_value_type(start.dtype).as_pointer()
                with cgutils.for_range(builder, args[2]) as loop:
                    place = builder.gep(builder.bitcast(kept, one), [loop.index])
                    to = builder.gep(builder.bitcast(at, one), [loop.index])
                    builder.store(builder.load(place), to)
        return context.get_dummy_value()

    return types.void(start, types.intp, types.intp, lanes), code


@intrinsic  # type: ignore[misc]
def where(_: Any, wanted: Any, lanes: Any) -> Any:
    """The numbers where ``wanted`` is above 0, else 0."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        none = ir.Constant(args[1].type, None)
        return builder.select(builder.fcmp_ordered(">", args[0], none), args[1], none)

    return lanes(wanted, lanes), code


@intrinsic  # type: ignore[misc]
def total(_: Any, lanes: Any) -> Any:
    """The sum of the numbers."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        one = context.get_value_type(lanes.dtype)
        name = f"llvm.vector.reduce.fadd.v{lanes.count}f{lanes.dtype.bitwidth}"
        return _called(builder, name, one, [ir.Constant(one, 0.0), args[0]], ("reassoc",))

    return lanes.dtype(lanes), code


@intrinsic  # type: ignore[misc]
def in_double(_: Any, lanes: Any) -> Any:
    """The same numbers in float64, as many of them: they may take two instructions."""
    double = Lanes(types.float64, lanes.count)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = context.get_value_type(double)
        return args[0] if args[0].type == vector else builder.fpext(args[0], vector)

    return double(lanes), code


@intrinsic  # type: ignore[misc]
def any_of(_: Any, lanes: Any) -> Any:
    """Is any of the numbers other than 0?"""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        other = builder.fcmp_unordered("!=", args[0], ir.Constant(args[0].type, None))
        bits = ir.IntType(lanes.count)
        return builder.icmp_unsigned("!=", builder.bitcast(other, bits), ir.Constant(bits, 0))

    return types.boolean(lanes), code


@intrinsic  # type: ignore[misc]
def behind(_: Any, last: Any, this: Any) -> Any:
    """What stands one place before: the last of ``last``, then all of ``this`` but its last."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        taken = [this.count - 1 + i for i in range(this.count)]
        return builder.shuffle_vector(*args, ir.Constant(ir.VectorType(_I32, this.count), taken))

    return this(last, this), code


@intrinsic  # type: ignore[misc]
def last_of(_: Any, lanes: Any) -> Any:
    """The last of the numbers, as lanes that are one."""
    one = Lanes(lanes.dtype, 1)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        none = ir.Constant(args[0].type, ir.Undefined)
        return builder.shuffle_vector(
            args[0], none, ir.Constant(ir.VectorType(_I32, 1), [lanes.count - 1])
        )

    return one(lanes), code


@intrinsic  # type: ignore[misc]
def fetch(_: Any, start: Any, i: Any) -> Any:
    """Have place ``i`` brought near the processor; it may lie anywhere, nothing is read."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = builder.bitcast(builder.gep(args[0], [args[1]]), ir.IntType(8).as_pointer())
        to_read, near, data = ir.Constant(_I32, 0), ir.Constant(_I32, 3), ir.Constant(_I32, 1)
        _called(builder, "llvm.prefetch.p0", ir.VoidType(), [at, to_read, near, data])
        return context.get_dummy_value()

    return types.void(start, types.intp), code
