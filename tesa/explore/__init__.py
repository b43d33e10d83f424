"""Explores sparsity, pattern and precision of each layer of a model by the time that they take."""

from tesa.explore.choices import Choice
from tesa.explore.result import Explored, Point
from tesa.explore.run import explore

__all__ = ["Choice", "Explored", "Point", "explore"]
