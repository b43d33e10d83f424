"""Counts what is computed from constants at import: each result may be small, and all of them fill the memory."""

from tesa.attributes.attribute import Shape
from tesa.errors import ModelError
from tesa.frontend.giants import ALLOW, GROWTH, bytes_of, largest, readable
from tesa.frontend.graph import Graph


def count_computed(graph: Graph, shape: Shape, dtype: object, where: str, copies: int = 1) -> None:
    """Note a result before it is computed. ModelError where all are far more than the file's own constants.

    copies: how often it is going to be in memory.
    """
    graph.computed += copies * bytes_of(shape, dtype)
    if graph.computed <= largest():  # at once: this is asked for every node
        return
    room = largest() + GROWTH * sum(value.nbytes for value in graph.given.constants.values())
    if graph.computed > room:
        raise ModelError(
            f"{where}: what is computed from constants has {readable(graph.computed)} by now, far more than the file. "
            f"Check the sizes; {ALLOW}"
        )
