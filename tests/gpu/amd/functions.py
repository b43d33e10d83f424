"""Vector instructions of AMD that are functions of their sources, one lane at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gpu.faults import Fault

U32, U64 = np.uint32, np.uint64


def _by(b: Any) -> Any:
    return np.asarray(b).astype(U32) & U32(31)


def wide(x: Any) -> Any:
    return np.asarray(x).astype(np.float64)


def fma(a: Any, b: Any, c: Any) -> Any:
    return (wide(a) * wide(b) + wide(c)).astype(np.float32)


def _med3(a: Any, b: Any, c: Any) -> Any:
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


def split_bytes(x: Any, signed: bool) -> Any:
    whole = np.ascontiguousarray(np.atleast_1d(x))
    return whole.view(np.int8 if signed else np.uint8).reshape(*whole.shape, 4).astype(np.int64)


def _perm(a: Any, b: Any, pick: Any) -> Any:
    both = np.asarray(b).astype(U64) | np.asarray(a).astype(U64) << U64(32)
    value = U64(0)
    for byte in range(4):
        which = np.asarray(pick).astype(U64) >> U64(8 * byte) & U64(255)
        if (which >= 13).any() or ((which >= 8) & (which < 12)).any():
            raise Fault("v_perm_b32 with a selector that the interpreter does not know")
        found = np.where(which == 12, U64(0), both >> (which & U64(7)) * U64(8) & U64(255))
        value = value | found << U64(8 * byte)
    return value


def _u24(x: Any) -> Any:
    return np.asarray(x).astype(U64) & U64(0xFFFFFF)


def _bfe(a: Any, first: Any, count: Any) -> Any:
    x = np.asarray(a).astype(np.int64)
    n = np.asarray(count).astype(np.int64) & 31
    value = (x >> (np.asarray(first).astype(np.int64) & 31)) & ((1 << n) - 1)
    if np.asarray(a).dtype.kind == "i":
        value = np.where(n > 0, value - ((value >> np.maximum(n, 1) - 1) << n), 0)
    return value


def _to_int(low: int, high: int) -> Callable[[Any], Any]:
    return lambda x: np.clip(np.trunc(np.nan_to_num(wide(x), nan=0.0)), low, high).astype(np.int64)


FUNCTIONS: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "v_mov_b32": ("b32", "b32", lambda a: a),
    "v_not_b32": ("b32", "b32", lambda a: ~a),
    "v_bfrev_b32": ("b32", "b32", lambda a: sum(((a >> U32(i)) & U32(1)) << U32(31 - i) for i in range(32))),
    "v_add_u32": ("u32", "u32 u32", lambda a, b: a + b),
    "v_add_nc_u32": ("u32", "u32 u32", lambda a, b: a + b),
    "v_sub_u32": ("u32", "u32 u32", lambda a, b: a - b),
    "v_sub_nc_u32": ("u32", "u32 u32", lambda a, b: a - b),
    "v_subrev_u32": ("u32", "u32 u32", lambda a, b: b - a),
    "v_subrev_nc_u32": ("u32", "u32 u32", lambda a, b: b - a),
    "v_add_nc_i32": ("u32", "u32 u32", lambda a, b: a + b),
    "v_mul_lo_u32": ("u32", "u32 u32", lambda a, b: a * b),
    "v_mul_hi_u32": ("u32", "u32 u32", lambda a, b: np.asarray(a).astype(U64) * np.asarray(b).astype(U64) >> U64(32)),
    "v_mul_u32_u24": ("u32", "u32 u32", lambda a, b: _u24(a) * _u24(b)),
    "v_mul_i32_i24": ("u32", "i32 i32", lambda a, b: np.asarray(a).astype(np.int64) * b),
    "v_mad_u32_u24": ("u32", "u32 u32 u32", lambda a, b, c: _u24(a) * _u24(b) + c),
    "v_mad_i32_i24": ("u32", "i32 i32 i32", lambda a, b, c: np.asarray(a).astype(np.int64) * b + c),
    "v_lshlrev_b32": ("u32", "u32 u32", lambda a, b: b << _by(a)),
    "v_lshrrev_b32": ("u32", "u32 u32", lambda a, b: b >> _by(a)),
    "v_ashrrev_i32": ("i32", "u32 i32", lambda a, b: b >> _by(a).astype(np.int32)),
    "v_lshlrev_b64": ("u64", "u32 u64", lambda a, b: b << (np.asarray(a).astype(U64) & U64(63))),
    "v_lshrrev_b64": ("u64", "u32 u64", lambda a, b: b >> (np.asarray(a).astype(U64) & U64(63))),
    "v_lshl_add_u32": ("u32", "u32 u32 u32", lambda a, b, c: (a << _by(b)) + c),
    "v_add_lshl_u32": ("u32", "u32 u32 u32", lambda a, b, c: (a + b) << _by(c)),
    "v_lshl_or_b32": ("u32", "u32 u32 u32", lambda a, b, c: (a << _by(b)) | c),
    "v_add3_u32": ("u32", "u32 u32 u32", lambda a, b, c: a + b + c),
    "v_and_b32": ("u32", "u32 u32", np.bitwise_and),
    "v_or_b32": ("u32", "u32 u32", np.bitwise_or),
    "v_xor_b32": ("u32", "u32 u32", np.bitwise_xor),
    "v_and_or_b32": ("u32", "u32 u32 u32", lambda a, b, c: (a & b) | c),
    "v_or3_b32": ("u32", "u32 u32 u32", lambda a, b, c: a | b | c),
    "v_xor3_b32": ("u32", "u32 u32 u32", lambda a, b, c: a ^ b ^ c),
    "v_bfi_b32": ("u32", "u32 u32 u32", lambda a, b, c: (a & b) | (~a & c)),
    "v_bfe_u32": ("u32", "u32 u32 u32", _bfe),
    "v_bfe_i32": ("u32", "i32 u32 u32", _bfe),
    "v_perm_b32": ("u32", "u32 u32 u32", _perm),
    "v_alignbit_b32": (
        "u32",
        "u32 u32 u32",
        lambda a, b, c: (np.asarray(a).astype(U64) << U64(32) | b) >> (np.asarray(c).astype(U64) & U64(31)),
    ),
    "v_min_u32": ("u32", "u32 u32", np.minimum),
    "v_max_u32": ("u32", "u32 u32", np.maximum),
    "v_min_i32": ("i32", "i32 i32", np.minimum),
    "v_max_i32": ("i32", "i32 i32", np.maximum),
    "v_med3_i32": ("i32", "i32 i32 i32", _med3),
    "v_max3_i32": ("i32", "i32 i32 i32", lambda a, b, c: np.maximum(np.maximum(a, b), c)),
    "v_add_f32": ("f32", "f32 f32", lambda a, b: a + b),
    "v_sub_f32": ("f32", "f32 f32", lambda a, b: a - b),
    "v_subrev_f32": ("f32", "f32 f32", lambda a, b: b - a),
    "v_mul_f32": ("f32", "f32 f32", lambda a, b: a * b),
    "v_fma_f32": ("f32", "f32 f32 f32", fma),
    "v_fmamk_f32": ("f32", "f32 f32 f32", fma),
    "v_fmaak_f32": ("f32", "f32 f32 f32", fma),
    "v_min_f32": ("f32", "f32 f32", np.fmin),
    "v_max_f32": ("f32", "f32 f32", np.fmax),
    "v_med3_f32": ("f32", "f32 f32 f32", _med3),
    "v_max3_f32": ("f32", "f32 f32 f32", lambda a, b, c: np.fmax(np.fmax(a, b), c)),
    "v_rcp_f32": ("f32", "f32", lambda a: 1 / a),
    "v_rsq_f32": ("f32", "f32", lambda a: 1 / np.sqrt(a)),
    "v_sqrt_f32": ("f32", "f32", np.sqrt),
    "v_exp_f32": ("f32", "f32", np.exp2),
    "v_log_f32": ("f32", "f32", np.log2),
    "v_rndne_f32": ("f32", "f32", np.rint),
    "v_floor_f32": ("f32", "f32", np.floor),
    "v_trunc_f32": ("f32", "f32", np.trunc),
    "v_ldexp_f32": ("f32", "f32 i32", lambda a, b: np.ldexp(a, b)),
    "v_cvt_f32_i32": ("f32", "i32", lambda a: np.asarray(a).astype(np.float32)),
    "v_cvt_f32_u32": ("f32", "u32", lambda a: np.asarray(a).astype(np.float32)),
    "v_cvt_i32_f32": ("i32", "f32", _to_int(-(1 << 31), (1 << 31) - 1)),
    "v_cvt_u32_f32": ("u32", "f32", _to_int(0, (1 << 32) - 1)),
    "v_cvt_f32_f16": ("f32", "f16", lambda a: a),
    "v_cvt_f16_f32": ("f16", "f32", lambda a: a),
    "v_add_f16": ("f16", "f16 f16", lambda a, b: a + b),
    "v_mul_f16": ("f16", "f16 f16", lambda a, b: a * b),
    "v_max_f16": ("f16", "f16 f16", np.fmax),
    "v_min_f16": ("f16", "f16 f16", np.fmin),
    "v_fma_f16": ("f16", "f16 f16 f16", lambda a, b, c: a * b + c),
    "v_sub_f16": ("f16", "f16 f16", lambda a, b: a - b),
    "v_subrev_f16": ("f16", "f16 f16", lambda a, b: b - a),
    **{f"v_cvt_f32_ubyte{i}": ("f32", "u32", lambda a, i=i: (a >> U32(8 * i)) & U32(255)) for i in range(4)},
}

TRANSCENDENTAL = ("v_rcp_f32", "v_rsq_f32", "v_sqrt_f32", "v_exp_f32", "v_log_f32")
