"""Dot products of bytes as AMD assembly: v_dot4 with the four codes of a group in a scalar register.

AMD's unit multiplies signed bytes before gfx11: it takes X - 128, and an array says what the sums lack. Loads of some
groups are under way while others are multiplied.
"""

from collections.abc import Sequence

from tesa.schedules.gpu.tiling import DotGroup, DotPanel, Tiling
from tesa.schedules.gpu.writers.amd_finish import Finish, Scalars, divided
from tesa.schedules.gpu.writers.amd_text import Names, frame
from tesa.schedules.gpu.writers.ptx_dots import dot_arguments
from tesa.schedules.gpus import Gpu, GpuText

AHEAD = 4
"""Groups of X that are under way."""

FIRST = 24
TURN = {"s36": 0x05010400, "s37": 0x07030602, "s38": 0x05040100, "s39": 0x07060302}
"""Scalar registers with the orders of bytes that turn four words of four columns."""

MASKS = 40
"""The first of the scalar registers that say which rows and columns of a window lie inside of the image."""


class _Kernel:
    """The lines of one kernel: branches on the panel, straight-line code for each."""

    def __init__(self, entry: str, tiling: Tiling, gpu: Gpu) -> None:
        self.entry, self.tiling, self.gpu, self.names = entry, tiling, gpu, Names.of(gpu)
        self.lines: list[str] = []
        self.each = tiling.columns // tiling.threads
        self.arguments = dot_arguments(tiling, gpu)
        self.scalars = Scalars(self.arguments)
        self.words = FIRST + 4 * AHEAD
        self.sums = self.words + 8
        self.mixed = gpu.name.startswith("gfx11")
        self.bits = "b64" if self.names.lanes64 else "b32"
        self.masks: dict[tuple[str, int], str] = {}

    def text(self, panels: Sequence[DotPanel]) -> str:
        self._place()
        if len(panels) == 1:  # it may be longer than a branch reaches
            self._panel(panels[0])
        for i, panel in enumerate(panels if len(panels) > 1 else ()):
            self.lines += [f"s_cmp_lg_u32 s3, {i}", f"s_cbranch_scc1 .L{self.entry}_{i + 1}"]
            self._panel(panel)
            self.lines += ["s_endpgm", f".L{self.entry}_{i + 1}:"]
        self.lines.append("s_endpgm")
        rows = max(panel.rows for panel in panels)
        facts = {
            "vgprs": self.sums + rows * self.each, "sgprs": 80, "shared": 0, "threads": self.tiling.threads,
        }  # fmt: skip
        return frame(self.entry, self.gpu, self.lines, facts, self.arguments)

    def _place(self) -> None:
        tiling, view, add, lines = self.tiling, self.tiling.view, self.names.add, self.lines
        for i, name in enumerate(self.arguments):
            lines.append(f"{self.names.scalar_load2} {self.scalars[name]}, s[0:1], 0x{8 * i:x}")
        lines += [f"s_mov_b32 {register}, 0x{order:x}" for register, order in TURN.items() if self.each == 4]
        shift = self.each.bit_length() - 1
        lines += [
            "s_waitcnt lgkmcnt(0)",
            "v_and_b32_e32 v0, 0x3ff, v0",
            "v_mov_b32_e32 v10, 0",  # all lanes have the same rows
            f"v_lshlrev_b32_e32 v11, {shift}, v0",
            f"s_mul_i32 s28, s2, {tiling.columns}",
            f"{add} v2, s28, v11",
            f"v_min_u32_e32 v2, 0x{view.columns - self.each:x}, v2",
        ]
        if tiling.problem.batch > 1:
            lines += divided("v16", "v2", "v2", view.n, add)
            lines += [f"s_mov_b32 s28, {view.item}", "v_mul_lo_u32 v1, v16, s28"]
        else:
            lines.append("v_mov_b32_e32 v1, 0")
        if view.border is None:
            lines.append(f"{add} v1, v2, v1")
            return
        self._window()

    def _window(self) -> None:
        border, add, vcc = self.tiling.view.border, self.names.add, self.names.vcc
        assert border is not None
        sub = "v_subrev_u32_e32" if self.names.lanes64 else "v_subrev_nc_u32_e32"
        low, high = self.scalars.halves("x")
        self.lines += [
            *divided("v5", "v6", "v2", border.out_width, add),
            f"v_mul_u32_u24_e32 v5, {border.stride[0]}, v5",
            f"v_mul_u32_u24_e32 v6, {border.stride[1]}, v6",
            f"v_mul_u32_u24_e32 v2, 0x{border.width:x}, v5",
            f"{add} v1, v2, v1",
            f"{add} v1, v6, v1",
            f"{sub} v5, {border.padding[0]}, v5",
            f"{sub} v6, {border.padding[1]}, v6",
            f"s_sub_u32 {low}, {low}, {self.tiling.view.shift}",
            f"s_subb_u32 {high}, {high}, 0",
        ]
        width, at = (2 if self.names.lanes64 else 1), MASKS
        for axis, register, size, taps in (
            ("row", "v5", border.height, border.rows), ("column", "v6", border.width, border.columns),
        ):  # fmt: skip
            for tap, (far, _) in enumerate(taps):
                name = f"s[{at}:{at + 1}]" if width == 2 else f"s{at}"
                self.masks[axis, tap] = name
                at += width
                self.lines += [
                    f"{add} v2, {far}, {register}",
                    f"v_cmp_gt_u32_e32 {vcc}, 0x{size:x}, v2",
                    f"s_mov_{self.bits} {name}, {vcc}",
                ]

    def _panel(self, panel: DotPanel) -> None:
        lines, groups = self.lines, panel.groups
        lines += [f"v_mov_b32_e32 v{self.sums + i}, 0" for i in range(panel.rows * self.each)]
        for i in range(min(AHEAD, len(groups))):
            self._load(i, groups[i])
        for i, group in enumerate(groups):
            left = min(AHEAD, len(groups) - i) - 1
            lines.append(f"s_waitcnt vmcnt({4 * left})")
            self._turn(FIRST + 4 * (i % AHEAD))
            if i + AHEAD < len(groups):
                self._load(i, groups[i + AHEAD])
            for row, word in group.words:
                lines.append(f"s_mov_b32 s28, 0x{word:x}")
                for c in range(self.each):
                    a = f"v{self.sums + row * self.each + c}"
                    name, signs = ("v_dot4_i32_iu8", " neg_lo:[0,1,0]") if self.mixed else ("v_dot4_i32_i8", "")
                    lines.append(f"{name} {a}, v{self.words + c}, s28, {a}{signs}")
        lines.append(f"s_mov_b32 s6, {panel.first}")
        sums = [[f"v{self.sums + r * self.each + c}" for c in range(self.each)] for r in range(panel.rows)]
        finish = Finish(self.tiling, self.gpu, lines, self.scalars, "" if self.mixed else "constant0")
        finish.sums(sums, list(range(panel.rows)), list(range(self.each)))

    def _load(self, i: int, group: DotGroup) -> None:
        """Four rows of X, of the thread's columns, to the registers of slot i."""
        view, last = self.tiling.view, self.tiling.problem.k - 1
        low, high = self.scalars.halves("x")
        kind = self.names.load
        if self.each == 1:
            kind = kind.replace("dword", "ubyte").replace("b32", "u8")
        for e in range(4):
            k, target = min(group.k + e, last), f"v{FIRST + 4 * (i % AHEAD) + e}"
            self.lines += [f"s_add_u32 s26, {low}, 0x{int(view.offsets[k]):x}", f"s_addc_u32 s27, {high}, 0"]
            load = f"{kind} {target}, v1, s[26:27]"
            tap = view.masked(k)
            if tap is None:
                self.lines.append(load)
                continue
            kept, inside = ("s[32:33]", "s[34:35]") if self.names.lanes64 else ("s32", "s34")
            self.lines += [
                f"v_mov_b32_e32 {target}, 0x{self.tiling.problem.x_pad:x}",
                f"s_and_{self.bits} {inside}, {self.masks['row', tap[0]]}, {self.masks['column', tap[1]]}",
                f"s_and_saveexec_{self.bits} {kept}, {inside}",
                load,
                f"s_mov_{self.bits} exec{'' if self.names.lanes64 else '_lo'}, {kept}",
            ]

    def _turn(self, x: int) -> None:
        """The words of each column, from four registers of one row each."""
        w = self.words
        if self.each == 1:
            self.lines += [
                f"v_lshl_or_b32 v{w}, v{x + 1}, 8, v{x}",
                f"v_lshl_or_b32 v{w + 1}, v{x + 3}, 8, v{x + 2}",
                f"v_lshl_or_b32 v{w}, v{w + 1}, 16, v{w}",
            ]
        else:
            self.lines += [
                f"v_perm_b32 v{w + 4}, v{x + 1}, v{x}, s36",
                f"v_perm_b32 v{w + 5}, v{x + 3}, v{x + 2}, s36",
                f"v_perm_b32 v{w + 6}, v{x + 1}, v{x}, s37",
                f"v_perm_b32 v{w + 7}, v{x + 3}, v{x + 2}, s37",
                f"v_perm_b32 v{w}, v{w + 5}, v{w + 4}, s38",
                f"v_perm_b32 v{w + 1}, v{w + 5}, v{w + 4}, s39",
                f"v_perm_b32 v{w + 2}, v{w + 7}, v{w + 6}, s38",
                f"v_perm_b32 v{w + 3}, v{w + 7}, v{w + 6}, s39",
            ]
        if not self.mixed:
            self.lines += [f"v_xor_b32_e32 v{w + c}, 0x80808080, v{w + c}" for c in range(self.each)]


def write(entry: str, tiling: Tiling, panels: Sequence[DotPanel], gpu: Gpu) -> GpuText:
    """A module with one entry for the panels."""
    return GpuText(entry, "amd", _Kernel(entry, tiling, gpu).text(panels))
