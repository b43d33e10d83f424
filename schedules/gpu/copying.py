"""A kernel that copies memory, where a network's output is one of its inputs, or one of its outputs twice."""

from typing import Any

from tvm.script import tirx as T


def copy(symbol: str, size: int) -> Any:
    """A function that copies `size` bytes, four at a time where they are a multiple of it.

    >>> [str(parameter.name) for parameter in copy("copy", 8).params]
    ['source', 'target']
    """
    dtype, count = ("uint32", size // 4) if size % 4 == 0 else ("uint8", size)
    threads = min(256, count)
    blocks = -(-count // threads)

    @T.prim_func
    def copied(source: T.Buffer((count,), dtype), target: T.Buffer((count,), dtype)) -> None:
        for block in T.thread_binding(blocks, "blockIdx.x"):
            for thread in T.thread_binding(threads, "threadIdx.x"):
                if block * threads + thread < count:
                    target[block * threads + thread] = source[block * threads + thread]

    return copied.with_attr("global_symbol", symbol)
