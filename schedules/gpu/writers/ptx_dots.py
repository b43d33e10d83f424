"""Dot products of bytes as PTX: every live group of four weights is the immediate of dp4a."""

from collections.abc import Sequence

from tesa.schedules.gpu.tiling import DotGroup, DotPanel, Tiling
from tesa.schedules.gpu.writers.ptx_finish import Finish
from tesa.schedules.gpu.writers.ptx_stage import item, window
from tesa.schedules.gpu.writers.ptx_text import Registers, head
from tesa.schedules.gpus import Gpu, GpuText


def dot_arguments(tiling: Tiling, gpu: Gpu) -> tuple[str, ...]:
    """The pointers that a kernel takes, in order, by the names of Launch.arguments."""
    epilogue = tiling.problem.epilogue
    wanted = {
        "constant0": gpu.writer == "amd" and not gpu.name.startswith("gfx11"), "x": True, "scale": epilogue.scale,
        "bias": epilogue.bias, "residual": epilogue.residual, "y": True,
    }  # fmt: skip
    return tuple(name for name, there in wanted.items() if there)


class _Kernel:
    """The lines of one kernel: a tree of branches on the panel, straight-line code at its leaves."""

    def __init__(self, tiling: Tiling, gpu: Gpu) -> None:
        self.tiling, self.gpu = tiling, gpu
        self.lines: list[str] = []
        self.floats = Registers(self.lines)
        self.each = tiling.columns // tiling.threads
        self.finish = Finish(tiling, self.lines, self.floats)

    def text(self, entry: str, panels: Sequence[DotPanel]) -> str:
        names = dot_arguments(self.tiling, self.gpu)
        self._place(names)
        self._tree(panels, 0, len(panels))
        rows = max(panel.rows for panel in panels)
        return "\n".join([
            *head(self.gpu),
            f".visible .entry {entry}({', '.join(f'.param .u64 p_{name}' for name in names)})",
            f".maxntid {self.tiling.threads}, 1, 1",
            ".minnctapersm 1",
            "{",
            ".reg .pred %q, %in;",
            ".reg .b32 %id, %by, %u, %v, %cc, %row, %col, %iy, %ix, %x<4>, %z<4>, %h<4>;",
            ".reg .b64 %o, %px, %py, %pr, %bias, %scale;",
            f".reg .s32 %s<{rows * self.each}>;",
            *self.finish.declared,
            f".reg .f32 %f<{self.floats.count + 1}>;",
            *self.lines,
            "}",
            "",
        ])  # fmt: skip

    def _place(self, names: Sequence[str]) -> None:
        registers = {"x": "%px", "scale": "%scale", "bias": "%bias", "residual": "%pr", "y": "%py"}
        for name in names:
            self.lines.append(f"ld.param.u64 {registers[name]}, [p_{name}];")
            self.lines.append(f"cvta.to.global.u64 {registers[name]}, {registers[name]};")
        tiling, view = self.tiling, self.tiling.view
        self.lines += [
            "mov.u32 %id, %tid.x;",
            "mov.u32 %by, %ctaid.y;",
            "mov.u32 %u, %ctaid.x;",
            f"mad.lo.u32 %col, %u, {tiling.threads}, %id;",
            f"mul.lo.u32 %col, %col, {self.each};",
            f"min.u32 %cc, %col, {view.columns - self.each};",
        ]
        self.lines += item(tiling, "%cc", "%u", "%px")
        if view.border is None:
            self.lines += ["cvt.u64.u32 %o, %cc;", "add.u64 %px, %px, %o;"]
            return
        self.lines += [*window(view.border), "cvt.s64.s32 %o, %u;", "add.s64 %px, %px, %o;"]

    def _tree(self, panels: Sequence[DotPanel], low: int, high: int) -> None:
        if high - low == 1:
            self._leaf(panels[low])
            return
        middle = (low + high) // 2
        self.lines += [f"setp.ge.u32 %q, %by, {middle};", f"@%q bra $P{middle};"]
        self._tree(panels, low, middle)
        self.lines.append(f"$P{middle}:")
        self._tree(panels, middle, high)

    def _leaf(self, panel: DotPanel) -> None:
        self.lines += [f"mov.b32 %s{i}, 0;" for i in range(panel.rows * self.each)]
        for group in panel.groups:
            self._words(group)
            for row, word in group.words:
                for c in range(self.each):
                    a = f"%s{row * self.each + c}"
                    self.lines.append(f"dp4a.u32.s32 {a}, %z{c}, 0x{word:08X}, {a};")
        self.lines.append(f"mov.u32 %row, {panel.first};")
        pairs = 2 if self.each == 4 else 1
        sides = list(range(0, self.each, pairs))
        sums = [[[f"%s{r * self.each + side + e}" for e in range(pairs)] for side in sides] for r in range(panel.rows)]
        self.finish.sums(sums, list(range(panel.rows)), sides)
        self.lines.append("ret;")

    def _words(self, group: DotGroup) -> None:
        """%z0 ...: the four codes of each column, those of the lowest k in the lowest byte."""
        last = self.tiling.problem.k - 1
        for i in range(4):
            self._load(f"%x{i}", min(group.k + i, last))
        if self.each == 1:
            self.lines += [
                "prmt.b32 %h0, %x0, %x1, 0x0040;",
                "prmt.b32 %h1, %x2, %x3, 0x0040;",
                "prmt.b32 %z0, %h0, %h1, 0x5410;",
            ]
            return
        self.lines += [
            "prmt.b32 %h0, %x0, %x1, 0x5140;",
            "prmt.b32 %h1, %x2, %x3, 0x5140;",
            "prmt.b32 %h2, %x0, %x1, 0x7362;",
            "prmt.b32 %h3, %x2, %x3, 0x7362;",
            "prmt.b32 %z0, %h0, %h1, 0x5410;",
            "prmt.b32 %z1, %h0, %h1, 0x7632;",
            "prmt.b32 %z2, %h2, %h3, 0x5410;",
            "prmt.b32 %z3, %h2, %h3, 0x7632;",
        ]

    def _load(self, target: str, k: int) -> None:
        view, kind = self.tiling.view, "b32" if self.each == 4 else "u8"
        where = f"[%px+{int(view.offsets[k])}]"
        tap = view.masked(k)
        if tap is None or view.border is None:
            self.lines.append(f"ld.global.nc.{kind} {target}, {where};")
            return
        row, column = view.border.rows[tap[0]][0], view.border.columns[tap[1]][0]
        self.lines += [
            f"add.u32 %u, %iy, {row};",
            f"add.u32 %v, %ix, {column};",
            f"setp.lt.u32 %q, %u, {view.border.height};",
            f"setp.lt.and.u32 %in, %v, {view.border.width}, %q;",
            f"mov.b32 {target}, {self.tiling.problem.x_pad};",
            f"@%in ld.global.nc.{kind} {target}, {where};",
        ]


def write(entry: str, tiling: Tiling, panels: Sequence[DotPanel], gpu: Gpu) -> GpuText:
    """A module with one entry for the panels."""
    return GpuText(entry, "ptx", _Kernel(tiling, gpu).text(entry, panels))
