"""Tiles and what stands alone in one kernel, as AMD assembly: behind the last tile a lane goes on with its own sums.

A lane has sums of one column in each 16 x 16 tile, of rows 4 (lane div 16) + r for MFMA and 2 r + lane div 16 for WMMA.
For four of its rows at once it reads their entries, four of each, then the elements of X that they name for its
columns, and adds the products up in the registers where the matrix unit has left its sums. Lanes of other rows do so
side by side; those whose rows have fewer entries wait.
"""

from tesa.schedules.gpu.scattered import GROUP, entry_words, group_bytes
from tesa.schedules.gpu.tiling import Tiling
from tesa.schedules.gpu.writers.amd_finish import divided, pair
from tesa.schedules.gpu.writers.amd_tiles import FIRST, Tiles, tile_arguments
from tesa.schedules.gpus import Gpu, GpuText

ROWS, GROUPS = "constant4", "constant5"
"""The arrays of Scattered among the arguments; constant3 may be what signed bytes lack."""

BATCH = 4
"""Rows of a lane that are taken together."""


def mixed_arguments(tiling: Tiling) -> tuple[str, ...]:
    """The pointers that a kernel takes, in order, by the names of Launch.arguments."""
    return (*tile_arguments(tiling), ROWS, GROUPS)


class _Mixed(Tiles):
    """A kernel of tiles that goes on with the entries of its rows."""

    def __init__(self, entry: str, tiling: Tiling, gpu: Gpu) -> None:
        super().__init__(entry, tiling, gpu, mixed_arguments(tiling))
        self.kind = tiling.problem.dtype
        self.taps = tiling.view.border is not None
        self.count = GROUP * entry_words(tiling)
        # the registers of the loop are free behind it, as far as they go: for each row of a batch where its group
        # lies, how many are left, its entries and the elements that they name; for each column where it begins in X
        need = BATCH * (2 + self.count + GROUP * self.broad) + 3 * self.broad + 1
        base = FIRST if FIRST + need <= self.s else self.vectors
        base += -base % 2
        self.at = base
        self.w = self.at + 2 * BATCH
        self.v = self.w + BATCH * self.count
        self.c = self.v + BATCH * GROUP * self.broad  # where it begins, row and column of its window
        self.lack = self.c + 3 * self.broad
        self.vectors = max(self.vectors, self.lack + 1)

    def alone(self) -> None:
        """Add what stands alone to the sums. Found set: v10, the lane's row group; v11, its column of the block."""
        s, lines = self.scalars, self.lines
        lines += [f"s_mul_i32 s28, s3, {self.tiling.rows // 2}", *s.moved(ROWS, "s28")]  # s3: 16 times the block
        for j in range(self.broad):
            self._column(j)
        if self.kind == "mixed":
            for i in range(self.tall):
                for r in range(self.sums):
                    self._numbers(i, r)
        for i in range(self.tall):
            for first in range(0, self.sums, BATCH):
                self._rows(i, first)

    def _column(self, j: int) -> None:
        """Set the place at which column j of the lane begins in X, counted as the stage counts."""
        tiling, view, add, lines = self.tiling, self.tiling.view, self.names.add, self.lines
        at = self.c + 3 * j
        size = tiling.x_bytes
        lines += [
            f"s_mul_i32 s28, s2, {tiling.columns}",
            f"s_add_u32 s28, s28, {16 * j}",
            f"{add} v2, s28, v11",
            f"v_min_u32_e32 v2, 0x{view.columns - 1:x}, v2",
            f"v_mov_b32_e32 v{at}, 0",
        ]
        if tiling.problem.batch > 1:
            lines += divided("v16", "v2", "v2", view.n, add)
            lines += [f"s_mov_b32 s28, {view.item * size}", f"v_mul_lo_u32 v{at}, v16, s28"]
        if view.border is None:
            lines += [f"v_lshlrev_b32_e32 v2, {size.bit_length() - 1}, v2", f"{add} v{at}, v2, v{at}"]
            return
        border = view.border
        sub = "v_subrev_u32_e32" if self.names.lanes64 else "v_subrev_nc_u32_e32"
        y, x = f"v{at + 1}", f"v{at + 2}"
        lines += [
            *divided(y, x, "v2", border.out_width, add),
            f"v_mul_u32_u24_e32 {y}, {border.stride[0]}, {y}",
            f"v_mul_u32_u24_e32 {x}, {border.stride[1]}, {x}",
            f"v_mul_u32_u24_e32 v2, 0x{border.width * size:x}, {y}",
            f"{add} v{at}, v2, v{at}",
            f"v_mul_u32_u24_e32 v2, {size}, {x}",
            f"{add} v{at}, v2, v{at}",
            f"{sub} {y}, {border.padding[0]}, {y}",
            f"{sub} {x}, {border.padding[1]}, {x}",
        ]

    def _height(self, i: int, r: int) -> int:
        """The lane's row r of 16-row tile i, without the part that is the lane's own."""
        return 16 * i + (1 if self.gpu.warp == 64 else 2) * r

    def _rows(self, i: int, first: int) -> None:
        """The entries of a batch of the lane's rows of 16-row tile i, which are as many."""
        names, lines, vcc = self.names, self.lines, self.names.vcc
        bits, run = ("b64", "exec") if names.lanes64 else ("b32", "exec_lo")
        kept = "s[32:33]" if names.lanes64 else "s32"
        label = f".L{self.entry}_alone{i}_{first}"
        for b in range(BATCH):
            lines += [
                f"{names.add} v2, {self._height(i, first + b)}, v10",
                "v_lshlrev_b32_e32 v2, 3, v2",
                f"{self._load(2)} {pair(self.at + 2 * b, 2)}, v2, {self.scalars[ROWS]}",
            ]
        left = f"v{self.at + 1}"
        lines += ["s_waitcnt vmcnt(0)", f"s_mov_{bits} {kept}, {run}", f"{label}:"]
        lines += [
            f"v_cmp_ne_u32_e32 {vcc}, 0, {left}",
            f"s_and_{bits} {run}, {run}, {vcc}",
            f"s_cbranch_execz {label}_end",
        ]
        for b in range(BATCH):
            for word in range(0, self.count, 4):
                target = pair(self.w + b * self.count + word, 4)
                place = f"v{self.at + 2 * b}, {self.scalars[GROUPS]} offset:{4 * word}"
                lines.append(f"{self._load(4)} {target}, {place}")
        lines.append("s_waitcnt vmcnt(0)")
        everything = [(b, e) for b in range(BATCH) for e in range(GROUP)]
        for b, e in everything:
            for j in range(self.broad):
                self._element(b, e, j)
        lines.append("s_waitcnt vmcnt(0)")
        for b, e in everything:
            self._products(b, e, i, first + b)
        size = group_bytes(self.tiling)
        lines += [f"{names.add} v{self.at + 2 * b}, {size}, v{self.at + 2 * b}" for b in range(BATCH)]
        lines += [
            f"{names.add} {left}, -1, {left}",
            f"s_branch {label}",
            f"{label}_end:",
            f"s_mov_{bits} {run}, {kept}",
        ]

    def _numbers(self, i: int, r: int) -> None:
        """The sums of codes as numbers."""
        sums = [f"v{self.s + (i * self.broad + j) * self.sums + r}" for j in range(self.broad)]
        if self.missing:
            self.lines += [
                f"{self.names.add} v2, {self._height(i, r)}, v10",
                f"{self.names.add} v2, s6, v2",
                "v_lshlrev_b32_e32 v2, 2, v2",
                f"{self.names.load} v{self.lack}, v2, {self.scalars[self.missing]}",
                "s_waitcnt vmcnt(0)",
                *(f"{self.names.add} {one}, v{self.lack}, {one}" for one in sums),
            ]
        self.lines += [f"v_cvt_f32_i32_e32 {one}, {one}" for one in sums]

    def _load(self, words: int) -> str:
        wide = self.names.load.endswith("b32")
        return f"global_load_b{32 * words}" if wide else f"global_load_dwordx{words}"

    def _element(self, b: int, e: int, j: int) -> None:
        """The element of X that entry e of row b of a batch names, for column j."""
        place, at = self.w + b * self.count + e * entry_words(self.tiling), self.c + 3 * j
        target = self.v + (b * GROUP + e) * self.broad + j
        names, lines = self.names, self.lines
        byte = self.tiling.x_bytes == 1
        kind = names.load if not byte else names.load.replace("dword", "ubyte").replace("b32", "u8")
        load = f"{kind} v{target}, v2, {self.scalars['x']}"
        if not self.taps:
            lines += [f"{names.add} v2, v{place}, v{at}", load]
            return
        border = self.tiling.view.border
        assert border is not None
        bits, run = ("b64", "exec") if names.lanes64 else ("b32", "exec_lo")
        kept, inside = ("s[34:35]", "s[26:27]") if names.lanes64 else ("s34", "s26")
        lines += [
            f"v_mov_b32_e32 v{target}, 0x{self.tiling.problem.x_pad:x}",
            f"v_and_b32_e32 v2, 0xffff, v{place + 2}",
            f"{names.add} v2, v2, v{at + 1}",
            f"v_cmp_gt_u32_e32 {names.vcc}, 0x{border.height:x}, v2",
            f"s_mov_{bits} {inside}, {names.vcc}",
            f"v_lshrrev_b32_e32 v2, 16, v{place + 2}",
            f"{names.add} v2, v2, v{at + 2}",
            f"v_cmp_gt_u32_e32 {names.vcc}, 0x{border.width:x}, v2",
            f"s_and_{bits} {inside}, {inside}, {names.vcc}",
            f"{names.add} v2, v{place}, v{at}",
            f"s_and_saveexec_{bits} {kept}, {inside}",
            load,
            f"s_mov_{bits} {run}, {kept}",
        ]

    def _products(self, b: int, e: int, i: int, r: int) -> None:
        """Entry e of row b of a batch times its elements; what fills up has the weight 0, and adds nothing."""
        weight = f"v{self.w + b * self.count + e * entry_words(self.tiling) + 1}"
        lines = self.lines
        bits, run = ("b64", "exec") if self.names.lanes64 else ("b32", "exec_lo")
        kept = "s[34:35]" if self.names.lanes64 else "s34"
        lines += [f"v_cmp_ne_u32_e32 {self.names.vcc}, 0, {weight}", f"s_and_saveexec_{bits} {kept}, {self.names.vcc}"]
        for j in range(self.broad):
            total = f"v{self.s + (i * self.broad + j) * self.sums + r}"
            x = f"v{self.v + (b * GROUP + e) * self.broad + j}"
            if self.kind == "int8":
                lines.append(f"v_mad_i32_i24 {total}, {x}, {weight}, {total}")
                continue
            if self.kind == "mixed":
                lines.append(f"v_cvt_f32_u32_e32 {x}, {x}")
            lines.append(f"v_fma_f32 {total}, {x}, {weight}, {total}")
        lines.append(f"s_mov_{bits} {run}, {kept}")


def registers(tiling: Tiling, gpu: Gpu) -> int:
    """Vector registers that a kernel takes."""
    return _Mixed("", tiling, gpu).vectors


def write(entry: str, tiling: Tiling, gpu: Gpu) -> GpuText:
    """The module of a kernel of tiles and of what stands alone."""
    return GpuText(entry, "amd", _Mixed(entry, tiling, gpu).text())
