"""The shared memory of one block, with what it takes to see a race: which thread touched which byte, and when."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tests.gpu.faults import Fault

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]
SEVERAL = -2


class Shared:
    """Bytes of a block. Its warps have vector clocks (Lamport's happens-before): two accesses to a byte by different
    threads, one of them a write, are a race unless a barrier that both took part in lies between.

    lockstep: the lanes of a wave see each other's writes without a barrier, as on AMD; else a warp needs its own.
    A byte that is read before it is written, or while an asynchronous copy to it is under way, is a Fault too.
    grain: bytes that are always touched together, so that one note of who touched them is enough.
    """

    def __init__(self, size: int, threads: int, warp: int, lockstep: bool, grain: int = 1) -> None:
        self.data = np.zeros(size, np.uint8)
        self._grain = grain
        size = -(-size // grain)
        self._warp, self._lockstep = warp, lockstep
        warps = -(-threads // warp)
        self._seen = np.zeros((warps, warps), np.int32)  # [w, v]: until when w knows all that v did
        self._now = np.ones(warps, np.int32)
        self._written_at = np.zeros(size, np.int32)
        self._written_by = np.full(size, -1, np.int32)
        self._read_at = np.zeros((size, warps), np.int32)
        self._read_by = np.full((size, warps), -1, np.int32)
        self._under_way = np.zeros(size, bool)
        self._fenced_at = np.full(size, -1, np.int32)
        self._held = np.zeros(size, np.int32)

    def read(self, places: Indices, threads: Indices) -> Bytes:
        """(n, size) bytes for n threads, which read them now."""
        self._inside(places)
        data, places = self.data[places], self._notes(places)
        if (self._written_by[places] < 0).any():
            raise Fault(f"shared memory is read before it is written, at byte {self._first(places)}")
        if self._under_way[places].any():
            raise Fault("shared memory is read before the copy to it was waited for")
        self._behind_writes(places, threads)
        warps = (threads // self._warp)[:, None]
        again = (self._read_at[places, warps] == self._now[warps]) & (self._read_by[places, warps] != threads[:, None])
        mine = np.where(again, SEVERAL, threads[:, None])
        self._read_by[places, warps] = mine
        together = self._read_by[places, warps] != mine
        if together.any():
            self._read_by[places[together], np.broadcast_to(warps, places.shape)[together]] = SEVERAL
        self._read_at[places, warps] = self._now[warps]
        return data

    def write(self, places: Indices, threads: Indices, values: Bytes) -> None:
        """Put (n, size) bytes of n threads."""
        self.reserve(places, threads)
        self._under_way[self._notes(places)] = False
        self.data[places] = values
        if (self.data[places] != values).any():
            raise Fault("two threads write different values to one byte of shared memory")

    def reserve(self, places: Indices, threads: Indices) -> None:
        """An asynchronous copy of n threads to (n, size) bytes begins."""
        self._inside(places)
        places = self._notes(places)
        if self._under_way[places].any():
            raise Fault("shared memory is written while a copy to it is under way")
        if self._held[places].any():
            raise Fault("shared memory is written while a matrix unit reads it")
        self._fenced_at[places] = -1
        self._behind_writes(places, threads)
        warps = threads // self._warp
        for reader in range(len(self._now)):
            at, by = self._read_at[places, reader], self._read_by[places, reader]
            late = at > self._limit(warps, reader)[:, None]
            own = (warps == reader)[:, None]
            late &= ~(own & (self._lockstep | (by == threads[:, None])))
            if late.any():
                byte = int(places[late][0]) * self._grain
                raise Fault(f"a race: byte {byte} of shared memory is written after another thread read it")
        self._written_at[places] = self._now[warps][:, None]
        self._written_by[places] = threads[:, None]
        self._under_way[places] = True

    def land(self, places: Indices, threads: Indices, values: Bytes) -> None:
        """The copies of n threads, waited for by them, are there now; others see them behind a barrier."""
        self.data[places] = values
        places = self._notes(places)
        self._under_way[places] = False
        self._fenced_at[places] = -1
        self._written_at[places] = self._now[threads // self._warp][:, None]

    def fence(self, threads: Indices) -> None:
        """What these threads wrote, and waited for, may be read by matrix units that know of it by a barrier."""
        own = np.isin(self._written_by, threads) & ~self._under_way & (self._fenced_at < 0)
        self._fenced_at[own] = self._now[self._written_by[own] // self._warp]

    def held(self, places: Indices, threads: Indices) -> Bytes:
        """The bytes at places of any shape, which a matrix unit reads from now on, for the first lanes of warps."""
        flat = np.broadcast_to(places.reshape(1, -1), (len(threads), places.size))
        data = self.read(flat, threads)[0].reshape(places.shape)
        notes = self._notes(flat)[0]
        writer, at = self._written_by[notes] // self._warp, self._fenced_at[notes]
        if (at < 0).any():
            raise Fault("a matrix unit reads shared memory with no fence.proxy.async since it was written")
        for warp in (threads // self._warp).tolist():
            if ((at > self._seen[warp, writer]) & (writer != warp)).any():
                raise Fault("a matrix unit reads shared memory with no barrier since another warp's fence.proxy.async")
        np.add.at(self._held, notes, 1)
        return data

    def release(self, places: Indices, threads: Indices) -> None:
        """A matrix unit has read what it held, only now."""
        flat = np.broadcast_to(places.reshape(1, -1), (len(threads), places.size))
        np.subtract.at(self._held, self._notes(flat)[0], 1)
        self.read(flat, threads)

    def again(self, places: Indices, threads: Indices) -> None:
        """What these threads wrote before the last barrier was still under way then: it counts as written now."""
        self._written_at[self._notes(places)] = self._now[threads // self._warp][:, None]

    def barrier(self, warps: Iterable[int]) -> None:
        """These warps have met: each knows what the others did."""
        group = np.array(sorted(set(warps)))
        for warp in group:
            self._seen[warp, warp] = self._now[warp]
        self._seen[group] = self._seen[group].max(0)
        self._now[group] += 1

    def _limit(self, warps: Indices, other: int | Indices) -> NDArray[np.int32]:
        """Until when these warps know what another one did."""
        return self._seen[warps, other]

    def _behind_writes(self, places: Indices, threads: Indices) -> None:
        by, at = self._written_by[places], self._written_at[places]
        warps = (threads // self._warp)[:, None]
        writer = np.maximum(by, 0) // self._warp
        late = (by >= 0) & (by != threads[:, None]) & (at > self._seen[warps, writer])
        if self._lockstep:
            late &= writer != warps
        if late.any():
            byte = int(places[late][0]) * self._grain
            raise Fault(f"a race: another thread wrote byte {byte} of shared memory, with no barrier since")

    def _inside(self, places: Indices) -> None:
        if len(places) and (places.min() < 0 or places.max() >= len(self.data)):
            raise Fault(f"outside of shared memory: byte {int(places.max())} of {len(self.data)}")

    def _notes(self, places: Indices) -> Indices:
        """The notes of (n, size) bytes."""
        return places[:, :: self._grain] // self._grain

    def _first(self, notes: Indices) -> int:
        """The first byte that was never written."""
        return int(notes[self._written_by[notes] < 0][0]) * self._grain
