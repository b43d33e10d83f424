"""Tiles on matrix units and what stands alone, in one kernel: a sum of two pieces that never meets in memory.

Before:
    for j, m:  Y[m, j] = epilogue(sum_k (W1 + W2)[m, k] * X[offset(k) + j])       W1: tiles, W2: single non-zeros

After, with the blocks of threads of blocks.py:
    for blocks of columns (blockIdx.x), for row blocks (blockIdx.y):
        sums of W1, by the matrix unit                                            see blocks.py
        for the rows m of a lane, for groups of 4 non-zeros of row m of W2:        a loop; their number is data
            x[e, c] = X[offset(k of e) + c]   for 4 non-zeros, for the lane's columns
            sums[m, c] += W2 * x[e, c]
        Y = epilogue(sums)

W2 is data as W1 is: any weight takes the same small code. A lane of a matrix unit has two neighbouring columns of some
rows, so that one load of two numbers feeds two multiply-adds: half as many as panels do for each load, and twice as
many as a kernel alone that walks along a row. W2 X is computed in float32, or in int32 beside codes.

A "mixed" problem, codes with float32 outliers among them, is the same: the int32 sums of the codes become numbers, and
the outliers are added. After SparTA's two mixed cases (Zheng et al., OSDI 2022, section 4.2), each of which is two
kernels and a sum through memory there.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.gpu import blocks, blocks_space
from tesa.schedules.gpu.scattered import GROUP, batches, group_bytes, scattered, turns
from tesa.schedules.gpu.tiling import HELD, Steps, Tiling, live_steps, steps, two_of_four
from tesa.schedules.gpu.writers import amd_scattered, amd_tiles, ptx_scattered, ptx_tiles
from tesa.schedules.gpus import Gpu, GpuCode, Launch, Work
from tesa.schedules.types import Config, FloatArray, Problem

_WRITERS = {"ptx": ptx_scattered, "amd": amd_scattered}
_TILES = {"ptx": ptx_tiles, "amd": amd_tiles}


@dataclass(frozen=True)
class Load:
    """The work of a kernel. live: tiles of each row block; alone: non-zeros of each row of W that stand alone;
    columns: of X that these name, those of each row block counted once."""

    tiling: Tiling
    live: NDArray[np.int64]
    alone: NDArray[np.int64]
    columns: float

    def work(self, gpu: Gpu) -> Work:
        """Counts, for the static model of time."""
        tiling = self.tiling
        done = blocks_space.counts(tiling, gpu, int(self.live.sum()))
        warps = tiling.threads // gpu.warp
        # groups that a warp takes at once, one of each row of a lane; columns of a lane
        rows = len(batches(gpu)) // (batches(gpu).max() + 1)
        groups = float(turns(tiling, gpu, self.alone).sum()) * tiling.across * warps * rows
        sums = tiling.columns // warps // (gpu.warp // _side_by_side(gpu))
        loads = sums / 2 if tiling.wide and gpu.writer == "ptx" else sums
        alone = float(self.alone.sum())
        return replace(
            done,
            fmas=groups * GROUP * sums,
            loads=done.loads + groups * (GROUP * loads + group_bytes(tiling) / 16),
            others=done.others + groups * (GROUP * (2 + loads * (1 if tiling.view.border is None else 8)) + 4),
            l2=done.l2 + self.columns * tiling.across * tiling.columns * tiling.x_bytes,
            memory=done.memory + alone * group_bytes(tiling) / GROUP,
            registers=min(255, done.registers + rows * GROUP * sums),
        )

    def milliseconds(self, gpu: Gpu) -> float:
        """The time by the static model."""
        most = int(turns(self.tiling, gpu, self.alone).max(initial=0))
        waits = (most + 1) if gpu.writer == "ptx" else 2 * most  # PTX reads a group while it waits for another's X
        return blocks_space.milliseconds(self.tiling, gpu, self.work(gpu), self.live, waits * gpu.rates.l2_latency)


@dataclass(frozen=True, eq=False)
class Mixed:
    """A weight in two pieces, (m, k) each: tiles for the matrix units, and what is computed one by one."""

    problem: Problem
    tiles: FloatArray = field(repr=False)
    alone: FloatArray = field(repr=False)

    @cached_property
    def exact(self) -> Problem:
        """The problem as the matrix unit sees it: of codes where the problem has codes and outliers."""
        return replace(self.problem, dtype="int8") if self.problem.dtype == "mixed" else self.problem

    def refusal(self, gpu: Gpu) -> str:
        """The reason why there is no such kernel, "" where there is one."""
        return blocks_space.refusal(self.exact, self.tiles, gpu)

    def tiling(self, gpu: Gpu, config: Config) -> Tiling:
        """The tiling of a configuration. ValueError where the GPU has no such instruction."""
        return replace(blocks_space.tiling_of(self.exact, gpu, config), problem=self.problem)

    def fits(self, gpu: Gpu, tiling: Tiling) -> bool:
        """False where a thread would need more registers than there are, and for ways whose kernels end otherwise."""
        if tiling.way != HELD:
            return False
        if gpu.writer == "amd":
            return amd_scattered.registers(tiling, gpu) <= gpu.thread_registers
        return tiling.rows * tiling.columns // tiling.threads <= 32  # beside which a group's elements find room

    def space(self, gpu: Gpu) -> list[Config]:
        """The configurations, the one that is expected to be the fastest first."""
        if self.refusal(gpu):
            return []
        found = [c for c in blocks_space.space(self.exact, self.tiles, gpu) if self.fits(gpu, self.tiling(gpu, c))]
        return sorted(found, key=lambda config: self.estimate(gpu, config))

    def work(self, gpu: Gpu, config: Config) -> Work:
        """Counts of what a configuration does."""
        return self._load(gpu, config).work(gpu)

    def estimate(self, gpu: Gpu, config: Config) -> float:
        """Milliseconds, from the counts and the nominal rates of the GPU."""
        return self._load(gpu, config).milliseconds(gpu)

    def _load(self, gpu: Gpu, config: Config) -> Load:
        tiling = self.tiling(gpu, config)
        live = live_steps(self.tiles, tiling.rows, tiling.depth)
        columns = float(live_steps(self.alone, tiling.rows, 1).sum())
        return Load(tiling, live, np.count_nonzero(self.alone, axis=1), columns)

    def emit(self, gpu: Gpu, config: Config, symbol: str) -> GpuCode:
        """The kernel. ValueError for what has none."""
        reason = self.refusal(gpu)
        if reason:
            raise ValueError(f"no kernel of tiles and single elements: {reason}")
        if config["sparse"] and not two_of_four(self.tiles):
            raise ValueError("no kernel of two in four weights: some four neighbours have more than two non-zeros")
        tiling = self.tiling(gpu, config)
        if not blocks_space.fits(tiling, gpu) or not self.fits(gpu, tiling):
            raise ValueError("no kernel of tiles and single elements: its threads would need too many registers")
        found: Steps = steps(tiling, self.tiles)
        rest = scattered(tiling, gpu, self.alone, found.blocks[:, 2])
        writer, plain = _WRITERS[gpu.writer], _TILES[gpu.writer]
        given = {"constant0": blocks.packed(tiling, found, gpu), "constant1": found.blocks, "constant2": found.rows}
        if "constant3" in plain.tile_arguments(tiling):
            given["constant3"] = blocks.missing(self.tiles, tiling.rows)
        given |= {writer.ROWS: rest.rows, writer.GROUPS: rest.groups}
        numbers = {name: f"constant{i}" for i, name in enumerate(given)}  # without a gap
        arguments = tuple(numbers.get(name, name) for name in writer.mixed_arguments(tiling))
        constants = tuple(array if array.size else np.zeros(4, array.dtype) for array in given.values())
        text = writer.write(symbol, tiling, gpu)
        launch = Launch(text.name, (tiling.across, len(found.blocks), 1), (tiling.threads, 1, 1), arguments)
        return GpuCode((text,), (launch,), constants, work=(self.work(gpu, config),))


def _side_by_side(gpu: Gpu) -> int:
    """Batches whose entries the lanes of a warp read side by side."""
    return 8 if gpu.writer == "ptx" else gpu.warp // 16
