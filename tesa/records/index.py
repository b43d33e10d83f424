"""The index of a log: the records of all weights of one shape on one target, found by weight or by density."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

from tesa.base.hostinfo import EMULATED
from tesa.records.format import IndexEntry
from tesa.records.record import Record
from tesa.targets.target import host_cpu

_STEP = math.log(1.05)  # between two bins of density


M = TypeVar("M", IndexEntry, Record)


class ShapeIndex:
    """The entries of all weights of one shape on one target: by digest, then by CPU and config_key.

    Of two the later one counts; those of two CPUs are two, whose times have nothing to do with each other. timed: the
    CPUs that have a time, by digest.
    """

    def __init__(self) -> None:
        self.entries: dict[str, dict[tuple[str, str], IndexEntry]] = {}
        self.timed: dict[str, set[str]] = {}
        self._bins: dict[int, dict[str, list[str]]] = {}

    def put(self, entry: IndexEntry) -> None:
        """Add an entry, in the place of an earlier one of the same weight, CPU and configuration."""
        known = self.entries.get(entry.digest)
        if known is None:
            known = self.entries[entry.digest] = {}
            self._bins.setdefault(_bin(entry.sparsity), {}).setdefault(entry.kind, []).append(entry.digest)
        known[entry.cpu, entry.option] = entry
        if entry.ok:
            self.timed.setdefault(entry.digest, set()).add(entry.cpu)

    def of(self, weight_digest: str) -> Iterable[IndexEntry]:
        """The entries of one weight, of every CPU."""
        return self.entries.get(weight_digest, {}).values()

    def timed_by(self, weight_digest: str, cpus: Sequence[str] | None) -> list[IndexEntry]:
        """The entries of one weight that have a time, all of one CPU: see of_one_cpu."""
        found = [entry for entry in self.of(weight_digest) if entry.ok]
        by = self.timed.get(weight_digest, set())
        if len(by) < 2 and not any(map(is_emulated, by)):  # to ask for this machine's CPU would load LLVM
            return found
        return of_one_cpu(found, cpus)

    def near(self, kind: str, sparsity: float, reach: float) -> Iterator[str]:
        """The digests of weights whose density differs by no more than reach, a logarithm of ratio, or a little more.

        Those of the same kind first, the nearest density first, the last measured first.
        """
        middle, steps = _bin(sparsity), math.ceil(reach / _STEP)
        order = sorted(range(middle - steps, middle + steps + 1), key=lambda number: abs(number - middle))
        bins = [self._bins[number] for number in order if number in self._bins]
        same = (reversed(group.get(kind, ())) for group in bins)
        others = (reversed(found) for group in bins for name, found in group.items() if name != kind)
        return chain.from_iterable(chain(same, others))


def of_one_cpu(measured: Iterable[M], cpus: Sequence[str] | None) -> list[M]:
    """The measurements that count for a machine: those of the first of cpus that has any; by default this machine's
    CPU.

    Where none of them has anything: the times of another CPU, the one that measured last; what failed there says
    nothing. What does not tell its CPU is taken for a measurement of this machine. Times of an emulator are no CPU's:
    they count only where it is named.
    """
    cpus = (*own_cpus(cpus), "")
    by: dict[str, list[M]] = {}
    for item in measured:
        if item.cpu in cpus or (item.ok and not is_emulated(item.cpu)):
            by.setdefault(item.cpu, []).append(item)
    own = next((by[cpu] for cpu in cpus if cpu in by), None)
    if own is not None or not by:
        return own or []
    return max(by.values(), key=lambda items: max(item.time for item in items))


def is_emulated(cpu: str) -> bool:
    """True for the name of a machine that another one plays.

    >>> is_emulated("emulated aarch64"), is_emulated("cortex-a76")
    (True, False)
    """
    return cpu.startswith(EMULATED)


def own_cpus(cpus: Sequence[str] | None) -> Sequence[str]:
    """The CPUs that were named, by default this machine's."""
    return (host_cpu(),) if cpus is None else cpus


def _bin(sparsity: float) -> int:
    """Densities of one bin differ by a few percent."""
    return round(math.log(max(1.0 - sparsity, 1e-9)) / _STEP)
