"""Kernels of tiles as AMD assembly: weights go to MFMA or WMMA from memory, X through LDS.

What a lane takes of a column of X, a chunk of neighbours along k, lies together in LDS, chunk by chunk of a row, so
that a fragment is one load. A thread brings chunks of one column; where their rows lie is the same for a wave, and is
read by scalar loads. There are two buffers: while a step is multiplied from one, the elements of the next step are on
their way to registers.
"""

from tesa.schedules.gpu.tiling import Tiling
from tesa.schedules.gpu.writers.amd_finish import Finish, Scalars, pair
from tesa.schedules.gpu.writers.amd_fragments import lane_elements
from tesa.schedules.gpu.writers.amd_stage import Stage
from tesa.schedules.gpu.writers.amd_text import Names, frame
from tesa.schedules.gpus import Gpu, GpuText

FIRST = 24
"""Vector registers below are for places and what is needed for a moment."""


def tile_arguments(tiling: Tiling) -> tuple[str, ...]:
    """The pointers that a kernel takes, in order, by the names of Launch.arguments."""
    epilogue = tiling.problem.epilogue
    wanted = {
        "constant0": True, "constant1": True, "constant2": True, "constant3": _signed(tiling), "x": True,
        "scale": epilogue.scale, "bias": epilogue.bias, "residual": epilogue.residual, "y": True,
    }  # fmt: skip
    return tuple(name for name, there in wanted.items() if there)


def _signed(tiling: Tiling) -> bool:
    """True where the unit takes signed bytes only, and so X - 128."""
    return tiling.problem.dtype != "float32" and not tiling.unit.instruction.endswith("iu8")


class Tiles:
    """The lines of one kernel of tiles."""

    def __init__(self, entry: str, tiling: Tiling, gpu: Gpu, arguments: tuple[str, ...] = ()) -> None:
        self.arguments = arguments or tile_arguments(tiling)
        self.missing = "constant3" if _signed(tiling) else ""
        self.entry, self.tiling, self.gpu, self.names = entry, tiling, gpu, Names.of(gpu)
        self.lines: list[str] = []
        self.each = lane_elements(tiling, gpu.warp)
        self.words = self.each // tiling.per  # of a chunk of X
        self.kept = self.words // (2 if tiling.unit.sparse else 1)  # words of a fragment of W
        self.side = tiling.columns // (tiling.threads // gpu.warp)
        self.tall, self.broad, self.deep = tiling.rows // 16, self.side // 16, tiling.depth // tiling.unit.k
        self.sums = 16 * 16 // gpu.warp
        self.fragment = 4 * gpu.warp * (self.kept + tiling.unit.sparse)  # sparse: and where its elements lie
        self.scalars = Scalars(self.arguments)
        self.stage = Stage(tiling, gpu, self.lines, self.scalars, FIRST)
        self.a = FIRST + self.stage.registers + self.stage.registers % 2
        self.places = self.a + self.tall * self.deep * self.kept
        self.b = self.places + self.tall * self.deep * tiling.unit.sparse
        self.b += self.b % 2
        self.s = self.b + self.broad * self.deep * self.words
        self.s += self.s % 2
        self.vectors = self.s + self.tall * self.broad * self.sums

    def text(self) -> str:
        self._places()
        self.stage.columns()
        self._loop()
        # a lane's rows: 4 (lane div 16) + r for MFMA, 2 r + lane div 16 for WMMA
        if self.gpu.warp == 64:
            self.lines.append("v_lshlrev_b32_e32 v10, 2, v10")
        self.alone()
        self._end()
        self.lines.append("s_endpgm")
        facts = {
            "vgprs": self.vectors, "sgprs": self.scalars.count, "shared": 2 * self.stage.buffer,
            "threads": self.tiling.threads,
        }  # fmt: skip
        return frame(self.entry, self.gpu, self.lines, facts, self.arguments)

    def alone(self) -> None:
        """Nothing: all non-zeros are in tiles."""

    def _places(self) -> None:
        """Pointers, the steps of this block, and where the lane stands."""
        s, wave = self.scalars, self.gpu.warp
        load4 = "s_load_b128" if self.names.load.endswith("b32") else "s_load_dwordx4"
        for i, name in enumerate(self.arguments):
            self.lines.append(f"{self.names.scalar_load2} {s[name]}, s[0:1], 0x{8 * i:x}")
        row = self.tiling.depth * self.stage.place_bytes
        self.lines += [
            "s_waitcnt lgkmcnt(0)",
            "s_lshl_b32 s3, s3, 4",
            *s.moved("constant1", "s3"),
            f"{load4} s[4:7], {s['constant1']}, 0x0",
            "s_waitcnt lgkmcnt(0)",
            f"s_mul_i32 s28, s4, {self.tall * self.deep * self.fragment}",
            f"s_mul_hi_u32 s29, s4, {self.tall * self.deep * self.fragment}",
            *s.moved("constant0", "s28", "s29"),
            f"s_mul_i32 s28, s4, {row}",
            f"s_mul_hi_u32 s29, s4, {row}",
            *s.moved("constant2", "s28", "s29"),
            "v_and_b32_e32 v0, 0x3ff, v0",
            f"v_and_b32_e32 v1, {wave - 1}, v0",  # the lane
            f"v_lshrrev_b32_e32 v16, {wave.bit_length() - 1}, v0",  # the wave
            f"v_lshlrev_b32_e32 v9, {(4 * self.kept).bit_length() - 1}, v1",
            "v_lshlrev_b32_e32 v23, 2, v1",
            "v_and_b32_e32 v11, 15, v1",
            "v_lshrrev_b32_e32 v10, 4, v1",
            f"v_mul_u32_u24_e32 v16, {self.side}, v16",
            f"{self.names.add} v11, v16, v11",  # the lane's column of the block
            # where the lane reads its chunks
            "v_mov_b32_e32 v8, v11",
        ]
        if wave == 64:
            self.lines += [f"v_mul_u32_u24_e32 v2, 0x{self.tiling.columns:x}, v10", f"{self.names.add} v8, v2, v8"]
        self.lines.append(f"v_lshlrev_b32_e32 v8, {(4 * self.words).bit_length() - 1}, v8")

    def _loop(self) -> None:
        s, lines = self.scalars, self.lines
        lines += [f"v_mov_b32_e32 v{self.s + i}, 0" for i in range(self.tall * self.broad * self.sums)]
        lines += ["s_cmp_eq_u32 s5, 0", f"s_cbranch_scc1 .L{self.entry}_finish"]
        self.stage.fetch()
        lines.append(f".L{self.entry}_step:")
        loads = self._weights()
        lines.append(f"s_waitcnt vmcnt({loads})")
        self.stage.store()
        lines += ["s_waitcnt lgkmcnt(0)", "s_barrier", "s_waitcnt vmcnt(0)", "s_sub_u32 s5, s5, 1"]
        lines += ["s_cmp_eq_u32 s5, 0", f"s_cbranch_scc1 .L{self.entry}_multiply"]
        lines += s.moved("constant2", str(self.tiling.depth * self.stage.place_bytes))
        self.stage.fetch()
        lines.append(f".L{self.entry}_multiply:")
        self._multiply()
        lines += [
            f"v_xor_b32_e32 v7, 0x{self.stage.buffer:x}, v7",
            f"v_xor_b32_e32 v8, 0x{self.stage.buffer:x}, v8",
            *s.moved("constant0", str(self.tall * self.deep * self.fragment)),
            "s_cmp_lg_u32 s5, 0",
            f"s_cbranch_scc1 .L{self.entry}_step",
            f".L{self.entry}_finish:",  # more than the 11 slots pass until sums are touched
        ]

    def _weights(self) -> int:
        """The fragments of W of a step; how many loads they are."""
        count, base, moved = 0, self.scalars["constant0"], 0
        part = min(self.kept, 4)
        load = self.names.load[: -len("b32" if self.names.load.endswith("b32") else "dword")]
        kinds = {1: ("dword", "b32"), 2: ("dwordx2", "b64"), 4: ("dwordx4", "b128")}[part]
        kind = kinds[self.names.load.endswith("b32")]
        for tile in range(self.tall * self.deep):
            for piece in range(self.kept // part):
                at = tile * self.fragment + 4 * part * piece
                if at - moved > 4095 - 16 - self.fragment:
                    moved = at
                    low, high = self.scalars.halves("constant0")
                    self.lines += [f"s_add_u32 s26, {low}, {moved}", f"s_addc_u32 s27, {high}, 0"]
                    base = "s[26:27]"
                first = self.a + tile * self.kept + part * piece
                self.lines.append(f"{load}{kind} {pair(first, part)}, v9, {base} offset:{at - moved}")
                count += 1
            if self.tiling.unit.sparse:
                at = tile * self.fragment + 4 * self.gpu.warp * self.kept - moved
                self.lines.append(f"{self.names.load} v{self.places + tile}, v23, {base} offset:{at}")
                count += 1
        return count

    def _multiply(self) -> None:
        wide = self.names.load.endswith("b32")
        part = min(self.words, 4)
        read = ("ds_load_" if wide else "ds_read_") + {1: "b32", 2: "b64", 4: "b128"}[part]
        groups = 1 if self.gpu.warp == 32 else 4
        for k in range(self.deep):
            for j in range(self.broad):
                for piece in range(self.words // part):
                    at = 4 * ((k * groups * self.tiling.columns + 16 * j) * self.words + part * piece)
                    first = self.b + (k * self.broad + j) * self.words + part * piece
                    self.lines.append(f"{read} {pair(first, part)}, v8 offset:{at}")
        self.lines.append("s_waitcnt lgkmcnt(0)")
        signs = " neg_lo:[1,0,0]" if self.tiling.unit.instruction.endswith("iu8") else ""
        for k in range(self.deep):
            for j in range(self.broad):
                b = pair(self.b + (k * self.broad + j) * self.words, self.words)
                for i in range(self.tall):
                    tile = i * self.deep + k
                    a = pair(self.a + tile * self.kept, self.kept)
                    d = pair(self.s + (i * self.broad + j) * self.sums, self.sums)
                    last = f"v{self.places + tile}" if self.tiling.unit.sparse else d
                    self.lines.append(f"{self.tiling.unit.instruction} {d}, {a}, {b}, {last}{signs}")

    def _end(self) -> None:
        step = 1 if self.gpu.warp == 64 else 2
        heights = [16 * i + step * r for i in range(self.tall) for r in range(self.sums)]
        sums = [
            [f"v{self.s + (i * self.broad + j) * self.sums + r}" for j in range(self.broad)]
            for i in range(self.tall)
            for r in range(self.sums)
        ]
        missing = self.missing if self.tiling.problem.dtype == "int8" else ""
        finish = Finish(self.tiling, self.gpu, self.lines, self.scalars, missing)
        finish.sums(sums, heights, [16 * j for j in range(self.broad)])


def registers(tiling: Tiling, gpu: Gpu) -> int:
    """Vector registers that a kernel takes."""
    return Tiles("", tiling, gpu).vectors


def write(entry: str, tiling: Tiling, gpu: Gpu) -> GpuText:
    """The module of a kernel of tiles."""
    return GpuText(entry, "amd", Tiles(entry, tiling, gpu).text())
