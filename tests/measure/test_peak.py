"""The most that this machine does, measured."""

from tesa.measure.peak import peak, read_rate
from tesa.targets.target import parse_target


def test_the_peak_is_of_this_machine() -> None:
    target = parse_target(None)
    found = peak(target)
    assert found.gflops > 1
    assert found.gbytes > 0.5
    assert (found.int8_gops > 0) == (target.core.dot is not None and target.core.dot.group == 4)
    assert read_rate(target, 4096) > 0.5
