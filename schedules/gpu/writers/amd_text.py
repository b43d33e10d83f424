"""Spelling of AMD's assembly: names that differ from one generation to the next, and the frame of a module."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tesa.schedules.gpu.activations import Operand
from tesa.schedules.gpus import Gpu

_INLINE = {0.0: "0", 0.5: "0.5", 1.0: "1.0", 2.0: "2.0", 4.0: "4.0", -0.5: "-0.5", -1.0: "-1.0", -2.0: "-2.0"}


@dataclass(frozen=True)
class Names:
    """Instructions as one generation calls them."""

    load: str
    store: str
    scalar_load: str
    scalar_load2: str
    add: str
    local_read: str
    local_write: str
    vcc: str
    lanes64: bool
    fma_literal: bool
    accumulates: bool

    @staticmethod
    def of(gpu: Gpu) -> "Names":
        """The names for a GPU: gfx9 has waves of 64 lanes; gfx11 says how many bits instead of words."""
        generation = int(gpu.name[3:-2])
        bits, words = ("b32", "b64"), ("dword", "dwordx2")
        one, two = bits if generation >= 11 else words
        local = ("ds_load_b32", "ds_store_b32") if generation >= 11 else ("ds_read_b32", "ds_write_b32")
        return Names(
            f"global_load_{one}", f"global_store_{one}", f"s_load_{one}", f"s_load_{two}",
            "v_add_u32_e32" if generation == 9 else "v_add_nc_u32_e32", *local,
            "vcc" if generation == 9 else "vcc_lo", generation == 9, generation >= 10,
            gpu.name in ("gfx90a", "gfx942"),
        )  # fmt: skip


def number(value: float) -> str:
    """A float32 as an operand: a short constant of the instruction set, or its bits.

    >>> number(1.0), number(0.1)
    ('1.0', '0x3dcccccd')
    """
    short = float(np.float32(value))
    if short in _INLINE and not (short == 0 and np.signbit(short)):
        return _INLINE[short]
    return f"0x{int(np.float32(value).view(np.uint32)):x}"


class Recorded:
    """Operations of an activation, recorded and then given registers of a few that are free."""

    def __init__(self) -> None:
        self._made: list[tuple[str, str, tuple[Operand, ...]]] = []

    def add(self, a: Operand, b: Operand) -> str:
        return self._new("v_add_f32_e32", b, a)

    def multiply(self, a: Operand, b: Operand) -> str:
        return self._new("v_mul_f32_e32", b, a)

    def fma(self, a: Operand, b: Operand, c: Operand) -> str:
        return self._new("v_fma_f32", a, b, c)

    def exp2(self, a: str) -> str:
        return self._new("v_exp_f32_e32", a)

    def reciprocal(self, a: str) -> str:
        return self._new("v_rcp_f32_e32", a)

    def absolute(self, a: str) -> str:
        return self._new("v_and_b32_e32", "0x7fffffff", a)

    def signed(self, a: str, sign: str) -> str:
        return self._new("v_bfi_b32", "mask", a, sign)

    def at_least(self, a: str, low: float) -> str:
        return self._new("v_cmp_lt_f32", a, low)

    def at_most(self, a: str, high: float) -> str:
        return self._new("v_cmp_gt_f32", a, high)

    def _new(self, name: str, *operands: Operand) -> str:
        self._made.append((f"t{len(self._made)}", name, operands))
        return self._made[-1][0]

    def lines(self, result: str, free: Sequence[str], vcc: str) -> tuple[list[str], str]:
        """The instructions, and the register of the result. free: registers that they may use.

        The first scalar register of `SCRATCH` holds a number that an instruction cannot have in itself.
        """
        last = {operand: i for i, (_, _, operands) in enumerate(self._made) for operand in operands}
        last[result] = len(self._made)
        pool, where, lines = list(free), dict[str, str](), list[str]()
        for i, (name, operation, operands) in enumerate(self._made):
            said = [where.get(one, one) if isinstance(one, str) else one for one in operands]
            for one in operands:
                if isinstance(one, str) and one in where and last[one] == i:
                    pool.append(where.pop(one))
            target = pool.pop(0)
            where[name] = target
            lines += _spelled(operation, target, said, vcc)
        return lines, where.get(result, result)


SCRATCH = ("s30", "s31", "s29")
"""Scalar registers for numbers of a moment."""


def _spelled(operation: str, target: str, operands: Sequence[Operand], vcc: str) -> list[str]:
    lines: list[str] = []
    if operation.startswith("v_cmp"):
        value, limit = operands
        assert isinstance(limit, float)
        assert isinstance(value, str)
        said = number(limit)
        # a comparison has its number first: it is the other way round
        turned = {"v_cmp_lt_f32": "v_cmp_gt_f32_e32", "v_cmp_gt_f32": "v_cmp_lt_f32_e32"}[operation]
        lines = [f"{turned} {vcc}, {said}, {value}", f"v_mov_b32_e32 {SPARE}, {said}"]
        return [*lines, f"v_cndmask_b32_e32 {target}, {value}, {SPARE}, {vcc}"]
    said_all: list[str] = []
    scalars = iter(SCRATCH)
    for i, one in enumerate(operands):
        text = one if isinstance(one, str) else number(one)
        text = "0x7fffffff" if text == "mask" else text
        literal = text.startswith("0x")
        if literal and (operation in ("v_fma_f32", "v_bfi_b32") or i > 0):
            register = next(scalars)
            lines.append(f"s_mov_b32 {register}, {text}")
            # two scalars in one instruction are too many for gfx9: all but the first one go through a vector register
            if said_all and any(s.startswith("s") for s in said_all):
                lines.append(f"v_mov_b32_e32 {SPARE}, {register}")
                register = SPARE
            text = register
        said_all.append(text)
    lines.append(f"{operation} {target}, {', '.join(said_all)}")
    if operation in ("v_exp_f32_e32", "v_rcp_f32_e32"):
        # their results come late: gfx942 wants a slot between, gfx11 a wait, and the assembler adds neither
        lines.append("s_nop 0" if vcc == "vcc" else "s_waitcnt_depctr 0xfff")
    return lines


SPARE = "v3"
"""A vector register for numbers of a moment."""


def frame(name: str, gpu: Gpu, lines: Sequence[str], facts: dict[str, int], arguments: Sequence[str]) -> str:
    """A module with one kernel. facts: vgprs, sgprs, shared, threads."""
    names = Names.of(gpu)
    head = [
        f'.amdgcn_target "amdgcn-amd-amdhsa--{gpu.name}"', ".text", f".globl {name}", ".p2align 8",
        f".type {name},@function", f"{name}:", *lines, f".size {name}, .-{name}",
    ]  # fmt: skip
    if not names.lanes64:  # what is read ahead of the end must be there
        head.append(".fill 64, 4, 0xbf9f0000")
    described = {
        "group_segment_fixed_size": facts["shared"], "private_segment_fixed_size": 0,
        "kernarg_size": 8 * len(arguments), "user_sgpr_kernarg_segment_ptr": 1, "system_sgpr_workgroup_id_x": 1,
        "system_sgpr_workgroup_id_y": 1, "system_vgpr_workitem_id": 0, "next_free_vgpr": facts["vgprs"],
        "next_free_sgpr": facts["sgprs"], "float_denorm_mode_32": 3, "float_denorm_mode_16_64": 3,
    }  # fmt: skip
    if names.accumulates:
        described["accum_offset"] = -(-facts["vgprs"] // 4) * 4
    if not names.lanes64:
        described["wavefront_size32"] = 1
    table = [f".amdhsa_{key} {value}" for key, value in described.items()]
    listed = [
        f"      - {{.name: {one}, .size: 8, .offset: {8 * i}, .value_kind: global_buffer, .address_space: global}}"
        for i, one in enumerate(arguments)
    ]
    metadata = [
        ".amdgpu_metadata", "---", "amdhsa.version: [1, 2]", f"amdhsa.target: amdgcn-amd-amdhsa--{gpu.name}",
        "amdhsa.kernels:", f"  - .name: {name}", f"    .symbol: {name}.kd",
        f"    .kernarg_segment_size: {8 * len(arguments)}", "    .kernarg_segment_align: 8",
        f"    .group_segment_fixed_size: {facts['shared']}", "    .private_segment_fixed_size: 0",
        f"    .wavefront_size: {gpu.warp}", f"    .sgpr_count: {facts['sgprs']}",
        f"    .vgpr_count: {facts['vgprs']}", f"    .max_flat_workgroup_size: {facts['threads']}", "    .args:",
        *listed, "...", ".end_amdgpu_metadata", "",
    ]  # fmt: skip
    tail = ['.section .rodata,"a",@progbits', ".p2align 6", f".amdhsa_kernel {name}", *table, ".end_amdhsa_kernel"]
    return "\n".join([*head, *tail, *metadata])
