"""The rows of X that a step needs, as AMD assembly: from memory to registers, as chunks of what a lane takes to LDS."""

from tesa.schedules.gpu.tiling import Tiling
from tesa.schedules.gpu.writers.amd_finish import Scalars, divided, pair
from tesa.schedules.gpu.writers.amd_fragments import lane_elements
from tesa.schedules.gpu.writers.amd_text import Names
from tesa.schedules.gpus import Gpu

TABLE = 36
"""The first of the scalar registers for where rows of X lie."""


class Stage:
    """The lines that bring X. v4: where the thread's column begins, v5, v6: row and column of its window in the image,
    v7: where it writes in LDS; s70, s71 hold numbers of bfloat16. first: of the vector registers for what is under way.
    """

    def __init__(self, tiling: Tiling, gpu: Gpu, lines: list[str], scalars: Scalars, first: int) -> None:
        self.tiling, self.gpu, self.names = tiling, gpu, Names.of(gpu)
        self.lines, self.scalars, self.first = lines, scalars, first
        self.each = lane_elements(tiling, gpu.warp)
        self.words = self.each // tiling.per
        self.passes = tiling.depth // self.each * tiling.columns // tiling.threads
        self.buffer = tiling.depth * tiling.columns * tiling.bits // 8
        self.taps = tiling.view.border is not None

    @property
    def registers(self) -> int:
        """Vector registers for what is under way."""
        return self.passes * self.each

    @property
    def place_bytes(self) -> int:
        """The bytes that say where a row of X lies."""
        return 8 if self.taps else 4

    def columns(self) -> None:
        """The column that this thread brings."""
        tiling, view, add, lines = self.tiling, self.tiling.view, self.names.add, self.lines
        step = 4 * self.words
        lines += [
            f"v_and_b32_e32 v2, 0x{tiling.columns - 1:x}, v0",
            f"v_lshrrev_b32_e32 v16, {tiling.columns.bit_length() - 1}, v0",  # the same for a wave
            "v_readfirstlane_b32 s28, v16",
            f"s_mul_i32 s28, s28, {self.each * self.place_bytes}",
            *self.scalars.moved("constant2", "s28"),
            f"v_lshlrev_b32_e32 v7, {step.bit_length() - 1}, v0",
            f"s_mul_i32 s28, s2, {tiling.columns}",
            f"{add} v2, s28, v2",
            f"v_min_u32_e32 v2, 0x{view.columns - 1:x}, v2",
        ]
        if tiling.problem.batch > 1:
            lines += divided("v16", "v2", "v2", view.n, add)
            lines += [f"s_mov_b32 s28, {view.item * tiling.x_bytes}", "v_mul_lo_u32 v4, v16, s28"]
        else:
            lines.append("v_mov_b32_e32 v4, 0")
        if view.border is not None:
            self._window()
        else:
            lines += [f"v_lshlrev_b32_e32 v2, {tiling.x_bytes.bit_length() - 1}, v2", f"{add} v4, v2, v4"]
        if tiling.unit.inputs == "bfloat16":
            lines += ["s_movk_i32 s70, 0x7fff", "s_mov_b32 s71, 0x7060302", "v_mov_b32_e32 v17, 0x7fc00000"]

    def _window(self) -> None:
        """The window of column v2 of an image, and where it begins, counted from the first one's beginning."""
        border, add = self.tiling.view.border, self.names.add
        assert border is not None
        size = self.tiling.x_bytes
        sub = "v_subrev_u32_e32" if self.names.lanes64 else "v_subrev_nc_u32_e32"
        low, high = self.scalars.halves("x")
        self.lines += [
            *divided("v5", "v6", "v2", border.out_width, add),
            f"v_mul_u32_u24_e32 v5, {border.stride[0]}, v5",
            f"v_mul_u32_u24_e32 v6, {border.stride[1]}, v6",
            f"v_mul_u32_u24_e32 v2, 0x{border.width * size:x}, v5",
            f"{add} v4, v2, v4",
            f"v_mul_u32_u24_e32 v2, {size}, v6",
            f"{add} v4, v2, v4",
            f"{sub} v5, {border.padding[0]}, v5",
            f"{sub} v6, {border.padding[1]}, v6",
            f"s_sub_u32 {low}, {low}, {self.tiling.view.shift * size}",
            f"s_subb_u32 {high}, {high}, 0",
        ]

    def fetch(self) -> None:
        """Elements of X for a step, to registers: pass by pass, row by row."""
        size = self.place_bytes // 4
        count = self.each * size
        down = self.tiling.threads // self.tiling.columns  # chunks of a column that all threads bring in a pass
        for i in range(self.passes):
            for part in range(0, count, 16):
                many = min(16, count - part)
                at = 4 * (i * down * count + part)
                name = self._scalar_load(many)
                target = pair(TABLE + part, many, "s")
                self.lines.append(f"{name} {target}, {self.scalars['constant2']}, 0x{at:x}")
            self.lines.append("s_waitcnt lgkmcnt(0)")
            for e in range(self.each):
                self._element(f"v{self.first + i * self.each + e}", TABLE + e * size)

    def _scalar_load(self, many: int) -> str:
        if self.names.load.endswith("b32"):
            return f"s_load_b{32 * many}"
        return "s_load_dword" + ("" if many == 1 else f"x{many}")

    def _element(self, target: str, place: int) -> None:
        low, high = self.scalars.halves("x")
        byte = self.tiling.x_bytes == 1
        kind = self.names.load if not byte else self.names.load.replace("dword", "ubyte").replace("b32", "u8")
        self.lines += [f"s_add_u32 s26, {low}, s{place}", f"s_addc_u32 s27, {high}, 0"]
        load = f"{kind} {target}, v4, s[26:27]"
        if not self.taps:
            self.lines.append(load)
            return
        border, vcc, add = self.tiling.view.border, self.names.vcc, self.names.add
        assert border is not None
        bits = "b64" if self.names.lanes64 else "b32"
        kept, inside = ("s[32:33]", "s[34:35]") if self.names.lanes64 else ("s32", "s34")
        self.lines += [
            f"v_mov_b32_e32 {target}, 0x{self.tiling.problem.x_pad:x}",
            f"s_and_b32 s28, s{place + 1}, 0xffff",
            f"{add} v2, s28, v5",
            f"v_cmp_gt_u32_e32 {vcc}, 0x{border.height:x}, v2",
            f"s_mov_{bits} {inside}, {vcc}",
            f"s_lshr_b32 s28, s{place + 1}, 16",
            f"{add} v2, s28, v6",
            f"v_cmp_gt_u32_e32 {vcc}, 0x{border.width:x}, v2",
            f"s_and_{bits} {inside}, {inside}, {vcc}",
            f"s_and_saveexec_{bits} {kept}, {inside}",
            load,
            f"s_mov_{bits} exec{'' if self.names.lanes64 else '_lo'}, {kept}",
        ]

    def store(self) -> None:
        """The elements as words, chunk by chunk to LDS; words take the places of the first elements."""
        part = min(self.words, 4)
        write = self.names.local_write[: -len("b32")] + {1: "b32", 2: "b64", 4: "b128"}[part]
        down = self.tiling.threads // self.tiling.columns
        per = self.tiling.per
        for i in range(self.passes):
            first = self.first + i * self.each
            for w in range(self.words):
                self._word(f"v{first + w}", [f"v{first + w * per + e}" for e in range(per)])
            for piece in range(self.words // part):
                at = 4 * (i * down * self.tiling.columns * self.words + part * piece)
                self.lines.append(f"{write} v7, {pair(first + part * piece, part)} offset:{at}")

    def _word(self, word: str, parts: list[str]) -> None:
        inputs, lines = self.tiling.unit.inputs, self.lines
        if inputs == "float16":
            lines += [f"v_cvt_f16_f32_e32 v2, {parts[0]}", f"v_cvt_f16_f32_e32 v16, {parts[1]}"]
            lines.append(f"v_pack_b32_f16 {word}, v2, v16")
        elif inputs == "bfloat16":
            for part, target in zip(parts, ("v2", "v16"), strict=True):
                lines += [
                    f"v_bfe_u32 {target}, {part}, 16, 1",
                    f"v_add3_u32 {target}, {part}, {target}, s70",
                    f"v_cmp_u_f32_e32 {self.names.vcc}, {part}, {part}",
                    f"v_cndmask_b32_e32 {target}, {target}, v17, {self.names.vcc}",
                ]
            lines.append(f"v_perm_b32 {word}, v16, v2, s71")
        elif len(parts) == 4:
            lines += [
                f"v_lshl_or_b32 v2, {parts[1]}, 8, {parts[0]}",
                f"v_lshl_or_b32 v16, {parts[3]}, 8, {parts[2]}",
                f"v_lshl_or_b32 {word}, v16, 16, v2",
            ]
            if not self.tiling.unit.instruction.endswith("iu8"):
                lines.append(f"v_xor_b32_e32 {word}, 0x80808080, {word}")  # the unit takes signed bytes: X - 128
