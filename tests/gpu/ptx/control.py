"""Branches, barriers and what the threads of a warp do together in PTX."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.gpu.faults import Fault
from tests.gpu.ptx.machine import WARP, Block, Step
from tests.gpu.ptx.operands import Code
from tests.gpu.ptx.table import instruction


@instruction("bra")
def _branch(code: Code) -> Step:
    code.flag("uni")
    code.done(1)
    to = code.kernel.labels.get(str(code.operands[0]))
    if to is None:
        raise code.fail("no such label")

    def step(block: Block) -> None:
        block.jump = {to: block.mask}

    return step


@instruction("brx")
def _branch_by_table(code: Code) -> Step:
    code.must("idx")
    code.flag("uni")
    code.done(2)
    index, name = code.bits(0, "u32"), str(code.operands[1])
    if name not in code.kernel.tables:
        raise code.fail(f"no .branchtargets {name}")
    places = [code.kernel.labels[label] for label in code.kernel.tables[name]]

    def step(block: Block) -> None:
        chosen = np.broadcast_to(index(block), block.count)
        if (chosen[block.mask] >= len(places)).any():
            raise Fault("beyond the table of a branch")
        for i in np.unique(chosen[block.mask]).tolist():
            mask = block.mask & (chosen == i)
            block.jump[places[i]] = block.jump.get(places[i], False) | mask

    return step


@instruction("ret", "exit")
def _end(code: Code) -> Step:
    code.flag("uni")
    code.done(0)

    def step(block: Block) -> None:
        block.leaves = True

    return step


@instruction("bar", "barrier")
def _barrier(code: Code) -> Step:
    if code.flag("warp"):
        code.must("sync")
        code.done(1)
        members = code.bits(0, "u32")

        def warp(block: Block) -> None:
            _members(block, members(block))
            for each in np.unique(block.warp[block.mask]).tolist():
                block.shared.barrier([each])

        return warp
    code.flag("cta")
    stays = code.must("sync", "arrive") == "sync"
    aligned = code.name == "bar" or bool(code.flag("aligned"))
    code.done((1, 2))
    number = int(str(code.operands[0]), 0)
    needed = code.bits(1, "u32") if len(code.operands) == 2 else None

    def step(block: Block) -> None:
        if aligned:
            block.whole_warps("a barrier")
        count = int(np.broadcast_to(needed(block), block.count)[block.mask][0]) if needed else block.count
        if count % WARP and count != block.count:
            raise Fault("a barrier counts whole warps")
        block.waits = (number, count, stays)

    return step


def _members(block: Block, mask: Any) -> None:
    """A Fault where a thread that is named is not here, or one is here that is not named."""
    named = np.broadcast_to(np.asarray(mask), block.count)
    here = np.zeros(int(block.warp[-1]) + 1, np.uint64)
    np.bitwise_or.at(here, block.warp[block.mask], np.uint64(1) << block.lane[block.mask].astype(np.uint64))
    if (named[block.mask] != here[block.warp[block.mask]]).any() and block.count % WARP == 0:
        raise Fault("the threads that are here are not those that the mask names")


@instruction("shfl")
def _shuffle(code: Code) -> Step:
    code.must("sync")
    how = code.must("up", "down", "bfly", "idx")
    code.type("b32")
    code.done(5)
    target = code.operands[0]
    put = code.write(target[0] if isinstance(target, tuple) else target, "b32")
    found = code.write(target[1], "pred") if isinstance(target, tuple) else None
    a, b, c, members = (code.bits(i, "u32") for i in (1, 2, 3, 4))

    def step(block: Block) -> None:
        _members(block, members(block))
        by, bounds = (np.broadcast_to(x(block), block.count).astype(np.int64) for x in (b, c))
        block.travels = True
        value = np.broadcast_to(a(block), block.count)
        by &= 31
        clamp, segment = bounds & 31, bounds >> 8 & 31
        top = (block.lane & segment) | (clamp & ~segment)
        low = block.lane & segment
        source = {
            "up": block.lane - by,
            "down": block.lane + by,
            "bfly": block.lane ^ by,
            "idx": low | (by & ~segment),
        }[how]
        inside = source >= top if how == "up" else source <= top
        source = np.where(inside, source, block.lane) + block.warp * WARP
        there = source < block.count
        source = np.where(there, source, 0)
        own, block.unset = block.unset, None
        lost = block.mask & ~(there & block.mask[source])
        if lost.any():
            block.note(lost, "a thread of a shuffle that is not there")
        if own is not None and own[source].any():
            block.note(own[source], block.cause)
        put(block, value[source])
        if found:
            block.unset = None
            found(block, inside)

    return step


@instruction("vote")
def _vote(code: Code) -> Step:
    code.must("sync")
    how = code.must("all", "any", "ballot")
    code.type("b32" if how == "ballot" else "pred")
    code.done(3)
    put = code.write(0, "b32" if how == "ballot" else "pred")
    a, members = code.bits(1, "pred"), code.bits(2, "u32")

    def step(block: Block) -> None:
        _members(block, members(block))
        yes = np.broadcast_to(a(block), block.count).astype(bool)
        value = np.zeros(block.count, np.uint64)
        for warp in np.unique(block.warp[block.mask]).tolist():
            here = block.mask & (block.warp == warp)
            if how == "ballot":
                value[here] = (np.uint64(1) << block.lane[here & yes].astype(np.uint64)).sum()
            else:
                value[here] = yes[here].all() if how == "all" else yes[here].any()
        put(block, value)

    return step


@instruction("activemask")
def _active(code: Code) -> Step:
    code.type("b32")
    code.done(1)
    put = code.write(0, "b32")

    def step(block: Block) -> None:
        bits = np.zeros(int(block.warp[-1]) + 1, np.uint64)
        np.bitwise_or.at(bits, block.warp[block.mask], np.uint64(1) << block.lane[block.mask].astype(np.uint64))
        put(block, bits[block.warp])

    return step
