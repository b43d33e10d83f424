"""The memory of a pretended GPU: arrays of NumPy at addresses."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.faults import Fault

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]

FIRST = 1 << 44
STEP = 1 << 36


class Memory:
    """Arrays that a kernel may read and write, each with nothing around it: an access beside them is a Fault.

    `place` puts an array at a made-up address, 128 bytes below a multiple of 2^32, so that a kernel that adds
    addresses without the carry reads elsewhere. `lend` makes bytes of this process visible at their own address,
    which is what a mock driver needs whose caller passes pointers. A read-only array must not be written.

    >>> memory = Memory()
    >>> address = memory.place(np.arange(4, dtype=np.float32))
    >>> memory.read(np.array([address + 4], np.uint64), 4, "x").view(np.float32)
    array([[1.]], dtype=float32)
    """

    def __init__(self) -> None:
        self._arrays: list[tuple[int, Bytes]] = []
        self._writers: dict[int, NDArray[np.int64]] = {}
        self._next = FIRST

    def place(self, array: NDArray[Any]) -> int:
        """The address of an array, which stays where it is in this process and is written in place."""
        if not array.flags.c_contiguous:
            raise ValueError("an array of a kernel is contiguous")
        start = self._next - 128
        self._next += STEP
        self._arrays.append((start, array.reshape(-1).view(np.uint8)))
        return start

    def lend(self, address: int, size: int) -> None:
        """Let kernels reach `size` bytes of this process at `address`."""
        host = (ctypes.c_uint8 * size).from_address(address)
        self._arrays.append((address, np.frombuffer(host, np.uint8)))

    def take_back(self, address: int) -> None:
        """Forget what was placed or lent at an address."""
        self._arrays = [(start, array) for start, array in self._arrays if start != address]

    def read(self, addresses: NDArray[np.uint64], size: int, what: str) -> Bytes:
        """(n, size) bytes from n addresses."""
        found = np.empty((len(addresses), size), np.uint8)
        for chosen, array, places in self._find(addresses, size, what):
            found[chosen] = array[places]
        return found

    def begin(self) -> None:
        """A launch begins: what was written before it is settled."""
        self._writers.clear()

    def write(self, addresses: NDArray[np.uint64], values: Bytes, what: str, threads: Indices | None = None) -> None:
        """Put (n, size) bytes to n addresses.

        Where two meet, also of other instructions or blocks of the launch, they have to bring the same: nobody knows
        which comes last. threads: n numbers, of the grid, that tell them apart; none for atomic additions.
        """
        for chosen, array, places in self._find(addresses, values.shape[1], what):
            if not array.flags.writeable:
                raise Fault(f"{what}: an array that is only read is written")
            if threads is not None:
                by = self._writers.setdefault(array.ctypes.data, np.full(len(array), -1))
                other = (by[places] >= 0) & (by[places] != threads[chosen][:, None])
                if (other & (array[places] != values[chosen])).any():
                    raise Fault(f"{what}: two threads write different values to one place")
                by[places] = threads[chosen][:, None]
            array[places] = values[chosen]
            if (array[places] != values[chosen]).any():
                raise Fault(f"{what}: two threads write different values to one place")

    def add(self, addresses: NDArray[np.uint64], dtype: str, values: NDArray[Any], what: str) -> NDArray[Any]:
        """Add n numbers to those at n addresses, one after the other; what was there before each."""
        size = values.dtype.itemsize
        before = np.empty_like(values)
        for at in range(len(addresses)):
            there = self.read(addresses[at : at + 1], size, what).view(dtype)[0]
            before[at] = there[0]
            self.write(addresses[at : at + 1], (there + values[at]).astype(dtype).view(np.uint8)[None], what)
        return before

    def _find(self, addresses: NDArray[np.uint64], size: int, what: str) -> list[tuple[Any, Bytes, Indices]]:
        """For each array that is hit: which of the addresses, the array, and (n, size) places in it."""
        if not len(addresses):
            return []
        bytes_of = np.arange(size)
        low, high = int(addresses.min()), int(addresses.max()) + size
        for start, array in self._arrays:
            if start <= low and high <= start + len(array):
                return [(slice(None), array, (addresses - np.uint64(start)).astype(np.int64)[:, None] + bytes_of)]
        found = []
        left = np.ones(len(addresses), bool)
        for start, array in self._arrays:
            inside = (addresses >= np.uint64(start)) & (addresses + np.uint64(size) <= np.uint64(start + len(array)))
            if inside.any():
                left &= ~inside
                places = (addresses[inside] - np.uint64(start)).astype(np.int64)[:, None] + bytes_of
                found.append((inside, array, places))
        if left.any():
            raise Fault(f"{what}: {size} bytes at {int(addresses[left][0]):#x} are in no array")
        return found
