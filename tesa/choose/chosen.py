"""The kernel that was chosen for a layer."""

from dataclasses import dataclass

from tesa.build.product import Product
from tesa.choose.plan import Part


@dataclass(frozen=True)
class ChosenKernel:
    """The kernel of a layer.

    parts: one, or those of a decomposition, see tesa.choose.plan. digest: of the layer's weight.
    """

    layer: str
    parts: tuple[Part, ...]
    product: Product
    digest: str = ""

    @property
    def part(self) -> Part:
        """The first part: it has the candidates and the reason."""
        return self.parts[0]
