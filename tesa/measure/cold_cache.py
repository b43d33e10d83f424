"""The bytes that are read between two calls of a kernel that is timed, so that its weights are gone from the caches."""

from functools import lru_cache

from tesa.base.hostinfo import read_cpu

OTHER_BYTES = 1 << 20
"""Read before most calls: as much as the second cache of a core commonly holds."""

MOST_BYTES = 256 << 20
"""Never more than this: it takes memory, and some 30 ms for every call."""

FEW_COLUMNS = 16
"""A kernel with so few columns reads its weights no faster than memory gives them."""

_UNKNOWN_LAST = 32 << 20  # for a system that does not tell its last cache


def other_bytes(weight: int, columns: int, second: int, last: int) -> int:
    """Bytes to read before a call. weight: bytes of the layer's with its zeros: all its kernels are timed alike;
    columns: n * batch; the rest: bytes of one core's second cache and of the last one, 0 if unknown.

    The weights of a layer were last used an inference ago, by when a large network has read as much as the last cache
    holds. Where a kernel does little more than read more weights than its second cache holds, this decides its time.
    All others are timed with what they may still have in the last cache.

    >>> other_bytes(4 << 20, 1, 1 << 20, 32 << 20) >> 20
    48
    >>> other_bytes(4 << 20, 196, 1 << 20, 32 << 20) >> 20
    1
    """
    if not 0 < columns <= FEW_COLUMNS or weight <= (second or OTHER_BYTES):
        return OTHER_BYTES
    wanted = (last or _UNKNOWN_LAST) * 3 // 2  # a cache keeps some of what is older than its size
    return max(OTHER_BYTES, min(MOST_BYTES, wanted))


@lru_cache(maxsize=1)
def host_caches() -> tuple[int, int]:
    """Bytes of the second cache of a core of this machine, and of its last one; 0 where the system does not tell."""
    sizes = {cache.level: cache.bytes for cache in read_cpu().caches}
    return sizes.get(2, 0), sizes.get(max(sizes, default=0), 0)
