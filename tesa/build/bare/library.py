"""The part of a C library that code for WebAssembly would take: memory functions, and functions on numbers."""

import json
from collections.abc import Sequence
from functools import cache

from tesa.build.bare.numeric import ONE, TWO, function
from tesa.build.bare.units import compiled
from tesa.build.ir import ir_object
from tesa.schedules.cpu.bare import PIPELINES
from tesa.targets.target import Target, parse_target

_MEMORY = """
define hidden ptr @memset(ptr %to, i32 %value, i32 %bytes) {
entry:
  %byte = trunc i32 %value to i8
  %none = icmp eq i32 %bytes, 0
  br i1 %none, label %done, label %loop
loop:
  %i = phi i32 [ 0, %entry ], [ %next, %loop ]
  %p = getelementptr i8, ptr %to, i32 %i
  store volatile i8 %byte, ptr %p
  %next = add i32 %i, 1
  %more = icmp ult i32 %next, %bytes
  br i1 %more, label %loop, label %done
done:
  ret ptr %to
}
define hidden ptr @memmove(ptr %to, ptr %from, i32 %bytes) {
entry:
  %none = icmp eq i32 %bytes, 0
  %down = icmp ugt ptr %to, %from
  br i1 %none, label %done, label %loop
loop:
  %i = phi i32 [ 0, %entry ], [ %next, %loop ]
  %back = sub i32 %bytes, %i
  %last = sub i32 %back, 1
  %at = select i1 %down, i32 %last, i32 %i
  %p = getelementptr i8, ptr %from, i32 %at
  %q = getelementptr i8, ptr %to, i32 %at
  %v = load volatile i8, ptr %p
  store volatile i8 %v, ptr %q
  %next = add i32 %i, 1
  %more = icmp ult i32 %next, %bytes
  br i1 %more, label %loop, label %done
done:
  ret ptr %to
}
define hidden ptr @memcpy(ptr %to, ptr %from, i32 %bytes) {
  %r = call ptr @memmove(ptr %to, ptr %from, i32 %bytes)
  ret ptr %r
}
"""

_ONE = """
declare i32 @tesa_math_NAME(double, ptr)
define hidden double @NAME(double %x) {
  %result = alloca double
  %none = fcmp uno double %x, %x
  br i1 %none, label %nan, label %number
number:
  call i32 @tesa_math_NAME(double %x, ptr %result)
  %value = load double, ptr %result
  ret double %value
nan:
  ret double %x
}"""

_TWO = """
declare i32 @tesa_math_NAME(double, double, ptr)
define hidden double @NAME(double %x, double %y) {
  %result = alloca double
  %none = fcmp uno double %x, %y
  br i1 %none, label %nan, label %number
number:
  call i32 @tesa_math_NAME(double %x, double %y, ptr %result)
  %value = load double, ptr %result
  ret double %value
nan:
  %sum = fadd double %x, %y
  NONE
}"""

_NONE = {
    "pow": """%zero = fcmp oeq double %y, 0.0
  %one = fcmp oeq double %x, 1.0
  %sure = or i1 %zero, %one
  %said = select i1 %sure, double 1.0, double %sum
  ret double %said""",
    "hypot": """%a = call double @llvm.fabs.f64(double %x)
  %b = call double @llvm.fabs.f64(double %y)
  %afar = fcmp oeq double %a, 0x7FF0000000000000
  %bfar = fcmp oeq double %b, 0x7FF0000000000000
  %far = or i1 %afar, %bfar
  %said = select i1 %far, double 0x7FF0000000000000, double %sum
  ret double %said""",
}
"""What functions of two arguments answer where one of these is no number: by default, that there is none."""

_SHORT_ONE = """
define hidden float @NAMEf(float %x) {
  %wide = fpext float %x to double
  %value = call double @NAME(double %wide)
  %short = fptrunc double %value to float
  ret float %short
}"""

_SHORT_TWO = """
define hidden float @NAMEf(float %x, float %y) {
  %a = fpext float %x to double
  %b = fpext float %y to double
  %value = call double @NAME(double %a, double %b)
  %short = fptrunc double %value to float
  ret float %short
}"""

_PLAIN = """
declare double @llvm.trunc.f64(double)
declare double @llvm.fabs.f64(double)
declare double @llvm.copysign.f64(double, double)
define hidden double @log2(double %x) {
  %l = call double @log(double %x)
  %value = fmul double %l, 0x3FF71547652B82FE
  ret double %value
}
define hidden double @log10(double %x) {
  %l = call double @log(double %x)
  %value = fmul double %l, 0x3FDBCB7B1526E50E
  ret double %value
}
define hidden double @exp10(double %x) {
  %value = call double @pow(double 1.0e1, double %x)
  ret double %value
}
define hidden double @round(double %x) {
  %half = call double @llvm.copysign.f64(double 0x3FDFFFFFFFFFFFFF, double %x)
  %moved = fadd double %x, %half
  %value = call double @llvm.trunc.f64(double %moved)
  ret double %value
}
define hidden double @fmin(double %x, double %y) {
  %none = fcmp uno double %y, %y
  %less = fcmp olt double %x, %y
  %is = or i1 %none, %less
  %gone = fcmp uno double %x, %x
  %first = select i1 %gone, double %y, double %x
  %value = select i1 %is, double %x, double %y
  %both = select i1 %none, double %x, double %value
  %result = select i1 %gone, double %first, double %both
  ret double %result
}
define hidden double @fmax(double %x, double %y) {
  %a = fneg double %x
  %b = fneg double %y
  %least = call double @fmin(double %a, double %b)
  %value = fneg double %least
  ret double %value
}
define hidden double @fma(double %x, double %y, double %z) {
  %product = fmul double %x, %y
  %value = fadd double %product, %z
  ret double %value
}
define hidden float @fmaf(float %x, float %y, float %z) {
  %a = fpext float %x to double
  %b = fpext float %y to double
  %c = fpext float %z to double
  %product = fmul double %a, %b
  %sum = fadd double %product, %c
  %value = fptrunc double %sum to float
  ret float %value
}
define hidden double @fmod(double %x, double %y) {
entry:
  %rest.p = alloca double
  %size = call double @llvm.fabs.f64(double %x)
  %step = call double @llvm.fabs.f64(double %y)
  store double %size, ptr %rest.p
  %infinite = fcmp oeq double %size, 0x7FF0000000000000
  %zero = fcmp ueq double %step, 0.0
  %number = fcmp uno double %size, %size
  %a = or i1 %infinite, %zero
  %b = or i1 %a, %number
  br i1 %b, label %none, label %loop
loop:
  %rest = load double, ptr %rest.p
  %more = fcmp oge double %rest, %step
  br i1 %more, label %grow, label %done
grow:
  %t = phi double [ %step, %loop ], [ %twice, %double ]
  %half = fmul double %rest, 0.5
  %small = fcmp ole double %t, %half
  br i1 %small, label %double, label %take
double:
  %twice = fmul double %t, 2.0
  br label %grow
take:
  %left = fsub double %rest, %t
  store double %left, ptr %rest.p
  br label %loop
done:
  %value = load double, ptr %rest.p
  %signed = call double @llvm.copysign.f64(double %value, double %x)
  ret double %signed
none:
  ret double 0x7FF8000000000000
}
"""


def library_objects(target: Target) -> list[bytes]:
    """Objects of which a linker takes what it needs. No target but WebAssembly has need of them."""
    return list(_objects(json.dumps(target.tvm)))


@cache
def _objects(target: str) -> Sequence[bytes]:
    where = parse_target(json.loads(target))
    names = {f"tesa_math_{name}": name for name in (*ONE, *TWO)}
    math = compiled({symbol: function(name, symbol) for symbol, name in names.items()}, where, PIPELINES["straight"], 1)
    parts = [_MEMORY, _PLAIN]
    parts += [text.replace("NAME", name) for name in ONE for text in (_ONE, _SHORT_ONE)]
    parts += [
        text.replace("NAME", name)
        for name in TWO
        for text in (_TWO.replace("NONE", _NONE.get(name, "ret double %sum")), _SHORT_TWO)
    ]
    parts += [_SHORT_ONE.replace("NAME", name) for name in ("log2", "log10", "exp10", "round")]
    parts += [_SHORT_TWO.replace("NAME", name) for name in ("fmin", "fmax", "fmod")]
    return math.content, ir_object("\n".join(parts), where.tvm)
