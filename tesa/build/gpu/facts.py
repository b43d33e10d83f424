"""The facts of a built GPU kernel that need no run: registers, occupancy, loads, bytes, estimated time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tesa.build.gpu.product import GpuProduct
from tesa.schedules.gpu.clock import Shape, Time, time
from tesa.schedules.gpus import Gpu


@dataclass(frozen=True)
class KernelFacts:
    """Facts of a kernel.

    registers: of a thread, the most of all entries; spills: bytes of its memory. warps: that a multiprocessor holds at
    once, of so many that it could. fmas_per_load: multiply-adds for each load of a warp. code_bytes: of instructions.
    us: estimated microseconds; bound: what bounds it; parts: microseconds of each bound.
    """

    images: str
    registers: int
    spills: int
    warps: int
    most_warps: int
    fmas_per_load: float
    code_bytes: int
    launches: int
    us: float
    bound: str
    parts: dict[str, float]

    def __str__(self) -> str:
        return (
            f"{self.images}; {self.registers} registers{f', {self.spills} bytes of spills' if self.spills else ''}, "
            f"{self.warps} of {self.most_warps} warps resident, {self.fmas_per_load:.1f} FMAs a load, "
            f"{self.code_bytes / 1024:.0f} KiB of code in {self.launches} launch{'es' if self.launches > 1 else ''}; "
            f"estimated {self.us:.1f} us, bound by {self.bound}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


def facts_of(product: GpuProduct, gpu: Gpu) -> KernelFacts:
    """The facts of a kernel, its time by the static model: of the counts that its family gave."""
    entries = {entry.name: entry for images in product.modules for entry in images[0].entries}
    registers = max((entry.registers for entry in entries.values()), default=0)
    blocks = sum(one.grid[0] * one.grid[1] * one.grid[2] for one in product.launches)
    threads = max((one.block[0] * one.block[1] * one.block[2] for one in product.launches), default=1)
    shared = max(
        (entries[one.entry].shared + one.shared for one in product.launches if one.entry in entries), default=0
    )
    found = [time(work, gpu, Shape(max(blocks // len(product.work), 1), threads, shared)) for work in product.work]
    total = found[0] if len(found) == 1 else _together(found)
    work = product.work
    loads = sum(one.loads for one in work)
    arithmetic = sum(one.fmas + one.halves + one.dots + sum(count for _, count in one.matrices) for one in work)
    resident = gpu.resident(registers or 32, threads, shared)
    return KernelFacts(
        product.said, registers, max((entry.spills for entry in entries.values()), default=0), resident,
        gpu.threads // gpu.warp, arithmetic / loads if loads else 0.0, product.code_bytes, len(product.launches),
        total.us, total.bound, total.parts,
    )  # fmt: skip


def _together(times: list[Time]) -> Time:
    parts: dict[str, float] = {}
    for one in times:
        for name, us in one.parts.items():
            parts[name] = parts.get(name, 0.0) + us
    bound = max(parts, key=lambda name: parts[name]) if parts else "launch"
    return Time(sum(one.us for one in times), bound, parts, 0.0, 0)
