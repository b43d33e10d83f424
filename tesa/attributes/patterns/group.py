"""Groups: a grouped layer written as one block-diagonal matrix."""

from tesa.attributes.patterns.registry import Structure, pattern
from tesa.attributes.zeros import Zeros

GROUPS = [2, 3, 4, 6, 8, 12, 16, 32, 64]
"""Numbers of groups that are looked for."""


@pattern("group", counted=True, describe=lambda found: f"group {found.group}")
def group(zeros: Zeros) -> Structure | None:
    """Block-diagonal, g dense blocks of equal size: a grouped layer written as one matrix."""
    rows, columns = zeros.shape
    for groups in reversed(GROUPS):
        if rows % groups or columns % groups or zeros.nonzeros * groups != zeros.size:
            continue
        tiles = zeros.mask.reshape(groups, rows // groups, groups, columns // groups)
        if all(tiles[g, :, g].all() for g in range(groups)):
            return {"group": groups}
    return None
