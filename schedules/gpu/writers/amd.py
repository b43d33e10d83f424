"""Panels as AMD's assembly: every weight is the literal of a multiply-add, and loads are waited for one by one.

Rows of X and of Y are reached by a scalar base that moves on and a small offset; 16 loads of a thread are under way,
and each is waited for, by their count, right before its first use. Beyond the border of an image a thread loads an
element that is inside instead, and puts 0 in its place. k over groups goes through local memory. LLVM's assembler takes
some 10 us for each multiply-add. No assembler sees that a wait is missing: the tests run this text on NumPy.

Registers: v0 to v3 for addresses, 16 for X, one for each sum, and for convolutions the places of the window.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tesa.schedules.gpu import steps
from tesa.schedules.gpu.activations import activate
from tesa.schedules.gpu.program import SLOTS, Grid, Panel
from tesa.schedules.gpu.writers.amd_place import Places, place
from tesa.schedules.gpu.writers.amd_text import SPARE, Names, Recorded, frame, number
from tesa.schedules.gpu.writers.registry import Writer, arguments, install_writer
from tesa.schedules.gpus import Gpu, GpuText

MODULE_FMAS = 30_000
_FAR = 100_000  # bytes that a branch reaches, with some room
_BIASES = 8  # scalar registers from s32 on that hold a bias each
_MOST_PENDING = 63


@dataclass
class _State:
    """The state of one group's code while it is written. bases: where the scalar pointers stand, in bytes."""

    lines: list[str]
    x: int = 0
    y: int = 0
    residual: int = 0
    issued: int = 0
    here: int = 0  # loads that have come
    arrives: dict[int, int] = field(default_factory=dict)  # by slot
    taps: dict[int, str] = field(default_factory=dict)  # masks to apply when it has come, by slot
    biases: dict[int, str] = field(default_factory=dict)  # by row
    residuals: dict[int, str] = field(default_factory=dict)
    values: dict[int, str] = field(default_factory=dict)


class _Spelling:
    """The lines of one group's steps."""

    def __init__(self, grid: Grid, gpu: Gpu, places: Places) -> None:
        self.grid, self.gpu, self.places, self.names = grid, gpu, places, Names.of(gpu)
        self.reach = (1 << (gpu.offset_bits)) - 1
        self._row = 4 * grid.threads
        self.state = _State([])
        self._last_row = grid.problem.m
        self._spell: dict[type[steps.Step], Callable[..., None]] = {
            steps.Load: self._load, steps.Multiply: self._multiply, steps.MultiplyAdd: self._multiply,
            steps.Zero: lambda one: self._say(f"v_mov_b32_e32 {self._sum(one.sum)}, 0"), steps.Widen: self._widen,
            steps.Give: self._give, steps.Meet: self._meet, steps.Take: self._take, steps.Bias: self._bias,
            steps.Residual: self._residual, steps.Activate: self._activate, steps.Store: self._store,
        }  # fmt: skip

    def leaf(self, program: Sequence[steps.Step], panel: Panel) -> list[str]:
        """The lines of one group of one panel."""
        self.state, self._last_row = _State([]), panel.first + panel.rows
        for step in program:
            self._spell[type(step)](step)
        self._say("s_endpgm")
        return self.state.lines

    def _say(self, *lines: str) -> None:
        self.state.lines.extend(lines)

    def _sum(self, index: int) -> str:
        return f"v{self.places.sums + index}"

    def _slot(self, index: int) -> str:
        return f"v{self.places.slots + index}"

    def _at(self, which: str, register: int, wanted: int) -> str:
        """The operand of a scalar base and the offset behind it; the base is moved on where the offset is too far."""
        offset = wanted - getattr(self.state, which)
        if not 0 <= offset <= self.reach:
            low = offset & 0xFFFFFFFF
            self._say(f"s_add_u32 s{register}, s{register}, 0x{low:x}")
            self._say(f"s_addc_u32 s{register + 1}, s{register + 1}, {0 if offset >= 0 else -1}")
            setattr(self.state, which, wanted)
            offset = 0
        return f"s[{register}:{register + 1}]" + (f" offset:{offset}" if offset else "")

    def _load(self, step: steps.Load) -> None:
        address, mask = self.places.address(step.tap)
        if address is None:
            row, column = step.tap or (0, 0)
            address = SPARE
            self._say(f"{self.names.add} {SPARE}, {self.places.row(row)}, {self.places.column(column)}")
        where = self._at("x", self.places.x, 4 * step.at)
        self._say(f"{self.names.load} {self._slot(step.slot)}, {address}, {where}")
        self._asked(step.slot)
        if mask:
            self.state.taps[step.slot] = mask

    def _asked(self, slot: int) -> None:
        self.state.issued += 1
        self.state.arrives[slot] = self.state.issued

    def _arrived(self, slot: int) -> None:
        """Wait for the load of a slot, and for no later one."""
        state = self.state
        if state.arrives.get(slot, 0) > state.here:
            pending = min(state.issued - state.arrives[slot], _MOST_PENDING)
            self._say(f"s_waitcnt vmcnt({pending})")
            state.here = state.issued - pending
        if slot in state.taps:
            x, mask = self._slot(slot), state.taps.pop(slot)
            self._say(*self.places.masked(x, mask))

    def _multiply(self, step: steps.Multiply | steps.MultiplyAdd) -> None:
        self._arrived(step.slot)
        a, x, weight = self._sum(step.sum), self._slot(step.slot), _literal(step.weight)
        operation = "v_mul_f32_e32" if isinstance(step, steps.Multiply) else "v_fmac_f32_e32"
        self._say(f"{operation} {a}, {weight}, {x}")

    def _widen(self, step: steps.Widen) -> None:
        self.state.values[step.sum] = self._sum(step.sum)

    def _give(self, step: steps.Give) -> None:
        self._say(f"{self.names.local_write} v2, {self.state.values[step.sum]} offset:{step.place * self._row}")

    def _meet(self, _: steps.Meet) -> None:
        self._say("s_waitcnt lgkmcnt(0)", "s_barrier")

    def _take(self, step: steps.Take) -> None:
        value = self.state.values[step.sum]
        self._say(f"{self.names.local_read} v3, v2 offset:{step.place * self._row}")
        self._say("s_waitcnt lgkmcnt(0)", f"v_add_f32_e32 {value}, {value}, v3")

    def _bias(self, step: steps.Bias) -> None:
        state = self.state
        if step.row not in state.biases:
            rows = range(step.row, min(step.row + _BIASES, self._last_row))
            state.biases = {row: f"s{32 + i}" for i, row in enumerate(rows)}
            base = f"s[{self.places.bias}:{self.places.bias + 1}]"
            self._say(*(f"{self.names.scalar_load} {s}, {base}, 0x{4 * r:x}" for r, s in state.biases.items()))
            self._say("s_waitcnt lgkmcnt(0)")
        value = state.values[step.sum]
        self._say(f"v_add_f32_e32 {value}, {state.biases[step.row]}, {value}")

    def _residual(self, step: steps.Residual) -> None:
        state = self.state
        if step.row not in state.residuals:
            rows = range(step.row, min(step.row + SLOTS // 2, self._last_row))
            state.residuals = {row: self._slot(i) for i, row in enumerate(rows)}
            for row, slot in state.residuals.items():
                where = self._at("residual", self.places.residual, 4 * self.grid.view.n * row)
                self._say(f"{self.names.load} {slot}, v1, {where}")
            self._say("s_waitcnt vmcnt(0)")
        value = state.values[step.sum]
        self._say(f"v_add_f32_e32 {value}, {value}, {state.residuals[step.row]}")

    def _activate(self, step: steps.Activate) -> None:
        recorded = Recorded()
        result = activate(recorded, step.name, self.state.values[step.sum])
        free = [self._slot(i) for i in range(SLOTS // 2, SLOTS)]
        lines, self.state.values[step.sum] = recorded.lines(result, free, self.names.vcc)
        self._say(*lines)

    def _store(self, step: steps.Store) -> None:
        where = self._at("y", self.places.y, 4 * self.grid.view.n * step.row)
        self._say(f"{self.names.store} v1, {self.state.values[step.sum]}, {where}")


def _literal(value: float) -> str:
    """The weight as a literal, also where there is a shorter form: weights are counted by them."""
    return f"0x{int(np.float32(value).view(np.uint32)):x}" if value else number(value)


def write(entry: str, grid: Grid, panels: Sequence[Panel], gpu: Gpu) -> GpuText:
    """A module with one entry for the panels. See the registry."""
    lines, places = place(grid, gpu, arguments(grid))
    spelling = _Spelling(grid, gpu, places)
    leaves = [_tree("s20", [spelling.leaf(p, panel) for p in panel.programs], f"{entry}_g{i}")
              for i, panel in enumerate(panels)]  # fmt: skip
    body = _tree("s3", leaves, f"{entry}_p")
    facts = {
        "vgprs": places.registers, "sgprs": places.scalars, "shared": grid.exchange_bytes,
        "threads": grid.threads * grid.groups,
    }  # fmt: skip
    return GpuText(entry, "amd", frame(entry, gpu, [*lines, *body], facts, arguments(grid)))


def _tree(register: str, leaves: Sequence[list[str]], label: str) -> list[str]:
    """Branches to the leaf whose number a scalar register holds."""

    def branch(low: int, high: int) -> list[str]:
        if high - low == 1:
            return leaves[low]
        middle = (low + high) // 2
        first, target = branch(low, middle), f".L{label}_{middle}"
        lines = [f"s_cmp_ge_u32 {register}, {middle}"]
        if 8 * len(first) < _FAR:
            lines.append(f"s_cbranch_scc1 {target}")
        else:
            lines += [
                f"s_cbranch_scc0 {target}n", "s_getpc_b64 s[24:25]", f"{target}c:",
                f"s_add_u32 s24, s24, {target}-{target}c", "s_addc_u32 s25, s25, 0", "s_setpc_b64 s[24:25]",
                f"{target}n:",
            ]  # fmt: skip
        return [*lines, *first, f"{target}:", *branch(middle, high)]

    return branch(0, len(leaves))


install_writer(Writer("amd", write, MODULE_FMAS))
