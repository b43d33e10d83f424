"""Panels as PTX: every weight is the immediate of a multiply-add, every offset that of a load.

One entry is a tree of branches on the block's panel and the warp's group, with straight-line code at its leaves. No
thread leaves early and none is told apart: those behind the last column do over again what another thread does for one
of the last columns, and write the same numbers to the same places. ptxas takes some 100 us for each multiply-add, and
more for each of a large entry: modules are small.
"""

from collections.abc import Callable, Sequence

from tesa.schedules.gpu import steps
from tesa.schedules.gpu.activations import activate
from tesa.schedules.gpu.program import SLOTS, Grid, Panel
from tesa.schedules.gpu.writers.ptx_place import FAR, place
from tesa.schedules.gpu.writers.ptx_text import Registers, head, number, pair
from tesa.schedules.gpu.writers.registry import Writer, arguments, install_writer
from tesa.schedules.gpus import Gpu, GpuText

MODULE_FMAS = 8000

_PAIRS = {"float16": "f16x2", "bfloat16": "bf16x2"}

_LIMITS = {16: 40, 32: 64, 64: 88, 128: 176}
"""Registers of a thread by the rows of a panel: so that as many warps fit as the estimate counts on."""


def register_limit(rows: int) -> int:
    """Registers that the assembler may use for a panel of so many rows."""
    return next((limit for least, limit in _LIMITS.items() if rows <= least), 255)


class _Spelling:
    """The lines of one group's steps. Each kind of step has a method that is called like it."""

    def __init__(self, grid: Grid, gpu: Gpu) -> None:
        self.grid, self.gpu = grid, gpu
        self.lines: list[str] = []
        self.floats = Registers(self.lines)
        self._far: dict[tuple[str, int], str] = {}
        self.wide = 0
        self._group = 0
        self._across = range(grid.columns)
        self._row = 4 * grid.threads * grid.columns  # bytes of a row of the stage or the exchange
        self._values: dict[int, list[str]] = {}
        self._spell: dict[type[steps.Step], Callable[..., None]] = {
            steps.Load: self._load, steps.Copy: self._copy, steps.CopyRows: self._copy_rows,
            steps.Commit: lambda _: self.lines.append("cp.async.commit_group;"),
            steps.Arrive: lambda one: self.lines.append(f"cp.async.wait_group {one.pending};"),
            steps.Together: self._together, steps.Read: self._read, steps.Multiply: self._multiply,
            steps.MultiplyAdd: self._multiply, steps.Zero: self._zero, steps.Widen: self._widen, steps.Give: self._give,
            steps.Meet: lambda _: self.lines.append("bar.sync 0;"), steps.Take: self._take, steps.Bias: self._bias,
            steps.Residual: self._residual, steps.Activate: self._activate, steps.Store: self._store,
        }  # fmt: skip

    def leaf(self, program: Sequence[steps.Step], group: int) -> None:
        """The lines of one group of one panel."""
        self._far.clear()
        self._group = group
        for step in program:
            self._spell[type(step)](step)
        self.lines.append("ret;")

    def _at(self, base: str, offset: int) -> str:
        """An address: a register and an offset in bytes that fits into an instruction."""
        if -FAR <= offset < FAR:
            return f"[{base}+{offset}]"
        far = offset // FAR * FAR
        if (base, far) not in self._far:
            self._far[base, far] = f"%w{self.wide}"
            self.lines.append(f"add.s64 %w{self.wide}, {base}, {far};")
            self.wide += 1
        return f"[{self._far[base, far]}+{offset - far}]"

    def _tap(self, tap: steps.Tap, column: int, register: str) -> str:
        """The predicate %p..., or size %z..., that says whether a tap lies inside of the image for a column."""
        if tap is None:
            return ""
        row, across = tap
        if len(self.grid.view.masks) <= 16:
            return f"%{register}{row}_{across}_{column}"
        kind, name = ("pred", "%q") if register == "p" else ("b32", "%z")
        self.lines.append(f"and.{kind} {name}, %{register}r{row}_{column}, %{register}c{across}_{column};")
        return name

    def _load(self, step: steps.Load) -> None:
        targets = [f"%x{step.slot}"] if not self.grid.pairs else [f"%l{step.slot}_0", f"%l{step.slot}_1"]
        for column, target in enumerate(targets):
            guard = self._tap(step.tap, column, "p")
            if guard:
                self.lines.append(f"mov.f32 {target}, {number(0.0)};")
            where = self._at(f"%rx{column}", 4 * step.at)
            self.lines.append(f"{f'@{guard} ' if guard else ''}ld.global.nc.f32 {target}, {where};")
        if self.grid.pairs:
            self._pack(step.slot, *targets)

    def _pack(self, slot: int, low: str, high: str) -> None:
        if self.gpu.async_copies:  # as old as them
            self.lines.append(f"cvt.rn.{_PAIRS[self.grid.pairs]}.f32 %x{slot}, {high}, {low};")
            return
        self.lines.append(f"cvt.rn.f16.f32 %h0, {low};")
        self.lines.append(f"cvt.rn.f16.f32 %h1, {high};")
        self.lines.append(f"mov.b32 %x{slot}, {{%h0, %h1}};")

    def _copy(self, step: steps.Copy) -> None:
        for column in self._across:
            size = self._tap(step.tap, column, "z")
            offset = step.row * self._row + 4 * self.grid.threads * column
            where = self._at(f"%rx{column}", 4 * step.at)
            tail = f", 4, {size};" if size else ", 4;"
            self.lines.append(f"cp.async.ca.shared.global [%sl+{offset}], {where}{tail}")

    def _copy_rows(self, step: steps.CopyRows) -> None:
        each = 4 // self.grid.columns  # rows that the threads of a group copy at once
        for done in range(0, step.count, each):
            where = self._at("%rc", 4 * self.grid.view.n * (step.first + done))
            offset = (step.row + done) * self._row
            size = ""
            if done + each > step.count:
                self.lines.append(f"setp.lt.u32 %q, %cr, {step.count - done};")
                self.lines.append("selp.b32 %z, 16, 0, %q;")
                size = ", %z"
                where = self._last(step, done)
            self.lines.append(f"cp.async.cg.shared.global [%sc+{offset}], {where}, 16{size};")

    def _last(self, step: steps.CopyRows, done: int) -> str:
        """The address of the last rows of X; a thread that has none of them names its first one, and reads nothing."""
        self.lines.append(f"add.s64 %w0, %rc, {4 * self.grid.view.n * (step.first + done)};")
        self.lines.append("selp.b64 %w0, %w0, %rc, %q;")
        return "[%w0+0]"

    def _together(self, _: steps.Together) -> None:
        threads = self.grid.threads
        self.lines.append("bar.sync 0;" if self.grid.groups == 1 else f"bar.sync {self._group + 1}, {threads};")

    def _read(self, step: steps.Read) -> None:
        offset = step.row * self._row
        if not self.grid.pairs:
            self.lines.append(f"ld.shared.f32 %x{step.slot}, [%sl+{offset}];")
            return
        for column in self._across:
            place = offset + 4 * self.grid.threads * column
            self.lines.append(f"ld.shared.f32 %l{step.slot}_{column}, [%sl+{place}];")
        self._pack(step.slot, f"%l{step.slot}_0", f"%l{step.slot}_1")

    def _multiply(self, step: steps.Multiply | steps.MultiplyAdd) -> None:
        a, x, kind = f"%a{step.sum}", f"%x{step.slot}", self.grid.pairs
        first = isinstance(step, steps.Multiply)
        if kind:
            self.lines.append(f"mov.b32 %pw, {pair(step.weight, kind)};")
            self.lines.append(f"fma.rn.{_PAIRS[kind]} {a}, {x}, %pw, {'%zero' if first else a};")
        else:
            self.lines.append(f"fma.rn.f32 {a}, {x}, {number(step.weight)}, {number(0.0) if first else a};")

    def _zero(self, step: steps.Zero) -> None:
        kind, zero = ("b32", "0") if self.grid.pairs else ("f32", number(0.0))
        self.lines.append(f"mov.{kind} %a{step.sum}, {zero};")

    def _widen(self, step: steps.Widen) -> None:
        if not self.grid.pairs:
            self._values[step.sum] = [f"%a{step.sum}"]
            return
        low, high = self._values[step.sum] = [f"%v{2 * step.sum}", f"%v{2 * step.sum + 1}"]
        if self.grid.pairs == "float16":
            self.lines.append(f"mov.b32 {{%h0, %h1}}, %a{step.sum};")
            self.lines.append(f"cvt.f32.f16 {low}, %h0;")
            self.lines.append(f"cvt.f32.f16 {high}, %h1;")
        else:
            self.lines.append(f"shl.b32 %z, %a{step.sum}, 16;")
            self.lines.append(f"mov.b32 {low}, %z;")
            self.lines.append(f"and.b32 %z, %a{step.sum}, 0xFFFF0000;")
            self.lines.append(f"mov.b32 {high}, %z;")

    def _give(self, step: steps.Give) -> None:
        for column, value in enumerate(self._values[step.sum]):
            offset = step.place * self._row + 4 * self.grid.threads * column
            self.lines.append(f"st.shared.f32 [%se+{offset}], {value};")

    def _take(self, step: steps.Take) -> None:
        for column, value in enumerate(self._values[step.sum]):
            offset, found = step.place * self._row + 4 * self.grid.threads * column, self.floats.new()
            self.lines.append(f"ld.shared.f32 {found}, [%se+{offset}];")
            self.lines.append(f"add.rn.f32 {value}, {value}, {found};")

    def _bias(self, step: steps.Bias) -> None:
        found = self.floats.new()
        self.lines.append(f"ld.global.nc.f32 {found}, [%bias+{4 * step.row}];")
        for value in self._values[step.sum]:
            self.lines.append(f"add.rn.f32 {value}, {value}, {found};")

    def _residual(self, step: steps.Residual) -> None:
        for column, value in enumerate(self._values[step.sum]):
            found = self.floats.new()
            where = self._at(f"%rr{column}", 4 * self.grid.view.n * step.row)
            self.lines.append(f"ld.global.nc.f32 {found}, {where};")
            self.lines.append(f"add.rn.f32 {value}, {value}, {found};")

    def _activate(self, step: steps.Activate) -> None:
        self._values[step.sum] = [activate(self.floats, step.name, value) for value in self._values[step.sum]]

    def _store(self, step: steps.Store) -> None:
        for column, value in enumerate(self._values[step.sum]):
            where = self._at(f"%ry{column}", 4 * self.grid.view.n * step.row)
            self.lines.append(f"st.global.f32 {where}, {value};")


def write(entry: str, grid: Grid, panels: Sequence[Panel], gpu: Gpu) -> GpuText:
    """A module with one entry for the panels. See the registry."""
    spelling = _Spelling(grid, gpu)
    spelling.wide = 1  # %w0 is for addresses of a moment
    _tree(spelling, "%by", len(panels), "P", lambda p: _groups(spelling, grid, panels[p], p))
    declared, body = place(grid, arguments(grid))
    declared += [
        f".reg .{'b32' if grid.pairs else 'f32'} %x<{SLOTS}>, %a<{grid.rows}>;",
        f".reg .f32 %f<{spelling.floats.count + 1}>;",
        f".reg .b64 %w<{spelling.wide + 1}>;",
    ]
    if grid.pairs:
        loaded = ", ".join(f"%l{slot}_{column}" for slot in range(SLOTS) for column in range(2))
        declared += [f".reg .f32 %v<{2 * grid.rows}>, {loaded};", ".reg .b32 %pw, %zero;", ".reg .b16 %h<2>;"]
        body.append("mov.b32 %zero, 0;")
    parameters = ", ".join(f".param .u64 p_{name}" for name in arguments(grid))
    lines = [
        *head(gpu),
        f".visible .entry {entry}({parameters})",
        f".maxntid {grid.threads * grid.groups}, 1, 1",
        f".maxnreg {register_limit(grid.rows if not grid.pairs else 2 * grid.rows)}",
        "{",
        *declared,
        *body,
        *spelling.lines,
        "}",
        "",
    ]
    return GpuText(entry, "ptx", "\n".join(lines))


def _groups(spelling: _Spelling, grid: Grid, panel: Panel, number: int) -> None:
    _tree(spelling, "%group", grid.groups, f"G{number}_", lambda g: spelling.leaf(panel.programs[g], g))


def _tree(spelling: _Spelling, register: str, count: int, label: str, leaf: Callable[[int], None]) -> None:
    """Branches to the leaf whose number a register holds."""

    def branch(low: int, high: int) -> None:
        if high - low == 1:
            leaf(low)
            return
        middle = (low + high) // 2
        spelling.lines.append(f"setp.ge.u32 %q, {register}, {middle};")
        spelling.lines.append(f"@%q bra ${label}{middle};")
        branch(low, middle)
        spelling.lines.append(f"${label}{middle}:")
        branch(middle, high)

    branch(0, count)


install_writer(Writer("ptx", write, MODULE_FMAS, stages=True, pairs=("float16", "bfloat16")))
