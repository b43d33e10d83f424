"""Tiles and what stands alone in one kernel, as PTX: behind the last tile a lane goes on with its own sums.

A lane has sums of two neighbouring columns in each 16 x 8 tile, of a row g and of row g + 8. For both of its rows at
once it reads their entries, four of each, then the elements of X that they name for its columns, and adds the products
up in the registers where the matrix unit has left its sums; the next entries are under way meanwhile. Lanes of eight
rows do so side by side; those whose rows have fewer entries wait. No memory is shared and nothing has to meet: what one
launch saves is a write and a read of Y.
"""

from tesa.schedules.gpu.scattered import GROUP, entry_words, group_bytes
from tesa.schedules.gpu.tiling import Tiling
from tesa.schedules.gpu.writers.ptx_stage import item
from tesa.schedules.gpu.writers.ptx_text import number
from tesa.schedules.gpu.writers.ptx_tiles import Tiles, tile_arguments
from tesa.schedules.gpus import Gpu, GpuText

ROWS, GROUPS = "constant3", "constant4"
"""The arrays of Scattered among the arguments."""


def mixed_arguments(tiling: Tiling) -> tuple[str, ...]:
    """The pointers that a kernel takes, in order, by the names of Launch.arguments."""
    return (*tile_arguments(tiling), ROWS, GROUPS)


class _Mixed(Tiles):
    """A kernel of tiles that goes on with the entries of its rows."""

    def __init__(self, entry: str, tiling: Tiling, gpu: Gpu) -> None:
        super().__init__(entry, tiling, gpu)
        self.arguments = mixed_arguments(tiling)
        self.registers |= {ROWS: "%ps", GROUPS: "%pe"}
        self.pair = tiling.wide  # both columns of a pair lie one behind the other
        self.bases = self.broad * (1 if self.pair else 2)
        self.taps = tiling.view.border is not None
        self.kind = tiling.problem.dtype
        self.words = GROUP * entry_words(tiling)
        values = 2 * GROUP * self.broad * 2
        self.declared = [
            ".reg .b64 %ps, %pe, %qx, %qe<2>;",
            f".reg .b64 %cx<{self.bases}>, %ca<{self.bases}>;",
            f".reg .b32 %cy<{self.bases}>, %cz<{self.bases}>;",
            f".reg .b32 %left_s, %w<{2 * self.words}>, %kw<{2 * GROUP}>;",
            f".reg .{'f32' if self.kind == 'float32' else 'b32'} %v<{values}>;",
            f".reg .f32 %wf, %vf, %d<{4 * self.tall * self.broad if self.kind == 'mixed' else 1}>;",
            ".reg .pred %live;",
        ]

    def alone(self) -> None:
        """Add what stands alone to the sums."""
        self._columns()
        if self.kind == "mixed":
            self.sum = "%d"
            self.lines += [f"cvt.rn.f32.s32 %d{i}, %s{i};" for i in range(4 * self.tall * self.broad)]
        for i in range(self.tall):
            self._rows(i)

    def _columns(self) -> None:
        """Set the places at which the lane's columns begin in X, and the lists of its block's rows."""
        tiling, view = self.tiling, self.tiling.view
        self.lines += [
            "ld.param.u64 %qx, [p_x];",
            "cvta.to.global.u64 %qx, %qx;",
            f"mad.wide.u32 %ps, %by, {8 * tiling.rows}, %ps;",
            "mad.wide.u32 %ps, %g, 8, %ps;",
        ]
        for base in range(self.bases):
            far = 8 * base if self.pair else 8 * (base // 2) + base % 2
            self.lines += [
                f"add.u32 %u, %col, {far};",
                f"min.u32 %u, %u, {view.columns - (2 if self.pair else 1)};",
                f"mov.u64 %cx{base}, %qx;",
            ]
            self.lines += item(tiling, "%u", "%v", f"%cx{base}")
            if view.border is None:
                self.lines.append(f"mad.wide.u32 %cx{base}, %u, {tiling.x_bytes}, %cx{base};")
            else:
                self._window(base)

    def _window(self, base: int) -> None:
        border = self.tiling.view.border
        assert border is not None
        self.lines += [
            f"div.u32 %v, %u, {border.out_width};",
            f"mul.lo.u32 %j, %v, {border.out_width};",
            "sub.u32 %u, %u, %j;",
            f"mul.lo.u32 %cy{base}, %v, {border.stride[0]};",
            f"sub.u32 %cy{base}, %cy{base}, {border.padding[0]};",
            f"mul.lo.u32 %cz{base}, %u, {border.stride[1]};",
            f"sub.u32 %cz{base}, %cz{base}, {border.padding[1]};",
            f"mad.lo.s32 %u, %cy{base}, {border.width}, %cz{base};",
            f"mad.wide.s32 %cx{base}, %u, {self.tiling.x_bytes}, %cx{base};",
        ]

    def _rows(self, i: int) -> None:
        """The entries of the lane's rows g and g + 8 of 16-row tile i, which are as many."""
        lines, size = self.lines, group_bytes(self.tiling)
        lines += [
            f"ld.global.nc.v2.b32 {{%u, %left_s}}, [%ps+{8 * (16 * i + 8)}];",
            "cvt.u64.u32 %o, %u;",
            "add.u64 %qe1, %pe, %o;",
            f"ld.global.nc.v2.b32 {{%u, %left_s}}, [%ps+{8 * 16 * i}];",
            "cvt.u64.u32 %o, %u;",
            "add.u64 %qe0, %pe, %o;",
            "setp.eq.u32 %q, %left_s, 0;",
            f"@%q bra $alone_end{i};",
        ]
        self._groups("")
        lines.append(f"$alone{i}:")
        for half in range(2):
            for e in range(GROUP):
                self._elements(half, e)
        for half in range(2):
            places = (half * self.words + e * entry_words(self.tiling) + 1 for e in range(GROUP))
            lines += [f"mov.b32 %kw{half * GROUP + e}, %w{place};" for e, place in enumerate(places)]
            lines.append(f"add.u64 %qe{half}, %qe{half}, {size};")
        lines += ["sub.u32 %left_s, %left_s, 1;", "setp.ne.u32 %more, %left_s, 0;"]
        self._groups("@%more ")
        for half in range(2):
            for e in range(GROUP):
                self._products(half, e, i)
        lines += [f"@%more bra $alone{i};", f"$alone_end{i}:"]

    def _groups(self, guard: str) -> None:
        """The next group of both rows."""
        for half in range(2):
            for first in range(0, self.words, 4):
                names = ", ".join(f"%w{half * self.words + first + w}" for w in range(4))
                self.lines.append(f"{guard}ld.global.nc.v4.b32 {{{names}}}, [%qe{half}+{4 * first}];")

    def _elements(self, half: int, e: int) -> None:
        """The elements of X that entry e of a row's group names, for all columns: %v."""
        place = half * self.words + e * entry_words(self.tiling)
        byte = self.tiling.x_bytes == 1
        self.lines.append(f"cvt.u64.u32 %ad, %w{place};")
        for base in range(self.bases):
            self.lines.append(f"add.u64 %ca{base}, %ad, %cx{base};")
            first = ((half * GROUP + e) * self.broad) * 2 + base * (2 if self.pair else 1)
            if self.pair:
                kind = "u8" if byte else "f32"
                self.lines.append(f"ld.global.nc.v2.{kind} {{%v{first}, %v{first + 1}}}, [%ca{base}];")
                continue
            guard = ""
            if self.taps:
                guard = "@%in "
                border = self.tiling.view.border
                assert border is not None
                self.lines += [
                    f"and.b32 %u, %w{place + 2}, 65535;",
                    f"add.u32 %u, %u, %cy{base};",
                    f"shr.u32 %v, %w{place + 2}, 16;",
                    f"add.u32 %v, %v, %cz{base};",
                    f"setp.lt.u32 %q, %u, {border.height};",
                    f"setp.lt.and.u32 %in, %v, {border.width}, %q;",
                    f"mov.b32 %v{first}, {number(0.0) if not byte else self.tiling.problem.x_pad};",
                ]
            self.lines.append(f"{guard}ld.global.nc.{'u8' if byte else 'f32'} %v{first}, [%ca{base}];")

    def _products(self, half: int, e: int, i: int) -> None:
        """Entry e of a row's group times its elements; what fills up has the weight 0, and adds nothing."""
        weight = f"%kw{half * GROUP + e}"
        self.lines.append(f"setp.ne.u32 %live, {weight}, 0;")
        if self.kind != "int8":
            self.lines.append(f"mov.b32 %wf, {weight};")
        for j in range(self.broad):
            for side in range(2):
                total = f"{self.sum}{(i * self.broad + j) * 4 + 2 * half + side}"
                x = f"%v{((half * GROUP + e) * self.broad + j) * 2 + side}"
                if self.kind == "int8":
                    self.lines.append(f"@%live mad.lo.s32 {total}, {x}, {weight}, {total};")
                    continue
                if self.kind == "mixed":
                    self.lines.append(f"cvt.rn.f32.u32 %vf, {x};")
                    x = "%vf"
                self.lines.append(f"@%live fma.rn.f32 {total}, {x}, %wf, {total};")


def write(entry: str, tiling: Tiling, gpu: Gpu) -> GpuText:
    """The module of a kernel of tiles and of what stands alone."""
    return GpuText(entry, "ptx", _Mixed(entry, tiling, gpu).text())
