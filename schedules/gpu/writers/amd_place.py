"""The first lines of a kernel in AMD's assembly: a thread's column, group and panel, and where they lie in X and Y."""

from collections.abc import Sequence
from dataclasses import dataclass

from tesa.schedules.gpu import steps
from tesa.schedules.gpu.program import SLOTS, Grid
from tesa.schedules.gpu.writers.amd_text import Names
from tesa.schedules.gpus import Gpu

_FIRST_MASK = 40
_SCALARS = 102  # that any kernel may have


@dataclass(frozen=True)
class Column:
    """The registers of one of a thread's columns.

    x: the vector register of its offset in X; y: of that in Y and the residual. rows, columns: by the row and the
    column of the window that may be outside, the vector register of its part of the offset in X, and the first of the
    scalar registers that say in which lanes it is inside. wide: masks have two scalar registers.
    """

    x: str
    y: str
    wide: bool
    rows: dict[int, tuple[int, int]]
    columns: dict[int, tuple[int, int]]

    def address(self, tap: steps.Tap) -> tuple[str | None, str]:
        """The register of the offset, None where row and column are to be added up, and the mask of a tap."""
        if tap is None:
            return self.x, ""
        return None, f"{tap[0]} {tap[1]}"

    def row(self, row: int) -> str:
        """The register of a window row's part of the offset."""
        return f"v{self.rows[row][0]}"

    def column(self, column: int) -> str:
        """The register of a window column's part of the offset."""
        return f"v{self.columns[column][0]}"

    def masked(self, x: str, mask: str) -> list[str]:
        """Lines that put 0 in the place of an element that lies beyond the border."""
        row, column = (int(one) for one in mask.split())
        first, second = self.rows[row][1], self.columns[column][1]
        if self.wide:
            return [
                f"s_and_b64 s[26:27], s[{first}:{first + 1}], s[{second}:{second + 1}]",
                f"v_cndmask_b32_e64 {x}, 0, {x}, s[26:27]",
            ]
        return [f"s_and_b32 s26, s{first}, s{second}", f"v_cndmask_b32_e64 {x}, 0, {x}, s26"]


@dataclass(frozen=True)
class Places:
    """The registers of a kernel.

    slots, second, sums: the first vector register of the elements of X, of those of the second column until both are a
    pair, and of sums. x, y, bias, residual: the first of two scalar registers of a pointer. v2: the place of the thread
    in local memory, where groups meet. columns: of a thread. registers, scalars: how many in all.
    """

    slots: int
    second: int
    sums: int
    x: int
    y: int
    bias: int
    residual: int
    registers: int
    scalars: int
    columns: tuple[Column, ...]


def place(grid: Grid, gpu: Gpu, arguments: Sequence[str]) -> tuple[list[str], Places]:
    """The lines, and where everything is after them. ValueError where a window has more rows than there are masks."""
    names = Names.of(gpu)
    pointer = {name: 4 + 2 * i for i, name in enumerate(arguments)}
    sums = 4 + SLOTS * grid.columns
    columns, registers = _columns(grid, gpu, sums + grid.rows)
    places = Places(
        slots=4, second=4 + SLOTS, sums=sums, x=pointer["x"], y=pointer["y"], bias=pointer.get("bias", 0),
        residual=pointer.get("residual", 0), registers=registers, scalars=_SCALARS - 4, columns=columns,
    )  # fmt: skip
    kept = f"v{4 + SLOTS - 1}"  # the thread of its group, until v2 is free
    lines = [f"{names.scalar_load2} s[{at}:{at + 1}], s[0:1], 0x{8 * i:x}" for i, at in enumerate(pointer.values())]
    lines += [
        "v_and_b32_e32 v0, 0x3ff, v0",
        f"v_lshrrev_b32_e32 v1, {grid.threads.bit_length() - 1}, v0",
        "v_readfirstlane_b32 s20, v1",
        f"v_and_b32_e32 {kept}, 0x{grid.threads - 1:x}, v0",
        f"s_mul_i32 s21, s2, {grid.threads * grid.columns}",
    ]
    for number in reversed(range(grid.columns)):  # the first one last: v0 and v1 are its own
        column = columns[number]
        lines += [f"{names.add} v0, s21, {kept}"]
        lines += [f"{names.add} v0, 0x{grid.threads * number:x}, v0"] if number else []
        lines += [f"v_min_u32_e32 v0, 0x{grid.view.columns - 1:x}, v0", *_item(grid, names), *_y(grid, names)]
        lines += _x(grid, names) if grid.view.border is None else _window(grid, names, column)
        lines += [f"v_mov_b32_e32 {column.x}, v0", f"v_mov_b32_e32 {column.y}, v1"] if number else []
    lines += [f"v_lshlrev_b32_e32 v2, 2, {kept}"] if grid.groups > 1 else []
    return [*lines, "s_waitcnt lgkmcnt(0)", *_base(grid, places)], places


def _columns(grid: Grid, gpu: Gpu, first: int) -> tuple[tuple[Column, ...], int]:
    """The columns of a thread, with vector registers from `first` on, and the first that is free behind them."""
    wide = Names.of(gpu).lanes64
    taps = grid.view.masks
    rows, across = sorted({row for row, _ in taps}), sorted({column for _, column in taps})
    mask, step = _FIRST_MASK, 2 if wide else 1
    if mask + step * grid.columns * (len(rows) + len(across)) > _SCALARS:
        raise ValueError(f"a window of {len(rows)} x {len(across)} has too many edges for {gpu.name}")
    found = []
    for number in range(grid.columns):
        own = {tap: (first + i, mask + step * i) for i, tap in enumerate(rows)}
        first, mask = first + len(rows), mask + step * len(rows)
        beside = {tap: (first + i, mask + step * i) for i, tap in enumerate(across)}
        first, mask = first + len(across), mask + step * len(across)
        x, y = ("v0", "v1") if not number else (f"v{first}", f"v{first + 1}")
        first += 2 * (number > 0)
        found.append(Column(x, y, wide, own, beside))
    return tuple(found), first


def _item(grid: Grid, names: Names) -> list[str]:
    """v4 = the batch item, v5 = the column within it: division by a constant, as a product with its reciprocal."""
    if grid.problem.batch == 1:
        return ["v_mov_b32_e32 v4, 0", "v_mov_b32_e32 v5, v0"]
    return [*_divided("v4", "v5", "v0", grid.view.n, names)]


def _divided(quotient: str, rest: str, value: str, by: int, names: Names) -> list[str]:
    """Exact for values below 2**31: Granlund and Montgomery, Division by invariant integers, PLDI 1994."""
    if by == 1:
        return [f"v_mov_b32_e32 {quotient}, {value}", f"v_mov_b32_e32 {rest}, 0"]
    shift = (by - 1).bit_length() - 1
    factor = -(-(1 << (32 + shift)) // by)
    sub = names.add.replace("v_add", "v_sub")
    return [
        f"s_mov_b32 s22, 0x{factor:x}",
        f"v_mul_hi_u32 {quotient}, {value}, s22",
        f"v_lshrrev_b32_e32 {quotient}, {shift}, {quotient}",
        f"s_mov_b32 s22, 0x{by:x}",
        f"v_mul_lo_u32 {rest}, {quotient}, s22",
        f"{sub} {rest}, {value}, {rest}",
    ]


def _y(grid: Grid, names: Names) -> list[str]:
    problem = grid.problem
    return [
        f"s_mov_b32 s22, 0x{4 * problem.m * problem.n:x}",
        "v_mul_lo_u32 v1, v4, s22",
        "v_lshlrev_b32_e32 v6, 2, v5",
        f"{names.add} v1, v6, v1",
    ]


def _x(grid: Grid, names: Names) -> list[str]:
    return [f"s_mov_b32 s22, 0x{4 * grid.view.item:x}", "v_mul_lo_u32 v0, v4, s22", f"{names.add} v0, v6, v0"]


def _shift(grid: Grid) -> int:
    """Elements by which addresses are moved on, and X's pointer back, so that no offset is below 0."""
    border = grid.view.border
    if border is None:
        return 0
    last = border.rows[-1][0] * border.width + border.columns[-1][0]
    return max(grid.view.shift, last)


def _base(grid: Grid, places: Places) -> list[str]:
    shift = 4 * _shift(grid)
    if not shift:
        return []
    return [f"s_sub_u32 s{places.x}, s{places.x}, 0x{shift:x}", f"s_subb_u32 s{places.x + 1}, s{places.x + 1}, 0"]


def _window(grid: Grid, names: Names, places: Column) -> list[str]:
    """v0: the offset where the window begins; for each of its rows and columns that may lie outside the offset of the
    nearest one inside, and in which lanes it is inside itself."""
    border = grid.view.border
    assert border is not None
    lines = _divided("v6", "v7", "v5", border.out_width, names)
    lines += [
        f"s_mov_b32 s22, 0x{border.stride[0]:x}",
        "v_mul_lo_u32 v6, v6, s22",
        f"{names.add} v6, {_signed(-border.padding[0])}, v6",  # the row of the image
        f"s_mov_b32 s22, 0x{border.stride[1]:x}",
        "v_mul_lo_u32 v7, v7, s22",
        f"{names.add} v7, {_signed(-border.padding[1])}, v7",
        f"s_mov_b32 s22, 0x{4 * grid.view.item:x}",
        "v_mul_lo_u32 v8, v4, s22",
        f"{names.add} v8, 0x{4 * _shift(grid):x}, v8",
        f"s_mov_b32 s22, 0x{4 * border.width:x}",
        "v_mul_lo_u32 v0, v6, s22",
        f"{names.add} v0, v8, v0",
        "v_lshlrev_b32_e32 v9, 2, v7",
        f"{names.add} v0, v9, v0",
    ]
    for row, (register, mask) in places.rows.items():
        lines += _edge(names, "v6", border.rows[row][0], border.height, mask)
        # the part of the offset by the row: v8 + 4 width (nearest row inside - distance of the tap)
        lines += ["v_mul_lo_u32 v10, v10, s22", f"{names.add} v{register}, v8, v10"]
    for column, (register, mask) in places.columns.items():
        lines += _edge(names, "v7", border.columns[column][0], border.width, mask)
        lines += [f"v_lshlrev_b32_e32 v{register}, 2, v10"]
    return lines


def _edge(names: Names, place: str, far: int, size: int, mask: int) -> list[str]:
    """The mask of lanes whose tap is inside, and v10 = the nearest place inside, less the distance of the tap."""
    scalars = f"s[{mask}:{mask + 1}]" if names.lanes64 else f"s{mask}"
    return [
        f"{names.add} v10, {_signed(far)}, {place}",
        f"s_movk_i32 s23, 0x{size:x}" if size < 1 << 15 else f"s_mov_b32 s23, 0x{size:x}",
        f"v_cmp_gt_u32_e64 {scalars}, s23, v10",  # a number below 0 is a very large one without a sign
        "v_max_i32_e32 v10, 0, v10",
        f"v_min_i32_e32 v10, {_signed(size - 1)}, v10",
        f"{names.add} v10, {_signed(-far)}, v10",
    ]


def _signed(value: int) -> str:
    """An integer operand: short ones are part of the instruction."""
    return str(value) if -16 <= value <= 64 else f"0x{value & 0xFFFFFFFF:x}"
