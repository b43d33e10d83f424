"""Panels as AMD's assembly: every weight is the literal of a multiply-add, and loads are waited for one by one.

Rows of X and of Y are reached by a scalar base that moves on and a small offset; 16 loads of a thread are under way,
and each is waited for, by their count, right before its first use. Beyond the border of an image a thread loads an
element that is inside instead, and puts 0 in its place. k over groups goes through local memory. LLVM's assembler takes
some 10 us for each multiply-add. No assembler sees that a wait is missing: the tests run this text on NumPy.

Where sums are pairs of float16, a thread has two columns: their elements of X become a pair when they have come, and a
weight is the 16 bits of a scalar instruction, whose register the multiply-add reads for both halves.

Registers: v0 to v3 for addresses, 16 for X, or 32 of pairs, one for each sum, and for convolutions the places of the
window of each column.
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
_WEIGHTS = ("s28", "s29", "s30", "s31")  # of which each is read while the next ones are set


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
    fresh: dict[int, str] = field(default_factory=dict)  # what has not been used yet: the mask to apply, by slot
    biases: dict[int, str] = field(default_factory=dict)  # by row
    residuals: dict[int, list[str]] = field(default_factory=dict)
    values: dict[int, list[str]] = field(default_factory=dict)
    multiplied: int = 0


class _Spelling:
    """The lines of one group's steps."""

    def __init__(self, grid: Grid, gpu: Gpu, places: Places) -> None:
        self.grid, self.gpu, self.places, self.names = grid, gpu, places, Names.of(gpu)
        self.reach = (1 << (gpu.offset_bits)) - 1
        self._row = 4 * grid.threads * grid.columns
        self.state = _State([])
        self._last_row = grid.problem.m
        self._spell: dict[type[steps.Step], Callable[..., None]] = {
            steps.Load: self._load, steps.Multiply: self._multiply, steps.MultiplyAdd: self._multiply,
            steps.Zero: lambda one: self._say(f"v_mov_b32_e32 {self._sum(one.sum)}, 0"),
            steps.Widen: lambda _: None,  # when it is used: two registers are then enough for all halves
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

    def _slot(self, index: int, column: int = 0) -> str:
        return f"v{(self.places.second if column else self.places.slots) + index}"

    def _values(self, index: int) -> list[str]:
        """The registers of a sum's values: itself, or both halves of a pair as float32."""
        if not self.grid.pairs:
            return self.state.values.setdefault(index, [self._sum(index)])
        if index not in self.state.values:
            low, high = found = [self._slot(SLOTS - 1, 1), self._slot(SLOTS - 2, 1)]
            self._say(f"v_lshrrev_b32_e32 {high}, 16, {self._sum(index)}")
            self._say(f"v_cvt_f32_f16_e64 {low}, {self._sum(index)}", f"v_cvt_f32_f16_e64 {high}, {high}")
            self.state.values = {index: found}
        return self.state.values[index]

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
        for beside, own in enumerate(self.places.columns):
            address, mask = own.address(step.tap)
            if address is None:
                row, column = step.tap or (0, 0)
                address = SPARE
                self._say(f"{self.names.add} {SPARE}, {own.row(row)}, {own.column(column)}")
            where = self._at("x", self.places.x, 4 * step.at)
            self._say(f"{self.names.load} {self._slot(step.slot, beside)}, {address}, {where}")
            self.state.issued += 1
            self.state.fresh[step.slot] = mask
        self.state.arrives[step.slot] = self.state.issued

    def _arrived(self, slot: int) -> None:
        """Wait for the loads of a slot, and for no later one; elements of two columns become a pair."""
        state = self.state
        if state.arrives.get(slot, 0) > state.here:
            pending = min(state.issued - state.arrives[slot], _MOST_PENDING)
            self._say(f"s_waitcnt vmcnt({pending})")
            state.here = state.issued - pending
        if slot not in state.fresh:
            return
        mask = state.fresh.pop(slot)
        loaded = [self._slot(slot, column) for column in range(self.grid.columns)]
        for x, own in zip(loaded, self.places.columns, strict=True):
            self._say(*(own.masked(x, mask) if mask else ()))
        if self.grid.pairs:
            low, high = loaded
            self._say(*(f"v_cvt_f16_f32_e64 {x}, {x}" for x in loaded), f"v_pack_b32_f16 {low}, {low}, {high}")

    def _multiply(self, step: steps.Multiply | steps.MultiplyAdd) -> None:
        self._arrived(step.slot)
        a, x, first = self._sum(step.sum), self._slot(step.slot), isinstance(step, steps.Multiply)
        if not self.grid.pairs:
            self._say(f"{'v_mul_f32_e32' if first else 'v_fmac_f32_e32'} {a}, {_literal(step.weight)}, {x}")
            return
        weight = _WEIGHTS[self.state.multiplied % len(_WEIGHTS)]
        self.state.multiplied += 1
        self._say(f"s_movk_i32 {weight}, 0x{int(np.float16(step.weight).view(np.uint16)):x}")
        # both halves take the lower 16 bits of the weight's register
        if first:
            self._say(f"v_pk_mul_f16 {a}, {x}, {weight} op_sel_hi:[1,0]")
        else:
            self._say(f"v_pk_fma_f16 {a}, {x}, {weight}, {a} op_sel_hi:[1,0,1]")

    def _exchanged(self, place: int, column: int) -> int:
        """Where the value of a column lies in local memory, behind v2."""
        return place * self._row + 4 * self.grid.threads * column

    def _give(self, step: steps.Give) -> None:
        for column, value in enumerate(self._values(step.sum)):
            self._say(f"{self.names.local_write} v2, {value} offset:{self._exchanged(step.place, column)}")

    def _meet(self, _: steps.Meet) -> None:
        self._say("s_waitcnt lgkmcnt(0)", "s_barrier")

    def _take(self, step: steps.Take) -> None:
        for column, value in enumerate(self._values(step.sum)):
            self._say(f"{self.names.local_read} v3, v2 offset:{self._exchanged(step.place, column)}")
            self._say("s_waitcnt lgkmcnt(0)", f"v_add_f32_e32 {value}, {value}, v3")

    def _bias(self, step: steps.Bias) -> None:
        state = self.state
        if step.row not in state.biases:
            rows = range(step.row, min(step.row + _BIASES, self._last_row))
            state.biases = {row: f"s{32 + i}" for i, row in enumerate(rows)}
            base = f"s[{self.places.bias}:{self.places.bias + 1}]"
            self._say(*(f"{self.names.scalar_load} {s}, {base}, 0x{4 * r:x}" for r, s in state.biases.items()))
            self._say("s_waitcnt lgkmcnt(0)")
        self._say(*(f"v_add_f32_e32 {v}, {state.biases[step.row]}, {v}" for v in self._values(step.sum)))

    def _residual(self, step: steps.Residual) -> None:
        state = self.state
        if step.row not in state.residuals:
            rows = range(step.row, min(step.row + SLOTS // 2, self._last_row))
            state.residuals = {row: [self._slot(i, c) for c in range(self.grid.columns)] for i, row in enumerate(rows)}
            for row, slots in state.residuals.items():
                where = self._at("residual", self.places.residual, 4 * self.grid.view.n * row)
                for slot, own in zip(slots, self.places.columns, strict=True):
                    self._say(f"{self.names.load} {slot}, {own.y}, {where}")
            self._say("s_waitcnt vmcnt(0)")
        for value, found in zip(self._values(step.sum), state.residuals[step.row], strict=True):
            self._say(f"v_add_f32_e32 {value}, {value}, {found}")

    def _activate(self, step: steps.Activate) -> None:
        free = [self._slot(i) for i in range(SLOTS // 2, SLOTS)]
        found = []
        for value in self._values(step.sum):
            recorded = Recorded()
            result = activate(recorded, step.name, value)
            lines, register = recorded.lines(result, free, self.names.vcc)
            self._say(*lines)
            if self.grid.pairs and register != value:  # the other column's takes the same registers
                self._say(f"v_mov_b32_e32 {value}, {register}")
                register = value
            found.append(register)
        self.state.values[step.sum] = found

    def _store(self, step: steps.Store) -> None:
        where = self._at("y", self.places.y, 4 * self.grid.view.n * step.row)
        for value, own in zip(self._values(step.sum), self.places.columns, strict=True):
            self._say(f"{self.names.store} {own.y}, {value}, {where}")


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


install_writer(Writer("amd", write, MODULE_FMAS, pairs=("float16",)))
