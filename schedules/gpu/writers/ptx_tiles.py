"""Kernels of tiles as PTX: weights go to mma.sync from memory, X through shared memory.

A word of shared memory holds the elements of 32 bits of one column that are neighbours along k, so that a fragment of X
is a load of one word a register. There are two buffers: while a step is multiplied from one, the elements of the next
step are on their way to registers; they are converted and stored to the other one. A barrier a step is enough.
"""

from tesa.schedules.gpu.tiling import Tiling
from tesa.schedules.gpu.writers.ptx_finish import Finish
from tesa.schedules.gpu.writers.ptx_stage import Stage
from tesa.schedules.gpu.writers.ptx_text import Registers, head, number
from tesa.schedules.gpus import Gpu, GpuText

_REGISTERS = {
    "constant0": "%pw", "constant1": "%pb", "constant2": "%pt", "x": "%px", "scale": "%scale", "bias": "%bias",
    "residual": "%pr", "y": "%py",
}  # fmt: skip


def tile_arguments(tiling: Tiling) -> tuple[str, ...]:
    """The pointers that a kernel takes, in order, by the names of Launch.arguments."""
    epilogue = tiling.problem.epilogue
    wanted = {
        "constant0": True, "constant1": True, "constant2": True, "x": True, "scale": epilogue.scale,
        "bias": epilogue.bias, "residual": epilogue.residual, "y": True,
    }  # fmt: skip
    return tuple(name for name, there in wanted.items() if there)


class Tiles:
    """The lines of one kernel of tiles."""

    def __init__(self, entry: str, tiling: Tiling, gpu: Gpu) -> None:
        self.entry, self.tiling, self.gpu = entry, tiling, gpu
        self.lines: list[str] = []
        self.floats = Registers(self.lines)
        unit = tiling.unit
        self.stage = Stage(tiling, gpu, self.lines)
        self.per, self.warps, self.stride = tiling.per, tiling.threads // 32, self.stage.stride
        self.side = tiling.columns // self.warps  # columns of a warp
        self.tall, self.broad, self.deep = tiling.rows // 16, self.side // 8, tiling.depth // unit.k
        self.a = 16 * unit.k // (2 if unit.sparse else 1) // self.per // 32  # registers of a fragment of W
        self.b = 8 * unit.k // self.per // 32
        self.fragment = 4 * 32 * (self.a + unit.sparse)  # bytes of W for a tile of 16 x k
        self.weight_bytes = self.tall * self.deep * self.fragment
        self.together = 1  # blocks of a multiprocessor: for more, ptxas may spill a few registers
        self.integer = unit.sums == "int32"
        self.arguments = tile_arguments(tiling)
        self.registers = dict(_REGISTERS)
        self.declared: list[str] = []
        self.sum = "%s"

    def text(self) -> str:
        self._steps_of_block()
        self._places()
        self._loop()
        self.alone()
        finish = Finish(self.tiling, self.lines, self.floats)
        self._end(finish)
        self.lines.append("ret;")
        parameters = ", ".join(f".param .u64 p_{name}" for name in self.arguments)
        tiling = self.tiling
        return "\n".join([
            *self.head(),
            f".visible .entry {self.entry}({parameters})",
            f".maxntid {tiling.threads}, 1, 1",
            f".minnctapersm {self.together}",
            "{",
            *self.brought(),
            *self.declared,
            ".reg .pred %q, %more, %any;",
            ".reg .b32 %id, %lane, %warp, %g, %j, %u, %v, %by, %first, %left, %row, %col;",
            ".reg .b64 %o, %pw, %pb, %pt, %px, %py, %pr, %bias, %scale, %ad;",
            f".reg .{'s32' if self.integer else 'f32'} %s<{4 * self.tall * self.broad}>;",
            *finish.declared,
            f".reg .f32 %f<{self.floats.count + 1}>;",
            *self.lines,
            "}",
            "",
        ])  # fmt: skip

    def alone(self) -> None:
        """Nothing: all non-zeros are in tiles."""

    def head(self) -> list[str]:
        """The lines that the module begins with. Sparse instructions came a version after sm_80."""
        first, *others = head(self.gpu)
        return [".version 7.1" if self.tiling.unit.sparse and first == ".version 7.0" else first, *others]

    def brought(self) -> list[str]:
        """Registers and shared memory of the way in which X and W come."""
        return [
            *self.stage.declared,
            ".reg .b32 %sr, %flip;",
            f".reg .b32 %a<{self.a * self.tall * self.deep + self.tall * self.deep}>, %b<{self.b}>;",
        ]

    def _steps_of_block(self) -> None:
        """Pointers, the steps of this block, and where the lane stands in fragments."""
        for name in self.arguments:
            self.lines.append(f"ld.param.u64 {self.registers[name]}, [p_{name}];")
            self.lines.append(f"cvta.to.global.u64 {self.registers[name]}, {self.registers[name]};")
        row = 8 if self.tiling.view.border is not None else 4
        self.lines += [
            "mov.u32 %id, %tid.x;",
            "mov.u32 %by, %ctaid.y;",
            "mad.wide.u32 %pb, %by, 16, %pb;",
            "ld.global.nc.v4.b32 {%first, %left, %row, %u}, [%pb];",
            f"mul.wide.u32 %o, %first, {self.weight_bytes};",
            "add.u64 %pw, %pw, %o;",
            f"mul.wide.u32 %o, %first, {self.tiling.depth * row};",
            "add.u64 %pt, %pt, %o;",
            "and.b32 %lane, %id, 31;",
            "shr.u32 %warp, %id, 5;",
            "shr.u32 %g, %lane, 2;",
            "and.b32 %j, %lane, 3;",
            "mov.u32 %u, %ctaid.x;",
            f"mul.lo.u32 %cc, %u, {self.tiling.columns};",
        ]

    def _places(self) -> None:
        """Set the places from which the lane reads W and X, and the first of its sums."""
        self.lines += [
            f"mad.wide.u32 %pw, %lane, {4 * self.a}, %pw;",
            # where the lane reads fragments of X: word row q, column g of its warp
            "mov.u32 %sr, stage;",
            "mov.u32 %sw, %sr;",
            f"mad.lo.u32 %u, %warp, {self.side}, %g;",
            f"mad.lo.u32 %u, %j, {self.stride}, %u;",
            "mad.lo.u32 %sr, %u, 4, %sr;",
            # the first of its sums
            "add.u32 %row, %row, %g;",
            f"mad.lo.u32 %col, %warp, {self.side}, %cc;",
            "mad.lo.u32 %col, %j, 2, %col;",
        ]
        self.stage.columns()

    def _begin(self) -> None:
        """Sums of nothing, which are the results where there are no steps."""
        kind, zero = ("s32", "0") if self.integer else ("f32", number(0.0))
        self.lines += [f"mov.{kind} %s{i}, {zero};" for i in range(4 * self.tall * self.broad)]
        self.lines += ["setp.eq.u32 %any, %left, 0;", "@%any bra $finish;"]

    def _loop(self) -> None:
        lines = self.lines
        lines.append("mov.u32 %flip, 0;")
        self._begin()
        self.stage.fetch()
        lines.append("$step:")
        self._weights()
        self.stage.store()
        lines += ["bar.sync 0;", "sub.u32 %left, %left, 1;", "setp.eq.u32 %more, %left, 0;", "@%more bra $multiply;"]
        row = self.stage.place_bytes
        lines.append(f"add.u64 %pt, %pt, {self.tiling.depth * row};")
        self.stage.fetch()
        lines.append("$multiply:")
        self._multiply()
        lines += [
            f"xor.b32 %flip, %flip, {1};",
            "setp.eq.u32 %q, %flip, 0;",
            f"selp.b32 %u, {-self.stage.buffer}, {self.stage.buffer}, %q;",
            "add.u32 %sw, %sw, %u;",
            "add.u32 %sr, %sr, %u;",
            f"add.u64 %pw, %pw, {self.weight_bytes};",
            "@!%more bra $step;",
            "$finish:",
        ]

    def _weights(self) -> None:
        """The fragments of W of a step, and where their elements lie in groups of four."""
        for tile in range(self.tall * self.deep):
            at = tile * self.fragment
            names = [f"%a{tile * self.a + r}" for r in range(self.a)]
            width = f".v{self.a}" if self.a > 1 else ""
            target = f"{{{', '.join(names)}}}" if self.a > 1 else names[0]
            self.lines.append(f"ld.global.nc{width}.b32 {target}, [%pw+{at}];")
            if self.tiling.unit.sparse:
                back = 4 * self.a  # %pw counts the bytes of a lane's fragment, of which a place is a part
                self.lines.append(f"mad.wide.s32 %ad, %lane, {4 - back}, %pw;")
                self.lines.append(f"ld.global.nc.b32 {self._place(tile)}, [%ad+{at + 128 * self.a}];")

    def _place(self, tile: int) -> str:
        return f"%a{self.a * self.tall * self.deep + tile}"

    def _multiply(self) -> None:
        unit = self.tiling.unit
        rows = unit.k // self.per  # of words
        for k in range(self.deep):
            for j in range(self.broad):
                for r in range(self.b):
                    at = 4 * ((k * rows + 4 * r) * self.stride + 8 * j)
                    self.lines.append(f"ld.shared.b32 %b{r}, [%sr+{at}];")
                for i in range(self.tall):
                    tile = i * self.deep + k
                    self._mma(tile * self.a, 0, (i * self.broad + j) * 4, self._place(tile))

    def _mma(self, left: int, right: int, first: int, place: str) -> None:
        """The instruction on registers %a from `left` on, %b from `right` on, and %s from `first` on."""
        places = f", {place}, 0x0" if self.tiling.unit.sparse else ""
        name = self.tiling.unit.instruction
        if self.tiling.unit.sparse and head(self.gpu)[0] >= ".version 8.5":  # places that rise, and are faster since
            name = name.replace("mma.sp.", "mma.sp::ordered_metadata.")
        b = _together("%b", right, self.b)
        halves = 2 if ".m8n8" in name else 1  # of 8 rows each
        for half in range(halves):
            a = _together("%a", left + half, self.a // halves)
            sums = _together("%s", first + 2 * half, 4 // halves)
            self.lines.append(f"{name} {sums}, {a}, {b}, {sums}{places};")

    def _end(self, finish: Finish) -> None:
        heights = [16 * i + 8 * half for i in range(self.tall) for half in range(2)]
        sides = [8 * j for j in range(self.broad)]
        sums = [
            [[f"{self.sum}{(i * self.broad + j) * 4 + 2 * half + e}" for e in range(2)] for j in range(self.broad)]
            for i in range(self.tall)
            for half in range(2)
        ]
        finish.sums(sums, heights, sides)


def _together(name: str, first: int, count: int) -> str:
    """Registers that lie one behind the other, as an operand.

    >>> _together("%b", 2, 2)
    '{%b2, %b3}'
    """
    return f"{{{', '.join(f'{name}{first + r}' for r in range(count))}}}"


def write(entry: str, tiling: Tiling, gpu: Gpu) -> GpuText:
    """The module of a kernel of tiles."""
    return GpuText(entry, "ptx", Tiles(entry, tiling, gpu).text())
