"""Lines of x86 assembly: registers, loads and stores of AVX-512 and of AVX2, and pointers that move along."""


class Text:
    """Lines of assembly. wide: AVX-512, with 512 bits, masks, and scalars from memory as operands."""

    def __init__(self, wide: bool) -> None:
        self.wide = wide
        self.lines: list[str] = []

    def say(self, *lines: str) -> None:
        """Add lines."""
        self.lines += lines

    def v(self, index: int) -> str:
        """A vector register."""
        return f"%zmm{index}" if self.wide else f"%ymm{index}"

    def load(self, place: str, index: int, mask: int | None) -> None:
        """A vector from memory; mask: the register that says which lanes, all for None."""
        if mask is None or self.wide:
            self.say(f"vmovups {place},{self.v(index)}" + ("" if mask is None else "{%k1}{z}"))
        else:
            self.say(f"vmaskmovps {place},{self.v(mask)},{self.v(index)}")

    def store(self, index: int, place: str, mask: int | None) -> None:
        """A vector to memory."""
        if mask is None or self.wide:
            self.say(f"vmovups {self.v(index)},{place}" + ("" if mask is None else "{%k1}"))
        else:
            self.say(f"vmaskmovps {self.v(index)},{self.v(mask)},{place}")

    def zero(self, index: int) -> None:
        """Make a register zero."""
        if index < 16:
            self.say(f"vxorps %xmm{index},%xmm{index},%xmm{index}")
        else:
            self.say(f"vpxord {self.v(index)},{self.v(index)},{self.v(index)}")


class Pointer:
    """A register that moves along with what is read through it, in steps, so that displacements stay in `reach`."""

    def __init__(self, register: str, reach: int, out: Text) -> None:
        self.register, self.at, self.reach, self.out = register, 0, reach, out

    def to(self, place: int) -> str:
        """The operand for that place, in bytes from where the register was."""
        if self.reach and not -self.reach <= place - self.at < self.reach:
            step = place - self.at + self.reach  # the next places are behind this one
            self.out.say(f"addq ${step},{self.register}")
            self.at += step
        return f"{place - self.at}({self.register})"
