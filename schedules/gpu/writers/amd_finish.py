"""The end of a kernel of tiles, from its sums to Y, as AMD assembly; and the scalar registers of such a kernel."""

from collections.abc import Sequence

import numpy as np

from tesa.schedules.gpu.activations import activate
from tesa.schedules.gpu.tiling import Tiling
from tesa.schedules.gpu.writers.amd_text import Names, Recorded, number
from tesa.schedules.gpus import Gpu
from tesa.schedules.types import Output

FREE = tuple(f"v{i}" for i in range(12, 16)) + tuple(f"v{i}" for i in range(18, 24))
"""Vector registers for an activation."""


def pair(first: int, count: int, file: str = "v") -> str:
    """Neighbouring registers.

    >>> pair(4, 2), pair(7, 1, "s")
    ('v[4:5]', 's7')
    """
    return f"{file}[{first}:{first + count - 1}]" if count > 1 else f"{file}{first}"


class Scalars:
    """The pairs of scalar registers that hold pointers, by the names of arguments: from s8 on 9 of them, then from s80.

    count: of all scalar registers of the kernel.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._first = {name: 8 + 2 * i if i < 9 else 62 + 2 * i for i, name in enumerate(names)}
        self.count = 80 + 2 * max(0, len(names) - 9)

    def __getitem__(self, name: str) -> str:
        return pair(self._first[name], 2, "s")

    def halves(self, name: str) -> tuple[str, str]:
        """The lower and the upper register."""
        return f"s{self._first[name]}", f"s{self._first[name] + 1}"

    def moved(self, name: str, low: str, high: str = "0") -> list[str]:
        """The pointer moves on by bytes."""
        a, b = self.halves(name)
        return [f"s_add_u32 {a}, {a}, {low}", f"s_addc_u32 {b}, {b}, {high}"]


def divided(quotient: str, rest: str, value: str, by: int, add: str) -> list[str]:
    """A number below 2^22 divided by a constant: by the float32 nearest to its inverse, and one more or less.

    rest may be the register of the value. Takes v12 to v15 and s28.
    """
    if by & by - 1 == 0:
        return [
            f"v_lshrrev_b32_e32 {quotient}, {by.bit_length() - 1}, {value}",
            f"v_and_b32_e32 {rest}, 0x{by - 1:x}, {value}",
        ]
    sub = "v_sub_u32_e32" if add == "v_add_u32_e32" else "v_sub_nc_u32_e32"
    vcc = "vcc" if add == "v_add_u32_e32" else "vcc_lo"
    inverse = int(np.float32(1 / by).view(np.uint32))
    return [
        f"v_cvt_f32_u32_e32 v12, {value}",
        f"v_mul_f32_e32 v12, 0x{inverse:x}, v12",
        f"v_cvt_u32_f32_e32 {quotient}, v12",
        f"s_mov_b32 s28, {by}",
        f"v_mul_lo_u32 v12, {quotient}, s28",
        f"{sub} {rest}, {value}, v12",
        f"v_mov_b32_e32 v13, 0x{by:x}",
        f"v_cmp_gt_i32_e32 {vcc}, 0, {rest}",
        f"v_cndmask_b32_e64 v12, 0, v13, {vcc}",
        f"v_cndmask_b32_e64 v14, 0, -1, {vcc}",
        f"{add} {rest}, v12, {rest}",
        f"{add} {quotient}, v14, {quotient}",
        f"v_cmp_le_u32_e32 {vcc}, v13, {rest}",
        f"v_cndmask_b32_e64 v12, 0, v13, {vcc}",
        f"v_cndmask_b32_e64 v14, 0, 1, {vcc}",
        f"{sub} {rest}, {rest}, v12",
        f"{add} {quotient}, v14, {quotient}",
    ]


class Finish:
    """Writes sums of a lane as values of Y. Found set: s6, the block's first row; v10, v11, the lane's row group and
    column. missing: the argument that says what the sums of each row lack, "" for nothing."""

    def __init__(self, tiling: Tiling, gpu: Gpu, lines: list[str], scalars: Scalars, missing: str = "") -> None:
        self.tiling, self.lines, self.scalars, self.missing = tiling, lines, scalars, missing
        self.names = Names.of(gpu)
        self.bits = "b64" if self.names.lanes64 else "b32"
        self.exec = "exec" if self.names.lanes64 else "exec_lo"

    def _mask(self, first: int) -> str:
        return pair(first, 2 if self.names.lanes64 else 1, "s")

    def sums(self, registers: Sequence[Sequence[str]], heights: Sequence[int], sides: Sequence[int]) -> None:
        """registers[i][j]: the sum of row s6 + v10 + heights[i], column v11 + sides[j] of the block."""
        add, ragged = self.names.add, self.tiling.problem.m % self.tiling.rows != 0
        self.lines += [
            f"s_mul_i32 s28, s2, {self.tiling.columns}", f"{add} v11, s28, v11",
            f"s_mov_{self.bits} {self._mask(32)}, {self.exec}",
        ]  # fmt: skip
        for j, side in enumerate(sides):
            self._column(j, side)
        self.lines.append("v_lshlrev_b32_e32 v9, 2, v10")
        for i, height in enumerate(heights):
            self._row(height, ragged)
            for j in range(len(sides)):
                self._store(registers[i][j], j)
            if ragged:
                self.lines.append(f"s_mov_{self.bits} {self.exec}, {self._mask(32)}")

    def _column(self, j: int, side: int) -> None:
        """v4 + j: where column j of the lane begins in Y, in elements, its row group counted; s[72 + 2 j]: its mask."""
        problem, view, add = self.tiling.problem, self.tiling.view, self.names.add
        at = f"v{4 + j}"
        self.lines.append(f"{add} {at}, {side}, v11")
        if view.columns % self.tiling.columns:
            self.lines.append(f"v_cmp_gt_u32_e32 {self.names.vcc}, 0x{view.columns:x}, {at}")
            self.lines.append(f"s_mov_{self.bits} {self._mask(72 + 2 * j)}, {self.names.vcc}")
        if problem.batch > 1:
            self.lines += [
                *divided("v16", "v18", at, view.n, add),
                f"s_mov_b32 s28, {(problem.m - 1) * problem.n}", "v_mul_lo_u32 v16, v16, s28",
                f"{add} {at}, v16, {at}",
            ]  # fmt: skip
        self.lines += [f"s_mov_b32 s28, {problem.n}", "v_mul_lo_u32 v16, v10, s28", f"{add} {at}, v16, {at}"]

    def _row(self, row: int, ragged: bool) -> None:
        """s69: the row without the lane's part; v16 its scale, v17 its bias, v8 what bytes were too small by."""
        problem, lines = self.tiling.problem, self.lines
        lines.append(f"s_add_u32 s69, s6, {row}")
        if ragged:
            lines += [
                f"{self.names.add} v2, s69, v10",
                f"v_cmp_gt_u32_e32 {self.names.vcc}, 0x{problem.m:x}, v2",
                f"s_and_{self.bits} {self.exec}, {self.exec}, {self.names.vcc}",
            ]
        lines.append("s_lshl_b32 s28, s69, 2")
        wanted = {"scale": ("v16", problem.epilogue.scale), "bias": ("v17", problem.epilogue.bias)}
        wanted[self.missing] = ("v8", bool(self.missing))
        for name, (register, there) in wanted.items():
            if there:
                low, high = self.scalars.halves(name)
                lines += [f"s_add_u32 s26, {low}, s28", f"s_addc_u32 s27, {high}, 0"]
                lines.append(f"{self.names.load} {register}, v9, s[26:27]")
        if any(there for _, there in wanted.values()):
            lines.append("s_waitcnt vmcnt(0)")

    def _store(self, register: str, j: int) -> None:
        problem, lines = self.tiling.problem, self.lines
        masked = self.tiling.view.columns % self.tiling.columns
        if masked:
            lines.append(f"s_and_saveexec_{self.bits} {self._mask(34)}, {self._mask(72 + 2 * j)}")
        value = self._value(register, j)
        size = 1 if problem.output.quantized else 4
        self._place("y", j, size)
        name = self.names.store
        if size == 1:
            name = name.replace("dword", "byte").replace("b32", "b8")
        lines.append(f"{name} v2, {value}, s[26:27]")
        if masked:
            lines.append(f"s_mov_{self.bits} {self.exec}, {self._mask(34)}")

    def _place(self, name: str, j: int, size: int) -> None:
        """v2 and s[26:27]: the lane's place of column j in Y or the residual."""
        low, high = self.scalars.halves(name)
        self.lines += [
            f"v_lshlrev_b32_e32 v2, {size.bit_length() - 1}, v{4 + j}",
            f"s_mul_i32 s28, s69, {self.tiling.problem.n * size}",
            f"s_add_u32 s26, {low}, s28",
            f"s_addc_u32 s27, {high}, 0",
        ]

    def _value(self, register: str, j: int) -> str:
        problem, lines = self.tiling.problem, self.lines
        epilogue, output = problem.epilogue, problem.output
        if problem.dtype == "int8":
            if self.missing:
                lines.append(f"{self.names.add} {register}, v8, {register}")
            if output.dtype == "int32":
                return register
            lines.append(f"v_cvt_f32_i32_e32 {register}, {register}")
        if epilogue.scale:
            lines.append(f"v_mul_f32_e32 {register}, v16, {register}")
        self._rounded("scale", register)
        if epilogue.bias:
            lines.append(f"v_add_f32_e32 {register}, v17, {register}")
        self._rounded("bias", register)
        if epilogue.residual:
            self._residual(register, j)
        self._rounded("residual", register)
        value = register
        if epilogue.activation:
            ops = Recorded()
            made, value = ops.lines(activate(ops, epilogue.activation, register), FREE, self.names.vcc)
            lines += made
        if not output.quantized:
            return value
        self._on_grid(output, value)
        lines.append("v_cvt_i32_f32_e32 v12, v12")
        return "v12"

    def _on_grid(self, kind: Output, value: str) -> None:
        """v12: the code of a number, as a float32."""
        low, high = kind.range
        self.lines += [
            f"v_mul_f32_e32 v12, {number(1.0 / kind.scale)}, {value}",
            "v_rndne_f32_e32 v12, v12",
            f"v_add_f32_e32 v12, {number(float(kind.zero))}, v12",
            f"v_max_f32_e32 v12, {number(float(low))}, v12",
            f"v_min_f32_e32 v12, {number(float(high))}, v12",
        ]

    def _rounded(self, step: str, register: str) -> None:
        """The number behind a step of the epilogue, as its code stands for it where it is rounded to one there."""
        for at, kind in self.tiling.problem.inner:
            if at == step:
                self._on_grid(kind, register)
                self.lines += [
                    f"v_add_f32_e32 v12, {number(float(-kind.zero))}, v12",
                    f"v_mul_f32_e32 {register}, {number(kind.scale)}, v12",
                ]

    def _residual(self, register: str, j: int) -> None:
        kind, lines = self.tiling.problem.residual, self.lines
        self._place("residual", j, 1 if kind.quantized else 4)
        if not kind.quantized:
            lines += [f"{self.names.load} v12, v2, s[26:27]", "s_waitcnt vmcnt(0)"]
        else:
            letter = "u" if kind.dtype == "uint8" else "s"
            name = self.names.load.replace("dword", f"{letter}byte").replace("b32", f"{'u' if letter == 'u' else 'i'}8")
            lines += [f"{name} v12, v2, s[26:27]", "s_waitcnt vmcnt(0)", "v_cvt_f32_i32_e32 v12, v12"]
            lines += [f"v_add_f32_e32 v12, {number(float(-kind.zero))}, v12"]
            lines += [f"v_mul_f32_e32 v12, {number(kind.scale)}, v12"]
        lines.append(f"v_add_f32_e32 {register}, v12, {register}")
