"""A kernel that copies memory, where a network's output is one of its inputs, or one of its outputs twice."""

from typing import Any

from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import flat, function, parameter

_THREADS = 256


def copy(symbol: str, size: int) -> Any:
    """A function that copies `size` bytes, four at a time where they are a multiple of it.

    >>> [str(parameter.name) for parameter in copy("copy", 8).params]
    ['source', 'target']
    """
    dtype, count = ("uint32", size // 4) if size % 4 == 0 else ("uint8", size)
    threads = min(_THREADS, count)
    with function(symbol) as builder:
        given = parameter("source", (count,), dtype), parameter("target", (count,), dtype)
        source, target = (flat(one) for one in given)
        with (
            T.launch_thread("blockIdx.x", -(-count // threads)) as block,
            T.launch_thread("threadIdx.x", threads) as thread,
            T.If(block * threads + thread < count),
            T.Then(),
        ):
            T.buffer_store(target, source[block * threads + thread], [block * threads + thread])
    return builder.get()
