"""The end of a kernel of tiles, from its sums to Y, as PTX: scale, bias, residual, activation, codes, stores."""

from dataclasses import dataclass, field

from tesa.schedules.gpu.activations import activate
from tesa.schedules.gpu.tiling import Tiling
from tesa.schedules.gpu.writers.ptx_text import Registers, number
from tesa.schedules.types import Output


@dataclass
class Finish:
    """Writes sums of a lane, each of a row and a column, as values of Y.

    Found set: %row, the lane's first row; %col, its first column; %py, %pr, %bias, %scale, addresses.
    """

    tiling: Tiling
    lines: list[str]
    floats: Registers
    _made: int = field(default=0)

    def sums(self, registers: list[list[list[str]]], heights: list[int], sides: list[int]) -> None:
        """registers[i][j][e]: the sum of row %row + heights[i] and column %col + sides[j] + e."""
        pairs = len(registers[0][0])
        places = [self._places(side, pairs) for side in sides]
        for i, height in enumerate(heights):
            row = self._row(height)
            for j, place in enumerate(places):
                self._store(row, place, registers[i][j])

    def _new(self, kind: str) -> str:
        self._made += 1
        return f"%{kind}{self._made}"

    @property
    def declared(self) -> list[str]:
        """The registers that were used."""
        return [
            f".reg .b64 %n<{self._made + 1}>;",
            f".reg .b32 %m<{self._made + 1}>;",
            f".reg .pred %k<{self._made + 1}>;",
        ]

    def _places(self, side: int, count: int) -> list[tuple[str, str]]:
        """For each of the neighbouring columns: where it begins in Y, in elements, and the predicate that it is there.

        One place serves both columns of a pair that never lies across the end of an image.
        """
        problem, view = self.tiling.problem, self.tiling.view
        found: list[tuple[str, str]] = []
        for e in range(1 if self._together else count):
            column, there, place = self._new("m"), "", self._new("n")
            self.lines.append(f"add.u32 {column}, %col, {side + e};")
            if view.columns % self.tiling.columns:
                there = self._new("k")
                self.lines.append(f"setp.lt.u32 {there}, {column}, {view.columns};")
            if problem.batch == 1:
                self.lines.append(f"cvt.u64.u32 {place}, {column};")
            else:
                item, wide = self._new("m"), self._new("n")
                self.lines += [
                    f"div.u32 {item}, {column}, {view.n};",
                    f"mul.wide.u32 {wide}, {item}, {(problem.m - 1) * problem.n};",
                    f"cvt.u64.u32 {place}, {column};",
                    f"add.u64 {place}, {place}, {wide};",
                ]
            found.append((place, there))
        return found

    @property
    def _together(self) -> bool:
        return self.tiling.view.n % 2 == 0

    def _row(self, height: int) -> tuple[str, str, str, str]:
        """The begin of a row in Y, in elements; its predicate, bias and scale, "" for none."""
        problem, lines = self.tiling.problem, self.lines
        row, there, place, bias, scale = self._new("m"), "", self._new("n"), "", ""
        lines.append(f"add.u32 {row}, %row, {height};")
        if problem.m % self.tiling.rows:
            there = self._new("k")
            lines.append(f"setp.lt.u32 {there}, {row}, {problem.m};")
        guard = f"@{there} " if there else ""
        for name, wanted in (("bias", problem.epilogue.bias), ("scale", problem.epilogue.scale)):
            if wanted:
                at, found = self._new("n"), self.floats.new()
                lines.append(f"mad.wide.u32 {at}, {row}, 4, %{name};")
                if there:
                    lines.append(f"mov.f32 {found}, {number(0.0)};")
                lines.append(f"{guard}ld.global.nc.f32 {found}, [{at}];")
                bias, scale = (found, scale) if name == "bias" else (bias, found)
        lines.append(f"mul.wide.u32 {place}, {row}, {problem.n};")
        return place, there, bias, scale

    def _store(self, row: tuple[str, str, str, str], places: list[tuple[str, str]], sums: list[str]) -> None:
        row_place, row_there, bias, scale = row
        output = self.tiling.problem.output
        size = {"float32": 4, "int32": 4}.get(output.dtype, 1)
        values: list[str] = []
        for e, register in enumerate(sums):
            place, column_there = places[min(e, len(places) - 1)]
            there = self._both(row_there, column_there)
            at = self._new("n")
            self.lines.append(f"add.u64 {at}, {row_place}, {place};")
            ahead = e if len(places) == 1 else 0
            values.append(self._value(register, bias, scale, (at, ahead, there)))
            guard = f"@{there} " if there else ""
            if len(places) == 1 and e + 1 < len(sums):
                continue
            address = self._new("n")
            self.lines.append(f"mad.lo.u64 {address}, {at}, {size}, %py;")
            kind = {"float32": "f32", "int32": "s32"}.get(output.dtype, "u8")
            if len(places) == 1 and len(sums) == 2:
                self.lines.append(f"{guard}st.global.v2.{kind} [{address}], {{{', '.join(values)}}};")
            else:
                self.lines.append(f"{guard}st.global.{kind} [{address}], {values[-1]};")

    def _both(self, first: str, second: str) -> str:
        if not first or not second:
            return first or second
        both = self._new("k")
        self.lines.append(f"and.pred {both}, {first}, {second};")
        return both

    def _value(self, register: str, bias: str, scale: str, place: tuple[str, int, str]) -> str:
        """The number that is stored for a sum."""
        problem, lines, floats = self.tiling.problem, self.lines, self.floats
        output = problem.output
        if output.dtype == "int32":
            return register
        value = register
        if problem.dtype == "int8":
            value = floats.new()
            lines.append(f"cvt.rn.f32.s32 {value}, {register};")
        if scale:
            value = floats.multiply(value, scale)
        value = self._rounded("scale", value)
        if bias:
            value = floats.add(value, bias)
        value = self._rounded("bias", value)
        if problem.epilogue.residual:
            value = floats.add(value, self._residual(place))
        value = self._rounded("residual", value)
        if problem.epilogue.activation:
            value = activate(floats, problem.epilogue.activation, value)
        if not output.quantized:
            return value
        return self._code(output, value)

    def _code(self, output: Output, value: str) -> str:
        """The code of a number."""
        near, code = self.floats.new(), self._new("m")
        self.lines.append(f"cvt.rni.f32.f32 {near}, {self.floats.multiply(value, 1.0 / output.scale)};")
        kind = "u8" if output.dtype == "uint8" else "s8"
        self.lines.append(f"cvt.rni.sat.{kind}.f32 {code}, {self.floats.add(near, float(output.zero))};")
        return code

    def _rounded(self, step: str, value: str) -> str:
        """The number behind a step of the epilogue, as its code stands for it where it is rounded to one there."""
        for at, kind in self.tiling.problem.inner:
            if at == step:
                number = self.floats.new()
                sign = "u" if kind.dtype == "uint8" else "s"
                self.lines.append(f"cvt.rn.f32.{sign}32 {number}, {self._code(kind, value)};")
                value = self.floats.multiply(self.floats.add(number, float(-kind.zero)), kind.scale)
        return value

    def _residual(self, place: tuple[str, int, str]) -> str:
        kind = self.tiling.problem.residual
        at, ahead, there = place
        size, address, found = (1 if kind.quantized else 4), self._new("n"), self.floats.new()
        guard = f"@{there} " if there else ""
        self.lines.append(f"mad.lo.u64 {address}, {at}, {size}, %pr;")
        if not kind.quantized:
            if there:
                self.lines.append(f"mov.f32 {found}, {number(0.0)};")
            self.lines.append(f"{guard}ld.global.nc.f32 {found}, [{address}+{4 * ahead}];")
            return found
        code, sign = self._new("m"), "u" if kind.dtype == "uint8" else "s"
        if there:
            self.lines.append(f"mov.b32 {code}, 0;")
        self.lines.append(f"{guard}ld.global.nc.{sign}8 {code}, [{address}+{ahead}];")
        self.lines.append(f"cvt.rn.f32.{sign}32 {found}, {code};")
        return self.floats.multiply(self.floats.add(found, float(-kind.zero)), kind.scale)
