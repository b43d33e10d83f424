"""The search over the candidates of a layer: what to measure next, given what was measured.

A mode is a function that names candidates; @mode in a file of one's own adds one, and `tesa tune --mode NAME` takes it.
"""

from tesa.tune.search import guided, plain  # registers them, the default first
from tesa.tune.search.experience import Experience, Lessons
from tesa.tune.search.features import Table, tabulate
from tesa.tune.search.registry import Mode, Scene, find_mode, mode, modes
from tesa.tune.search.space import Space

__all__ = [
    "Experience", "Lessons", "Mode", "Scene", "Space", "Table", "find_mode", "guided", "mode", "modes", "plain",
    "tabulate",
]  # fmt: skip
