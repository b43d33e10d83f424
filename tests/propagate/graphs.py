"""Random small models out of all operators that have rules: images, then matrices, all with much pruned.

>>> random_model(3) == random_model(3)
True
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from .graph_image import IMAGE_STEPS
from .graph_maker import VOCABULARY, Maker
from .graph_text import TEXT_STEPS, embedding, to_matrix

__all__ = ["Maker", "random_feeds", "random_model"]


def random_model(seed: int) -> onnx.ModelProto:
    """Some operators on images, or an embedding; then maybe some on matrices; one to three outputs."""
    maker = Maker(seed)
    rng = maker.rng
    made: list[str] = []
    if rng.random() < 0.75:
        made = _walk(maker, [_image_input(maker)], IMAGE_STEPS, int(rng.integers(3, 10)))
        if rng.random() < 0.6:
            matrices = _walk(maker, [to_matrix(maker, made[-1])], TEXT_STEPS, int(rng.integers(2, 6)))
            made = made + matrices
    else:
        start = embedding(maker) if rng.random() < 0.6 else _matrix_input(maker)
        made = _walk(maker, [start], TEXT_STEPS, int(rng.integers(4, 10)))
    outputs = [made[-1]]
    for _ in range(2):
        if rng.random() < 0.3:
            outputs.append(str(rng.choice([n for n in made if n not in maker.inputs])))
    return maker.model(list(dict.fromkeys(outputs)))


def random_feeds(ports: Any, seed: int) -> dict[str, Any]:
    """Values for inputs (things with name, shape and dtype): normal floats, indices within the vocabulary."""
    rng = np.random.default_rng(seed)
    return {
        p.name: rng.normal(size=p.shape) if "float" in p.dtype else rng.integers(0, VOCABULARY, p.shape) for p in ports
    }


def _image_input(m: Maker) -> str:
    batch = int(m.rng.choice([1, 1, 2]))
    return m.input("x", (batch, 4, 4, 4))


def _matrix_input(m: Maker) -> str:
    return m.input("x", (int(m.rng.choice([1, 2])), int(m.rng.integers(2, 5)), int(m.rng.integers(2, 7))))


def _walk(m: Maker, names: list[str], steps: Any, count: int) -> list[str]:
    """Apply random steps, mostly to a late tensor, sometimes to an early one: branches and multiple consumers."""
    kinds = list(steps)
    for _ in range(count):
        recent = names[-3:] if m.rng.random() < 0.8 else names
        x = str(m.rng.choice(recent))
        alike = [n for n in names if m.shapes[n] == m.shapes[x]]
        names = names + steps[str(m.rng.choice(kinds))](m, x, alike)
    return names
