"""Kernels of tiles as PTX for wgmma: four warps multiply 64 rows of W by X, both in shared memory, while they go on.

A unit takes matrices in shared memory as cores of 8 rows by 16 bytes ("Asynchronous Warpgroup Level Matrix Shared
Memory Layout", PTX ISA, no swizzle): chunk c of 16 bytes along k, of column j of X, lies at 16 (columns c + j), and of
row i of W at 16 (rows c + i). W is stored so and comes by asynchronous copies, two steps ahead in three places. X comes
through registers, where it is converted, a step ahead in two places: while the unit multiplies one, threads store the
other, and load what follows.
"""

from tesa.schedules.gpu.tiling import Tiling
from tesa.schedules.gpu.writers.ptx_finish import Finish
from tesa.schedules.gpu.writers.ptx_stage import column, inside
from tesa.schedules.gpu.writers.ptx_tiles import Tiles
from tesa.schedules.gpu.writers.ptx_words import SCRATCH, turn, word
from tesa.schedules.gpus import Gpu, GpuText

AHEAD = 2
"""Steps that W is copied ahead."""

CHUNK = 16
"""Bytes of a column, or row, that lie together."""


def fits(tiling: Tiling, gpu: Gpu) -> bool:
    """True where a GPU has such units, and every thread has whole chunks to bring."""
    if not gpu.groups or tiling.depth % tiling.unit.k or tiling.rows % 64 or shared_bytes(tiling) > gpu.block_shared:
        return False
    if registers(tiling) > 208:  # few blocks would be there at once
        return False
    columns = tiling.columns // _each(tiling)
    chunks = tiling.depth // _elements(tiling) * columns
    return columns <= tiling.threads and chunks % tiling.threads == 0


def shared_bytes(tiling: Tiling) -> int:
    """The bytes of two places of X and three of W."""
    return tiling.depth * tiling.bits // 8 * (2 * tiling.columns + (AHEAD + 1) * tiling.rows)


def registers(tiling: Tiling) -> int:
    """Registers of a thread: sums, elements of X under way, and places."""
    return min(
        255, 48 + tiling.rows * tiling.columns // tiling.threads + tiling.depth * tiling.columns // tiling.threads
    )


def _elements(tiling: Tiling) -> int:
    return 8 * CHUNK // tiling.bits


def _each(tiling: Tiling) -> int:
    """Columns that a thread brings at once: codes lie four in a word."""
    return 4 if tiling.x_bytes == 1 and tiling.wide else 1


class _Grouped(Tiles):
    """The lines of one kernel."""

    def __init__(self, entry: str, tiling: Tiling, gpu: Gpu) -> None:
        super().__init__(entry, tiling, gpu)
        self.tall, self.broad = 1, tiling.columns // 8  # sums of a lane: two of each 8 columns, in two rows
        self.weight_bytes = tiling.rows * tiling.depth * tiling.bits // 8
        self.x_bytes = tiling.columns * tiling.depth * tiling.bits // 8
        self.elements, self.each = _elements(tiling), _each(tiling)
        self.threads_of_row = tiling.columns // self.each
        self.down = tiling.threads // self.threads_of_row
        self.passes = tiling.depth // self.elements // self.down
        self.size = 2 if tiling.view.border is not None else 1
        # rows of X that follow each other at one distance need one place for a chunk
        self.regular = tiling.problem.pointwise and tiling.problem.k % tiling.depth == 0
        self.places = 1 if self.regular else self.elements
        fit = min(gpu.registers // (tiling.threads * registers(tiling)), gpu.shared // shared_bytes(tiling))
        self.together = max(1, fit)
        self.dynamic = shared_bytes(tiling) > gpu.static_shared

    def head(self) -> list[str]:
        version = "8.4" if self.integer else "8.0"  # signed by unsigned codes
        found = [
            f".version {version}",
            f".target {self.gpu.name}a",
            ".address_size 64",
        ]  # instructions of one architecture
        return [*found, ".extern .shared .align 128 .b8 stage[];"] if self.dynamic else found

    def brought(self) -> list[str]:
        stage = [] if self.dynamic else [f".shared .align 128 .b8 stage[{shared_bytes(self.tiling)}];"]
        words = 4 * self.each
        return [
            *stage,
            *SCRATCH,
            ".reg .pred %in, %part, %yes;",
            ".reg .b64 %da, %db, %wa, %xb;",
            ".reg .b32 %t, %cr, %cc, %iy, %ix, %stage, %sx, %sw, %to, %at, %flip;",
            f".reg .b32 %e<{self.size * self.passes * self.places}>, %x<{self.passes * self.elements}>, %w<{words}>;",
        ]

    def _places(self) -> None:
        tiling, lines = self.tiling, self.lines
        first_weight = 2 * self.x_bytes
        lines += [
            "mov.u32 %stage, stage;",
            "mad.lo.u32 %row, %warp, 16, %row;",
            "add.u32 %row, %row, %g;",
            "mad.lo.u32 %col, %j, 2, %cc;",
            # what the thread brings
            "mad.wide.u32 %pw, %id, 16, %pw;",
            "mad.lo.u32 %sw, %id, 16, %stage;",
            f"and.b32 %t, %id, {self.threads_of_row - 1};",
            f"shr.u32 %cr, %id, {self.threads_of_row.bit_length() - 1};",
            f"mad.wide.u32 %pt, %cr, {4 * self.size * self.elements}, %pt;",
            f"mad.lo.u32 %sx, %cr, {CHUNK * tiling.columns}, %stage;",
            f"mad.lo.u32 %sx, %t, {CHUNK * self.each}, %sx;",
            f"mad.lo.u32 %cc, %t, {self.each}, %cc;",
        ]
        column(tiling, lines, self.each)
        lines += [
            # where the unit finds X, and the 64 rows of W of these four warps
            "shr.u32 %u, %stage, 4;",
            "cvt.u64.u32 %xb, %u;",
            f"add.u64 %xb, %xb, {_shape(tiling.columns)};",
            "shr.u32 %v, %warp, 2;",
            f"mad.lo.u32 %u, %v, {64 * CHUNK // 16}, %u;",
            f"add.u32 %u, %u, {first_weight // 16};",
            "cvt.u64.u32 %wa, %u;",
            f"add.u64 %wa, %wa, {_shape(tiling.rows)};",
            "setp.eq.u32 %yes, 0, 0;",
        ]

    def _loop(self) -> None:
        lines = self.lines
        self._begin()
        lines += ["mov.u32 %to, 0;", "mov.u32 %at, 0;", "mov.u32 %flip, 0;", "setp.eq.u32 %more, 0, 0;"]
        self._tables()
        self._weights()
        self._fetch()
        self._store()
        lines.append("setp.gt.u32 %more, %left, 1;")
        self._weights()
        self._fetch()
        lines += [
            "$step:",
            f"cp.async.wait_group {AHEAD - 1};",
            "fence.proxy.async.shared::cta;",  # what was stored and copied is seen by the unit
            "bar.sync 0;",
            "wgmma.fence.sync.aligned;",
        ]
        self._multiply()
        lines += [
            "wgmma.commit_group.sync.aligned;",
            f"xor.b32 %flip, %flip, {self.x_bytes};",
        ]
        self._store()  # the unit has done with that place since the step before
        lines.append(f"setp.gt.u32 %more, %left, {AHEAD};")
        self._weights()
        self._fetch()
        self._next("%at")
        lines += [
            "wgmma.wait_group.sync.aligned 0;",
            "sub.u32 %left, %left, 1;",
            "setp.ne.u32 %more, %left, 0;",
            "@%more bra $step;",
            "$finish:",
        ]

    def _next(self, place: str) -> None:
        lines, whole = self.lines, self.weight_bytes
        lines += [
            f"add.u32 {place}, {place}, {whole};",
            f"setp.eq.u32 %q, {place}, {whole * (AHEAD + 1)};",
            f"selp.b32 {place}, 0, {place}, %q;",
        ]

    def _weights(self) -> None:
        """The copies of W of a step, where there is one."""
        lines, whole, chunk = self.lines, self.weight_bytes, 16 * self.tiling.threads
        lines.append("add.u32 %v, %sw, %to;")
        for at in range(0, whole, chunk):
            guard = "%more"
            if at + chunk > whole:
                lines.append(f"setp.lt.and.u32 %part, %id, {(whole - at) // 16}, %more;")
                guard = "%part"
            lines.append(f"@{guard} cp.async.cg.shared.global [%v+{2 * self.x_bytes + at}], [%pw+{at}], 16;")
        lines += [f"add.u64 %pw, %pw, {whole};", "cp.async.commit_group;"]
        self._next("%to")

    def _tables(self) -> None:
        """Read where the rows of X of the step after lie, at the end those of a step that is none."""
        lines, size = self.lines, self.size
        for i in range(self.passes):
            first, at = i * self.places * size, 4 * size * self.elements * self.down * i
            for part in range(0, self.places * size, 4):
                names = [f"%e{first + part + n}" for n in range(min(4, self.places * size - part))]
                width, target = (f".v{len(names)}", f"{{{', '.join(names)}}}") if len(names) > 1 else ("", names[0])
                lines.append(f"ld.global.nc{width}.b32 {target}, [%pt+{at + 4 * part}];")
        lines.append(f"add.u64 %pt, %pt, {4 * size * self.tiling.depth};")

    def _fetch(self) -> None:
        """Elements of X for a step, to registers, where there is one."""
        tiling, lines = self.tiling, self.lines
        byte = tiling.x_bytes == 1 and self.each == 1
        for i in range(self.passes):
            for e in range(self.elements):
                target = f"%x{i * self.elements + e}"
                place = self.size * (i * self.places + (0 if self.regular else e))
                if not self.regular or e == 0:
                    lines += [f"cvt.s64.s32 %ad, %e{place};", "add.s64 %ad, %ad, %px;"]
                at = e * tiling.problem.n * tiling.x_bytes if self.regular else 0
                guard = "%more"
                if self.size == 2:
                    inside(tiling, lines, f"%e{place + 1}")
                    lines += ["and.pred %in, %in, %more;", f"mov.b32 {target}, {tiling.problem.x_pad};"]
                    guard = "%in"
                lines.append(f"@{guard} ld.global.nc.{'u8' if byte else 'b32'} {target}, [%ad+{at}];")
        self._tables()

    def _store(self) -> None:
        """The elements as chunks of words, to the place that %flip says."""
        lines, per = self.lines, self.per
        lines.append("add.u32 %u, %sx, %flip;")
        for i in range(self.passes):
            at, first = i * self.down * CHUNK * self.tiling.columns, i * self.elements
            if self.each == 4:
                for w in range(4):
                    rows = [f"%x{first + 4 * w + e}" for e in range(4)]
                    turn(lines, rows, [f"%w{4 * c + w}" for c in range(4)])
            else:
                for w in range(4):
                    parts = [f"%x{first + w * per + e}" for e in range(per)]
                    word(self.tiling, self.gpu, lines, f"%w{w}", parts)
            for c in range(self.each):
                names = ", ".join(f"%w{4 * c + w}" for w in range(4))
                lines.append(f"st.shared.v4.b32 [%u+{at + CHUNK * c}], {{{names}}};")

    def _multiply(self) -> None:
        lines, tiling = self.lines, self.tiling
        sums = ", ".join(f"%s{i}" for i in range(4 * self.broad))
        signs = {"int8": "", "tfloat32": ", 1, 1"}.get(tiling.unit.inputs, ", 1, 1, 0, 0")
        name = tiling.unit.instruction.replace("n8k", f"n{tiling.columns}k")
        lines += [
            "shr.u32 %u, %at, 4;",
            "cvt.u64.u32 %da, %u;",
            "add.u64 %da, %da, %wa;",
            "shr.u32 %u, %flip, 4;",
            "cvt.u64.u32 %db, %u;",
            "add.u64 %db, %db, %xb;",
        ]
        for k in range(self.deep):
            if k:
                lines += [f"add.u64 %da, %da, {2 * tiling.rows};", f"add.u64 %db, %db, {2 * tiling.columns};"]
            lines.append(f"{name} {{{sums}}}, %da, %db, %yes{signs};")

    def _end(self, finish: Finish) -> None:
        sums = [[[f"%s{4 * j + 2 * half + e}" for e in range(2)] for j in range(self.broad)] for half in range(2)]
        finish.sums(sums, [0, 8], [8 * j for j in range(self.broad)])


def _shape(lines: int) -> int:
    """The fields of a descriptor beside the address, in units of 16 bytes: from one chunk along k to the next one, and
    from eight rows or columns to the next eight."""
    return lines << 16 | 8 << 32


def write(entry: str, tiling: Tiling, gpu: Gpu) -> GpuText:
    """The module of a kernel of tiles for units of four warps."""
    return GpuText(entry, "ptx", _Grouped(entry, tiling, gpu).text())
