"""Words of the elements that a matrix unit takes, made of elements of X, as PTX."""

from collections.abc import Sequence

from tesa.schedules.gpu.tiling import Tiling
from tesa.schedules.gpus import Gpu

SCRATCH = (".reg .f32 %f_in, %f_high;", ".reg .b16 %h_low, %h_high;", ".reg .b32 %z<4>, %h<4>;")
"""The registers that are needed for a moment; %z0 to %z3 hold words."""

_CONVERT = {"float16": "f16x2", "bfloat16": "bf16x2"}


def word(tiling: Tiling, gpu: Gpu, lines: list[str], target: str, parts: Sequence[str]) -> None:
    """A word of the elements of one column that are neighbours along k. parts: registers of one element each."""
    if len(parts) == 1:
        lines.append(f"mov.b32 %f_in, {parts[0]};")
        lines.append(f"cvt.rna.tf32.f32 {target}, %f_in;")
    elif len(parts) == 4:
        lines += [
            f"prmt.b32 %h0, {parts[0]}, {parts[1]}, 0x0040;",
            f"prmt.b32 %h1, {parts[2]}, {parts[3]}, 0x0040;",
            f"prmt.b32 {target}, %h0, %h1, 0x5410;",
        ]
    elif gpu.async_copies:  # pairs are converted since they are there
        lines += [f"mov.b32 %f_in, {parts[0]};", f"mov.b32 %f_high, {parts[1]};"]
        lines.append(f"cvt.rn.{_CONVERT[tiling.unit.inputs]}.f32 {target}, %f_high, %f_in;")
    else:
        lines += [f"mov.b32 %f_in, {parts[0]};", f"mov.b32 %f_high, {parts[1]};"]
        lines += ["cvt.rn.f16.f32 %h_low, %f_in;", "cvt.rn.f16.f32 %h_high, %f_high;"]
        lines.append(f"mov.b32 {target}, {{%h_low, %h_high}};")


def turn(lines: list[str], rows: Sequence[str], targets: Sequence[str] = ("%z0", "%z1", "%z2", "%z3")) -> None:
    """Four words of four columns each, of neighbouring k, to four words of one column each."""
    a, b, c, d = rows
    first, second, third, fourth = targets
    lines += [
        f"prmt.b32 %h0, {a}, {b}, 0x5140;",  # a0 b0 a1 b1
        f"prmt.b32 %h1, {c}, {d}, 0x5140;",
        f"prmt.b32 %h2, {a}, {b}, 0x7362;",  # a2 b2 a3 b3
        f"prmt.b32 %h3, {c}, {d}, 0x7362;",
        f"prmt.b32 {first}, %h0, %h1, 0x5410;",
        f"prmt.b32 {second}, %h0, %h1, 0x7632;",
        f"prmt.b32 {third}, %h2, %h3, 0x5410;",
        f"prmt.b32 {fourth}, %h2, %h3, 0x7632;",
    ]
