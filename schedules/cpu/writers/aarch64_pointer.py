"""Addresses of 64-bit ARM: pointers that move along with what is read or written through them.

An immediate of a load or store of one register reaches 64 KiB if it is a multiple of the register's size, and 256 bytes
to either side if it is not; of two registers 1 KiB to either side. Or a register steps on by another one.
"""

from collections.abc import Iterator, Sequence

LANES = 4
SPARE = "x13"
"""A register for numbers that are too large for an immediate."""

STRIDE = "x1"
"""The register of a number by which loads and stores may step on."""

_PREFIX = {4: "s", 8: "d", 16: "q"}
_PAGE = 4096  # multiples of it are added in one instruction
_BACK = 1024  # how far the immediate of a pair reaches backwards


class Pointer:
    """A register that points into an array; places are bytes from where it was when the function's tile began.

    pairs: neighbours go two at once. dense: places lie close together, so that a step serves many pairs. backwards: all
    are pairs, whose immediates reach backwards, too. stride: the number in STRIDE, 0 for none. at: where the register
    is to begin with.
    """

    def __init__(
        self,
        register: str,
        lines: list[str],
        *,
        pairs: bool = False,
        dense: bool = False,
        backwards: bool = False,
        stride: int = 0,
        at: int = 0,
    ) -> None:
        self.register, self.lines, self.at = register, lines, at
        self.pairs, self.dense, self.stride = pairs, dense, stride
        self.behind = _BACK if backwards else 0

    def load(self, found: Sequence[tuple[int, int]], lanes: int = LANES, ahead: int = 0) -> None:
        """Load vector registers, each (number, place), or the first lanes of them; ahead: the place after these."""
        self._go("ld", found, lanes, ahead)

    def store(self, found: Sequence[tuple[int, int]], lanes: int = LANES, ahead: int = 0) -> None:
        """The opposite of load."""
        self._go("st", found, lanes, ahead)

    def move(self, step: int) -> None:
        """Add a step to the register, in bytes."""
        self.lines += added(self.register, step)
        self.at += step

    def _go(self, verb: str, found: Sequence[tuple[int, int]], lanes: int, ahead: int) -> None:
        number = 0
        while number < len(found):
            index, place = found[number]
            step = (found[number + 1][1] if number + 1 < len(found) else ahead) - place
            if lanes < LANES:
                self._part(verb, index, place, lanes)
            elif self.pairs and step == 4 * LANES and number + 1 < len(found):
                self._two(verb, index, found[number + 1][0], place)
                number += 1
            elif self.stride and step == self.stride:
                self._stepping(verb, index, place)
            else:
                self._one(verb, index, place)
            number += 1

    def _one(self, verb: str, index: int, place: int, size: int = 4 * LANES) -> None:
        distance, register = place - self.at, f"{_PREFIX[size]}{index}"
        if not _scaled(distance, size) and not _near(distance):
            if distance % size == 0:
                self.move(distance // _PAGE * _PAGE)  # one instruction, and the reach is ahead
            elif abs(distance) < _PAGE - 256:
                self.move(distance + 256)
            else:
                self._far(verb, register, distance)
                return
            distance = place - self.at
        form = "r" if _scaled(distance, size) else "ur"
        self.lines.append(f"{verb}{form} {register},[{self.register},#{distance}]")

    def _far(self, verb: str, register: str, distance: int) -> None:
        if not 0 <= distance < 1 << 16:
            self.move(distance // _PAGE * _PAGE)
            distance %= _PAGE
        self.lines += [f"mov {SPARE},#{distance}", f"{verb}r {register},[{self.register},{SPARE}]"]

    def _two(self, verb: str, first: int, second: int, place: int) -> None:
        distance = place - self.at
        if not _paired(distance) and (self.dense or abs(distance) < _PAGE - _BACK):
            self.move(distance + self.behind)
            distance = place - self.at
        if _paired(distance):
            self.lines.append(f"{verb}p q{first},q{second},[{self.register},#{distance}]")
        else:
            self._one(verb, first, place)
            self._one(verb, second, place + 4 * LANES)

    def _stepping(self, verb: str, index: int, place: int) -> None:
        if place != self.at:
            self.move(place - self.at)
        self.lines.append(f"{verb}1 {{v{index}.4s}},[{self.register}],{STRIDE}")
        self.at += self.stride

    def _part(self, verb: str, index: int, place: int, lanes: int) -> None:
        """Three lanes are two and one."""
        if lanes != 3:
            self._one(verb, index, place, 4 * lanes)
            return
        self._one(verb, index, place, 8)
        self.lines += added(SPARE, place + 8 - self.at, self.register)
        self.lines.append(f"{verb}1 {{v{index}.s}}[2],[{SPARE}]")


def _scaled(distance: int, size: int) -> bool:
    return distance % size == 0 and 0 <= distance <= 4095 * size


def _near(distance: int) -> bool:
    return -256 <= distance <= 255


def _paired(distance: int) -> bool:
    return distance % 16 == 0 and -_BACK <= distance < _BACK


def number(register: str, value: int) -> Iterator[str]:
    """register = a number of at most 32 bits."""
    yield f"mov {register},#{value & 0xFFFF}"
    if value >> 16:
        yield f"movk {register},#{value >> 16},lsl #16"


def added(register: str, step: int, source: str = "") -> Iterator[str]:
    """register = source, by default itself, + step."""
    source, size, verb = source or register, abs(step), "add" if step >= 0 else "sub"
    if size >> 24:
        yield from number(SPARE, size)
        yield f"{verb} {register},{source},{SPARE}"
        return
    for part, shift in ((size >> 12, ",lsl #12"), (size & 4095, "")):
        if part:
            yield f"{verb} {register},{source},#{part}{shift}"
            source = register
    if not step and register != source:
        yield f"mov {register},{source}"
