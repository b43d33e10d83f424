"""The rows of X that a step needs, as PTX: from memory to registers, as words of what a unit takes to shared memory.

A word holds the elements of 32 bits of one column that are neighbours along k. A thread brings the same columns in
every step, four neighbours where they lie one behind the other in X, else one, with zeros beyond the border.
"""

from tesa.schedules.gpu.tiling import Tiling
from tesa.schedules.gpu.view import Border
from tesa.schedules.gpu.writers.ptx_words import SCRATCH, turn, word
from tesa.schedules.gpus import Gpu

PADDING = 8
"""Words behind a row of words, so that the lanes of a fragment read from different banks."""


class Stage:
    """The lines that bring X. Registers: %x holds what is under way; %px, %pt point to the columns and their places."""

    def __init__(self, tiling: Tiling, gpu: Gpu, lines: list[str]) -> None:
        self.tiling, self.gpu, self.lines = tiling, gpu, lines
        self.per = tiling.per
        self.span = tiling.columns // (4 if tiling.wide else 1)  # threads along a row of words
        self.passes = tiling.depth // self.per * self.span // tiling.threads
        self.stride = tiling.columns + PADDING
        self.buffer = 4 * self.stride * tiling.depth // self.per
        self.taps = tiling.view.border is not None

    @property
    def place_bytes(self) -> int:
        """The bytes that say where a row of X lies."""
        return 8 if self.taps else 4

    @property
    def declared(self) -> list[str]:
        """Registers and shared memory."""
        return [
            f".shared .align 16 .b8 stage[{2 * self.buffer}];",
            *SCRATCH,
            ".reg .pred %in;",
            ".reg .b32 %t, %cr, %cc, %iy, %ix, %sw;",
            f".reg .b32 %x<{self.passes * self.per * 4}>, %e<{2 * self.per}>;",
        ]

    def columns(self) -> None:
        """The columns that this thread brings: where they begin in X, and in shared memory."""
        tiling = self.tiling
        each = 4 if tiling.wide else 1
        row = self.place_bytes * self.per
        self.lines += [
            f"and.b32 %t, %id, {self.span - 1};",
            f"shr.u32 %cr, %id, {self.span.bit_length() - 1};",
            f"mad.wide.u32 %pt, %cr, {row}, %pt;",
            f"mul.lo.u32 %u, %cr, {self.stride};",
            f"mad.lo.u32 %u, %t, {each}, %u;",
            "mad.lo.u32 %sw, %u, 4, %sw;",
            f"mad.lo.u32 %cc, %t, {each}, %cc;",
        ]
        column(tiling, self.lines, each)

    def fetch(self) -> None:
        """Elements of X for a step, to registers %x: (pass, element of a word, column)."""
        size = 2 if self.taps else 1
        down = self.tiling.threads // self.span  # rows of words that all threads bring in a pass
        for i in range(self.passes):
            at = 4 * size * self.per * down * i
            self._table(at, size)
            for e in range(self.per):
                self._element(i, e, size)

    def _table(self, at: int, size: int) -> None:
        """The places of the rows of a word: %e0, %e1, ..."""
        count = size * self.per
        for first in range(0, count, 4):
            many = min(4, count - first)
            names = ", ".join(f"%e{first + i}" for i in range(many))
            target = f"{{{names}}}" if many > 1 else names
            width = f".v{many}" if many > 1 else ""
            self.lines.append(f"ld.global.nc{width}.b32 {target}, [%pt+{at + 4 * first}];")

    def _element(self, i: int, e: int, size: int) -> None:
        first = (i * self.per + e) * 4
        byte = self.tiling.x_bytes == 1
        self.lines.append(f"cvt.s64.s32 %ad, %e{size * e};")
        self.lines.append("add.s64 %ad, %ad, %px;")
        if self.tiling.wide:
            names = ", ".join(f"%x{first + c}" for c in range(4))
            self.lines.append(
                f"ld.global.nc.b32 %x{first}, [%ad];" if byte else f"ld.global.nc.v4.b32 {{{names}}}, [%ad];"
            )
            return
        guard = ""
        if self.taps:
            guard = "@%in "
            inside(self.tiling, self.lines, f"%e{size * e + 1}")
            self.lines.append(f"mov.b32 %x{first}, {self.tiling.problem.x_pad};")
        self.lines.append(f"{guard}ld.global.nc.{'u8' if byte else 'b32'} %x{first}, [%ad];")

    def store(self) -> None:
        """The elements as words, to shared memory."""
        tiling, down = self.tiling, self.tiling.threads // self.span
        for i in range(self.passes):
            at = 4 * self.stride * down * i
            first = i * self.per * 4
            if not tiling.wide:
                word(tiling, self.gpu, self.lines, "%z0", [f"%x{first + 4 * e}" for e in range(self.per)])
                self.lines.append(f"st.shared.b32 [%sw+{at}], %z0;")
                continue
            if self.per == 4:
                turn(self.lines, [f"%x{first + 4 * e}" for e in range(4)])
            else:
                for c in range(4):
                    word(tiling, self.gpu, self.lines, f"%z{c}", [f"%x{first + 4 * e + c}" for e in range(self.per)])
            self.lines.append(f"st.shared.v4.b32 [%sw+{at}], {{%z0, %z1, %z2, %z3}};")


def column(tiling: Tiling, lines: list[str], each: int) -> None:
    """%px: where column %cc, the first of `each` neighbours, begins in X; %iy, %ix: its window, where it has a border.

    A column beyond the last one is the last one.
    """
    view, border = tiling.view, tiling.view.border
    lines.append(f"min.u32 %cc, %cc, {view.columns - each};")
    lines += item(tiling, "%cc", "%u", "%px")
    if border is None:
        lines.append(f"mad.wide.u32 %px, %cc, {tiling.x_bytes}, %px;")
        return
    lines += [*window(border), f"mad.wide.s32 %px, %u, {tiling.x_bytes}, %px;"]


def item(tiling: Tiling, column: str, spare: str, x: str) -> list[str]:
    """The lines that move an address of X to the batch item of a column, which becomes one of that item's."""
    if tiling.problem.batch == 1:
        return []
    view = tiling.view
    return [
        f"div.u32 {spare}, {column}, {view.n};",
        f"mul.wide.u32 %o, {spare}, {view.item * tiling.x_bytes};",
        f"add.u64 {x}, {x}, %o;",
        f"mul.lo.u32 {spare}, {spare}, {view.n};",
        f"sub.u32 {column}, {column}, {spare};",
    ]


def window(border: Border) -> list[str]:
    """The lines that leave where the window of column %cc begins: %iy, %ix, and %u, its element of the image."""
    return [
        f"div.u32 %u, %cc, {border.out_width};",
        f"mul.lo.u32 %v, %u, {border.out_width};",
        "sub.u32 %v, %cc, %v;",
        f"mul.lo.u32 %iy, %u, {border.stride[0]};",
        f"sub.u32 %iy, %iy, {border.padding[0]};",
        f"mul.lo.u32 %ix, %v, {border.stride[1]};",
        f"sub.u32 %ix, %ix, {border.padding[1]};",
        f"mad.lo.s32 %u, %iy, {border.width}, %ix;",
    ]


def inside(tiling: Tiling, lines: list[str], tap: str) -> None:
    """%in: whether the tap of a row of X, row | column << 16 from the window's first one, lies in the image."""
    border = tiling.view.border
    assert border is not None
    lines += [
        f"and.b32 %u, {tap}, 65535;",
        "add.u32 %u, %u, %iy;",
        f"shr.u32 %v, {tap}, 16;",
        "add.u32 %v, %v, %ix;",
        f"setp.lt.u32 %q, %u, {border.height};",
        f"setp.lt.and.u32 %in, %v, {border.width}, %q;",
    ]
