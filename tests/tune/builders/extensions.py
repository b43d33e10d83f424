"""What a user registers, for tests: the pattern and the policy of docs/policies.md in a file, and a clean end."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import tesa.attributes.patterns.registry
import tesa.decompose
import tesa.schedules.cpu
from tesa.decompose.registry import _SPLITS, POLICIES
from tesa.extension import PREFIX
from tesa.schedules import registry
from tesa.schedules.types import FloatArray, Problem

PAGE = Path(__file__).parents[3] / "docs" / "policies.md"
N = 96
PROBLEM = Problem("linear", 256, 256, N, (1, 256, N), (1, 256, N))


def page_source() -> str:
    """The page's blocks that register something, as its section on the command line says."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    wanted = [block for block in blocks if re.search(r"^@(pattern|policy)\(", block, re.MULTILINE)]
    assert len(wanted) == 2
    return "\n".join(["import numpy as np\n", *wanted])


def page_weight() -> FloatArray:
    """The page's weight (256, 256): 16 full columns, 2 % of the rest."""
    rng = np.random.default_rng(0)
    mask = rng.random((256, 256)) < 0.02
    mask[:, rng.choice(256, 16, replace=False)] = True
    return np.where(mask, rng.standard_normal(mask.shape), 0).astype(np.float32)


@contextmanager
def clean_registries() -> Iterator[None]:
    """What is registered inside the block is gone after it, and so are the modules that did it."""
    held: tuple[dict[str, Any], ...] = (registry._FAMILIES, POLICIES, tesa.attributes.patterns.registry._KINDS)
    before = [dict(one) for one in held]
    path = list(sys.path)
    try:
        yield
    finally:
        for one, items in zip(held, before, strict=True):
            one.clear()
            one.update(items)
        _SPLITS.clear()
        sys.path[:] = path
        for name in {name for name in sys.modules if name.startswith(PREFIX)}:
            del sys.modules[name]
