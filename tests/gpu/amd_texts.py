"""Small AMD assemblies around a body, for the tests of the interpreter."""

from __future__ import annotations

import numpy as np

from tests.gpu.simulate import run

NEW = {
    "global_load_dword": "global_load_b32",
    "global_store_dword": "global_store_b32",
    "s_load_dwordx4": "s_load_b128",
}
NEW |= {"ds_read_": "ds_load_", "ds_write_": "ds_store_", "v_add_u32": "v_add_nc_u32", "v_sub_u32": "v_sub_nc_u32"}

BEGIN = """  s_load_dwordx4 s[4:7], s[0:1], 0x0
  v_and_b32_e32 v0, 0x3ff, v0
  v_lshlrev_b32_e32 v1, 2, v0
  s_waitcnt lgkmcnt(0)
  global_load_dword v2, v1, s[4:5]
  s_waitcnt vmcnt(0)
"""


def kernel(body: str, target: str = "gfx90a", vectors: int = 64, lds: int = 1024, begin: str = BEGIN) -> str:
    """A kernel t of x and y. It finds its thread in v0, 4 times that in v1, its word of x in v2; s[4:5], s[6:7] are
    the addresses of x and y. Registers and LDS are declared; body's names are gfx9's, renamed for newer targets."""
    text = begin + body + "\n  s_endpgm\n"
    generation = int(target[3:-2])
    for old, new in NEW.items():
        if generation >= 11 or (generation == 10 and old.startswith("v_")):
            text = text.replace(old, new)
    sums = f"  .amdhsa_accum_offset {vectors}\n" if target in ("gfx90a", "gfx942") else ""
    wave = "" if generation == 9 else "  .amdhsa_wavefront_size32 1\n"
    return f"""  .amdgcn_target "amdgcn-amd-amdhsa--{target}"
  .text
  .globl t
  .p2align 8
  .type t,@function
t:
{text}
  .size t, .-t
  .section .rodata,"a",@progbits
  .p2align 6
  .amdhsa_kernel t
  .amdhsa_kernarg_size 16
  .amdhsa_user_sgpr_kernarg_segment_ptr 1
  .amdhsa_system_sgpr_workgroup_id_x 1
  .amdhsa_group_segment_fixed_size {lds}
  .amdhsa_next_free_vgpr {vectors + (64 if sums else 0)}
  .amdhsa_next_free_sgpr 32
{sums}{wave}  .end_amdhsa_kernel
  .amdgpu_metadata
---
amdhsa.version: [1, 2]
amdhsa.target: amdgcn-amd-amdhsa--{target}
amdhsa.kernels:
  - .name: t
    .symbol: t.kd
    .kernarg_segment_size: 16
    .kernarg_segment_align: 8
    .group_segment_fixed_size: {lds}
    .private_segment_fixed_size: 0
    .wavefront_size: {64 if generation == 9 else 32}
    .sgpr_count: 32
    .vgpr_count: {vectors}
    .max_flat_workgroup_size: 256
    .args:
      - {{.size: 8, .offset: 0, .value_kind: global_buffer, .address_space: global}}
      - {{.size: 8, .offset: 8, .value_kind: global_buffer, .address_space: global}}
...
  .end_amdgpu_metadata
"""


def words(body: str, x: np.ndarray, target: str = "gfx90a", dtype: str = "u4") -> np.ndarray:
    """What threads store from v3 to their words of y."""
    y = np.zeros(len(x), dtype)
    run(kernel(body + "\n  global_store_dword v1, v3, s[6:7]", target), "t", 1, len(x), 0, [x, y])
    return y
