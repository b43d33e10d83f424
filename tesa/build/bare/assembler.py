"""The directives by which gcc's assembler takes the kernels of a CPU inside of C, whatever -mcpu it is called with."""

from collections.abc import Sequence

_ARM = {
    "fullfp16": ("fp16", "FP16_VECTOR_ARITHMETIC"), "dotprod": ("dotprod", "DOTPROD"),
    "fp16fml": ("fp16fml", "FP16_FML"),
    "i8mm": ("i8mm", "MATMUL_INT8"), "bf16": ("bf16", "BF16_VECTOR_ARITHMETIC"), "sve": ("sve", "SVE"),
    "sve2": ("sve2", "SVE2"),
}  # fmt: skip
"""LLVM's feature: the assembler's name, and the macro of a compiler that has it on."""


def allowed(arch: str, features: Sequence[str]) -> str:
    """C that lets the assembler take the instructions of features; nothing where it takes all as it is.

    >>> print(allowed("aarch64", ["neon", "dotprod"]))
    #if !defined(__ARM_FEATURE_DOTPROD)
    __asm__(".arch armv8.2-a+dotprod");
    #endif
    <BLANKLINE>
    """
    known = [_ARM[name] for name in _ARM if arch == "aarch64" and name in features]
    if not known:
        return ""
    lacks = " || ".join(f"!defined(__ARM_FEATURE_{macro})" for _, macro in known)
    names = "".join(f"+{name}" for name, _ in known)
    return f'#if {lacks}\n__asm__(".arch armv8.2-a{names}");\n#endif\n'
