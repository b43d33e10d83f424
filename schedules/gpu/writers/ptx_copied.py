"""Kernels of tiles as PTX in which X and W come to shared memory by asynchronous copies, some steps ahead.

X lies there as it lies in memory, row by row, and becomes words of what the unit takes on its way to registers. A lane
reads some neighbouring columns of a row at once: they are columns of as many tiles, so that column g of tile c is
column `span` g + c of the warp's. W lies in the order of fragments. Copies need no registers while they are under way,
and a step waits for those that were begun some steps before.
"""

from tesa.schedules.gpu.tiling import Tiling
from tesa.schedules.gpu.writers.ptx_finish import Finish
from tesa.schedules.gpu.writers.ptx_stage import column, inside
from tesa.schedules.gpu.writers.ptx_tiles import Tiles
from tesa.schedules.gpu.writers.ptx_words import SCRATCH, turn, word
from tesa.schedules.gpus import Gpu, GpuText


def fits(tiling: Tiling, gpu: Gpu) -> bool:
    """True where a GPU copies asynchronously, and every thread has something to copy and to multiply."""
    if not gpu.async_copies or tiling.depth % tiling.unit.k or tiling.columns // (tiling.threads // 32) < 16:
        return False
    if tiling.x_bytes == 1 and not (tiling.wide and tiling.columns // (tiling.threads // 32) >= 32):
        return False  # copies have four bytes at least, and a lane reads four columns
    copies = tiling.depth * tiling.columns // (4 if tiling.wide else 1)
    return copies % tiling.threads == 0 and shared_bytes(tiling) <= gpu.block_shared


def shared_bytes(tiling: Tiling) -> int:
    """The bytes of all steps that have a place in shared memory."""
    return _slot(tiling)[1] * tiling.stages


def registers(tiling: Tiling) -> int:
    """Registers of a thread: sums, elements on their way to a unit, and places."""
    return (104 if tiling.view.border else 88) + tiling.rows * tiling.columns // tiling.threads


def _row_bytes(tiling: Tiling) -> int:
    """From one row of X in shared memory to the next one: what lanes read at once lies in different banks."""
    if tiling.x_bytes == 1:
        return tiling.columns + 8
    return 4 * (tiling.columns + (4 if tiling.per == 2 else 8))


def _slot(tiling: Tiling) -> tuple[int, int]:
    """The beginning of W in the place of a step, and the bytes of a place."""
    unit, x = tiling.unit, -(-tiling.depth * _row_bytes(tiling) // 16) * 16
    weights = tiling.rows * tiling.depth * tiling.bits // 8 // (2 if unit.sparse else 1)
    places = tiling.rows // 16 * (tiling.depth // unit.k) * 128 if unit.sparse else 0
    return x, x + weights + places


class _Copied(Tiles):
    """The lines of one kernel."""

    def __init__(self, entry: str, tiling: Tiling, gpu: Gpu) -> None:
        super().__init__(entry, tiling, gpu)
        self.each = 4 if tiling.wide else 1
        self.threads_of_row = tiling.columns // self.each
        self.down = tiling.threads // self.threads_of_row  # rows of X that all threads copy in a pass
        self.passes = tiling.depth // self.down
        self.size = 2 if tiling.view.border is not None else 1  # words of what says where a row of X lies
        self.row = _row_bytes(tiling)
        self.weights_at, self.slot = _slot(tiling)
        self.span = min(4, self.broad)
        fit = min(gpu.registers // (tiling.threads * registers(tiling)), gpu.shared // shared_bytes(tiling))
        self.together = max(1, min(fit, 4))
        self.dynamic = shared_bytes(tiling) > gpu.static_shared

    def head(self) -> list[str]:
        found = super().head()
        return [*found, ".extern .shared .align 16 .b8 stage[];"] if self.dynamic else found

    def brought(self) -> list[str]:
        stage = [] if self.dynamic else [f".shared .align 16 .b8 stage[{shared_bytes(self.tiling)}];"]
        return [
            *stage,
            *SCRATCH,
            ".reg .pred %in, %part;",
            ".reg .b32 %t, %cr, %cc, %iy, %ix, %stage, %sx, %sw, %sa, %sb, %to, %at, %ta, %tb;",
            f".reg .b32 %e<{self.size * self.passes}>, %x<{4 * self.per * self.b}>, %b<{4 * self.b}>;",
            f".reg .b32 %a<{(self.a + 1) * self.tall}>;",
        ]

    def _places(self) -> None:
        side, per = self.side, self.per
        self.lines += [
            "mov.u32 %stage, stage;",
            # where the lane reads W and X
            f"mad.lo.u32 %sa, %lane, {4 * self.a}, %stage;",
            f"mul.lo.u32 %sb, %j, {per * self.row};",
            f"mul.lo.u32 %u, %g, {self.span};",
            f"mad.lo.u32 %u, %warp, {side}, %u;",
            f"mad.lo.u32 %sb, %u, {self.tiling.x_bytes}, %sb;",
            "add.u32 %sb, %sb, %stage;",
            # the first of its sums
            "add.u32 %row, %row, %g;",
            f"mad.lo.u32 %col, %warp, {side}, %cc;",
            f"mad.lo.u32 %col, %j, {2 * self.span}, %col;",
            # what the thread copies
            "mad.wide.u32 %pw, %id, 16, %pw;",
            "mad.lo.u32 %sw, %id, 16, %stage;",
            f"and.b32 %t, %id, {self.threads_of_row - 1};",
            f"shr.u32 %cr, %id, {self.threads_of_row.bit_length() - 1};",
            f"mad.wide.u32 %pt, %cr, {4 * self.size}, %pt;",
            f"mad.lo.u32 %sx, %cr, {self.row}, %stage;",
            f"mad.lo.u32 %sx, %t, {self.each * self.tiling.x_bytes}, %sx;",
            f"mad.lo.u32 %cc, %t, {self.each}, %cc;",
        ]
        column(self.tiling, self.lines, self.each)

    def _loop(self) -> None:
        lines, stages = self.lines, self.tiling.stages
        self._begin()
        lines += ["mov.u32 %to, 0;", "mov.u32 %at, 0;"]
        self._tables()
        for step in range(stages - 1):
            lines += [f"setp.le.u32 %more, %left, {step};", f"@%more bra $begun{step};"]
            self._copies()
            lines += [f"$begun{step}:", "cp.async.commit_group;"]
        lines += [
            "$step:",
            f"cp.async.wait_group {stages - 2};",
            "bar.sync 0;",  # also: everybody has read what is overwritten next
            f"setp.lt.u32 %more, %left, {stages};",
            "@%more bra $multiply;",
        ]
        self._copies()
        lines += ["$multiply:", "cp.async.commit_group;", "add.u32 %ta, %sa, %at;", "add.u32 %tb, %sb, %at;"]
        self._multiply()
        self._next("%at")
        lines += [
            "sub.u32 %left, %left, 1;",
            "setp.ne.u32 %more, %left, 0;",
            "@%more bra $step;",
            "$finish:",
        ]

    def _next(self, place: str) -> None:
        """From the place of one step in shared memory to that of the next one, after the last to the first."""
        self.lines += [
            f"add.u32 {place}, {place}, {self.slot};",
            f"setp.eq.u32 %q, {place}, {self.slot * self.tiling.stages};",
            f"selp.b32 {place}, 0, {place}, %q;",
        ]

    def _tables(self) -> None:
        """Read where the rows of X lie that the thread copies for the step after: known before they are needed."""
        for i in range(self.passes):
            at = 4 * self.size * self.down * i
            first = self.size * i
            target = f"%e{first}" if self.size == 1 else f"{{%e{first}, %e{first + 1}}}"
            self.lines.append(f"ld.global.nc{'.v2' if self.size == 2 else ''}.b32 {target}, [%pt+{at}];")
        self.lines.append(f"add.u64 %pt, %pt, {4 * self.size * self.tiling.depth};")

    def _copies(self) -> None:
        """The copies of a step."""
        lines, byte = self.lines, self.tiling.x_bytes == 1
        lines.append("add.u32 %u, %sx, %to;" if self.size == 1 else "add.u32 %t, %sx, %to;")
        target = "%u" if self.size == 1 else "%t"
        how = "cg" if self.each == 4 and not byte else "ca"
        size = self.each * self.tiling.x_bytes
        for i in range(self.passes):
            lines += [f"cvt.s64.s32 %ad, %e{self.size * i};", "add.s64 %ad, %ad, %px;"]
            used = ""
            if self.size == 2:
                inside(self.tiling, lines, f"%e{2 * i + 1}")
                lines.append("selp.b32 %z0, 4, 0, %in;")
                used = ", %z0"
            lines.append(f"cp.async.{how}.shared.global [{target}+{i * self.down * self.row}], [%ad], {size}{used};")
        lines.append("add.u32 %v, %sw, %to;")
        whole, chunk = self.weight_bytes, 16 * self.tiling.threads
        for at in range(0, whole, chunk):
            guard = ""
            if at + chunk > whole:
                lines.append(f"setp.lt.u32 %part, %id, {(whole - at) // 16};")
                guard = "@%part "
            lines.append(f"{guard}cp.async.cg.shared.global [%v+{self.weights_at + at}], [%pw+{at}], 16;")
        lines.append(f"add.u64 %pw, %pw, {whole};")
        self._next("%to")
        self._tables()

    def _multiply(self) -> None:
        for k in range(self.deep):
            for i in range(self.tall):
                self._left(i, k)
            for group in range(self.broad // self.span):
                self._right(group, k)
                for c in range(self.span):
                    for i in range(self.tall):
                        first = 4 * (i * self.broad + group * self.span + c)
                        self._mma(i * self.a, c * self.b, first, f"%a{self.a * self.tall + i}")

    def _left(self, i: int, k: int) -> None:
        """A fragment of W."""
        at = self.weights_at + (i * self.deep + k) * self.fragment
        names = [f"%a{i * self.a + r}" for r in range(self.a)]
        width, target = (f".v{self.a}", f"{{{', '.join(names)}}}") if self.a > 1 else ("", names[0])
        self.lines.append(f"ld.shared{width}.b32 {target}, [%ta+{at}];")
        if self.tiling.unit.sparse:
            self.lines.append(f"mad.lo.u32 %u, %lane, {4 - 4 * self.a}, %ta;")
            self.lines.append(f"ld.shared.b32 %a{self.a * self.tall + i}, [%u+{at + 128 * self.a}];")

    def _right(self, group: int, k: int) -> None:
        """Fragments of X: register r of the tile of column c of the lane's columns is %b{c b + r}."""
        lines, per, span = self.lines, self.per, self.span
        for r in range(self.b):
            for e in range(per):
                at = (k * self.tiling.unit.k + 4 * per * r + e) * self.row + 8 * span * group * self.tiling.x_bytes
                names = [f"%x{(r * per + e) * span + c}" for c in range(span)]
                if per == 4:
                    lines.append(f"ld.shared.b32 {names[0]}, [%tb+{at}];")
                else:
                    lines.append(f"ld.shared.v{span}.b32 {{{', '.join(names)}}}, [%tb+{at}];")
            if per == 4:
                rows = [f"%x{(4 * r + e) * span}" for e in range(4)]
                turn(lines, rows, [f"%b{c * self.b + r}" for c in range(4)])
                continue
            for c in range(span):
                parts = [f"%x{(r * per + e) * span + c}" for e in range(per)]
                word(self.tiling, self.gpu, lines, f"%b{c * self.b + r}", parts)

    def _end(self, finish: Finish) -> None:
        heights = [16 * i + 8 * half for i in range(self.tall) for half in range(2)]
        places = [
            (group, e, c) for group in range(self.broad // self.span) for e in range(2) for c in range(0, self.span, 2)
        ]
        sums = [
            [
                [f"%s{4 * (i * self.broad + group * self.span + c + next) + 2 * half + e}" for next in range(2)]
                for group, e, c in places
            ]
            for i in range(self.tall)
            for half in range(2)
        ]
        finish.sums(sums, heights, [self.span * (8 * group + e) + c for group, e, c in places])


def write(entry: str, tiling: Tiling, gpu: Gpu) -> GpuText:
    """The module of a kernel of tiles that come by copies."""
    return GpuText(entry, "ptx", _Copied(entry, tiling, gpu).text())
