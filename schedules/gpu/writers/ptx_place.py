"""The first lines of a PTX kernel: a thread's column, group and panel, and where they lie in X, Y and shared memory."""

from collections.abc import Sequence

from tesa.schedules.gpu.program import Grid

FAR = 1 << 22
"""Bytes that the offset of an address reaches, at least."""


def place(grid: Grid, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The declarations of registers and shared memory, and the lines.

    They leave for each column c of the thread: %rx<c>, %ry<c>, %rr<c>, its address in X, Y and the residual; %bias;
    %group and %by, its group and panel; %sl, %sc, %rc, %cr for the stage, %se for the exchange; %p..., %z... for the
    taps of a convolution.
    """
    declared = [
        ".reg .pred %q, %q1;",
        ".reg .b32 %t, %id, %group, %bx, %by, %u, %v, %z, %j, %item, %n, %cr, %sl, %sc, %se, %sg;",
        ".reg .b64 %o, %rc, %bias, " + ", ".join(f"%{name}" for name in _bases(arguments)) + ";",
    ]
    lines = [f"ld.param.u64 %{name}, [p_{name}];" for name in arguments]
    lines = [line.replace("%x,", "%px,").replace("%y,", "%py,").replace("%residual,", "%pr,") for line in lines]
    lines += [
        f"cvta.to.global.u64 %{name}, %{name};"
        for name in (*(n for n in _bases(arguments)), *(["bias"] if "bias" in arguments else []))
    ]
    lines += [
        "mov.u32 %id, %tid.x;",
        "mov.u32 %bx, %ctaid.x;",
        "mov.u32 %by, %ctaid.y;",
        f"and.b32 %t, %id, {grid.threads - 1};",
        f"shr.u32 %group, %id, {grid.threads.bit_length() - 1};",
    ]
    for column in range(grid.columns):
        more, added = _column(grid, column, arguments)
        declared += more
        lines += added
    more, added = _shared(grid)
    return declared + more, lines + added


def _bases(arguments: Sequence[str]) -> list[str]:
    return ["px", "py", *(["pr"] if "residual" in arguments else [])]


def _column(grid: Grid, c: int, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    view, problem = grid.view, grid.problem
    residual = "residual" in arguments
    declared = [f".reg .b64 %rx{c}, %ry{c}{f', %rr{c}' if residual else ''};"]
    lines = [
        f"mad.lo.u32 %j, %bx, {grid.threads * grid.columns}, %t;",
        *([f"add.u32 %j, %j, {grid.threads * c};"] if c else []),
        *_within(grid),
        *_item(grid),
        # Y and the residual: item * m * n + n'
        f"mul.wide.u32 %o, %item, {4 * problem.m * problem.n};",
        f"add.s64 %ry{c}, %py, %o;",
        *([f"add.s64 %rr{c}, %pr, %o;"] if residual else []),
        "mul.wide.u32 %o, %n, 4;",
        f"add.s64 %ry{c}, %ry{c}, %o;",
        *([f"add.s64 %rr{c}, %rr{c}, %o;"] if residual else []),
        f"mul.wide.u32 %o, %item, {4 * view.item};",
        f"add.s64 %rx{c}, %px, %o;",
    ]
    if view.border is None:
        lines += ["mul.wide.u32 %o, %n, 4;", f"add.s64 %rx{c}, %rx{c}, %o;"]
        return declared, lines
    more, added = _window(grid, c)
    return declared + more, lines + added


def _within(grid: Grid) -> list[str]:
    """%j, or a column of the last ones; four neighbours that are copied together stay neighbours."""
    last = grid.view.columns
    if grid.staged != "rows":
        return [f"min.u32 %j, %j, {last - 1};"]
    return ["and.b32 %u, %j, 3;", "sub.u32 %j, %j, %u;", f"min.u32 %j, %j, {last - 4};", "add.u32 %j, %j, %u;"]


def _item(grid: Grid) -> list[str]:
    """%item and %n, the column within it."""
    if grid.problem.batch == 1:
        return ["mov.u32 %item, 0;", "mov.u32 %n, %j;"]
    return [f"div.u32 %item, %j, {grid.view.n};", f"mul.lo.u32 %u, %item, {grid.view.n};", "sub.u32 %n, %j, %u;"]


def _window(grid: Grid, c: int) -> tuple[list[str], list[str]]:
    """The begin of a column's window, and the taps of it that lie inside of the image."""
    border = grid.view.border
    assert border is not None
    staged = bool(grid.staged)
    lines = [
        f"div.u32 %u, %n, {border.out_width};",
        f"mul.lo.u32 %v, %u, {border.out_width};",
        "sub.u32 %v, %n, %v;",
        f"mul.lo.u32 %u, %u, {border.stride[0]};",
        f"sub.u32 %u, %u, {border.padding[0]};",
        f"mul.lo.u32 %v, %v, {border.stride[1]};",
        f"sub.u32 %v, %v, {border.padding[1]};",
        f"mad.lo.s32 %j, %u, {border.width}, %v;",
        "mul.wide.s32 %o, %j, 4;",
        f"add.s64 %rx{c}, %rx{c}, %o;",
    ]
    kind, name = ("b32", "z") if staged else ("pred", "p")
    declared: list[str] = []
    masks = grid.view.masks
    rows, columns = sorted({row for row, _ in masks}), sorted({column for _, column in masks})
    for axis, taps, register, size, far in (
        ("r", rows, "%u", border.height, border.rows), ("c", columns, "%v", border.width, border.columns),
    ):  # fmt: skip
        for tap in taps:
            made = f"%{name}{axis}{tap}_{c}"
            declared.append(f".reg .{kind} {made};")
            # a number below 0 is a very large one without a sign
            lines.append(f"add.u32 %z, {register}, {far[tap][0]};")
            lines.append(f"setp.lt.u32 {'%q' if staged else made}, %z, {size};")
            if staged:
                lines.append(f"selp.b32 {made}, 4, 0, %q;")
    if len(masks) <= 16:
        for row, column in masks:
            made = f"%{name}{row}_{column}_{c}"
            declared.append(f".reg .{kind} {made};")
            lines.append(f"and.{kind} {made}, %{name}r{row}_{c}, %{name}c{column}_{c};")
    return declared, lines


def _shared(grid: Grid) -> tuple[list[str], list[str]]:
    declared, lines = [], []
    width = grid.threads * grid.columns
    if grid.staged:
        declared.append(f".shared .align 16 .b8 stage[{grid.stage_bytes}];")
        lines += [
            "mov.u32 %sg, stage;",
            f"mad.lo.u32 %sg, %group, {grid.stage_bytes // grid.groups}, %sg;",
            "mad.lo.u32 %sl, %t, 4, %sg;",
        ]
    if grid.staged == "rows":
        lines += [
            f"shr.u32 %cr, %t, {(width // 4).bit_length() - 1};",
            f"and.b32 %v, %t, {width // 4 - 1};",
            "shl.b32 %v, %v, 2;",
            # the four columns that this thread copies
            f"mad.lo.u32 %j, %bx, {width}, %v;",
            f"min.u32 %j, %j, {grid.view.columns - 4};",
            *_item(grid),
            f"mul.wide.u32 %o, %item, {4 * grid.view.item};",
            "add.s64 %rc, %px, %o;",
            "mul.wide.u32 %o, %n, 4;",
            "add.s64 %rc, %rc, %o;",
            f"mul.wide.u32 %o, %cr, {4 * grid.view.n};",
            "add.s64 %rc, %rc, %o;",
            f"mad.lo.u32 %sc, %cr, {4 * width}, %sg;",
            "mad.lo.u32 %sc, %v, 4, %sc;",
        ]
    if grid.groups > 1:
        declared.append(f".shared .align 16 .b8 exchange[{grid.exchange_bytes}];")
        lines += ["mov.u32 %se, exchange;", "mad.lo.u32 %se, %t, 4, %se;"]
    return declared, lines
