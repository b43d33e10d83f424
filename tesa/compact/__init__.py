"""Physical removal of dead and constant channels: `compact`, `check_smaller`, `save`, `copy`."""

from tesa.compact.analysis import handled
from tesa.compact.check import TOLERANCE, Check, check_smaller, verify_with_onnxruntime
from tesa.compact.model import Compacted, Removal, compact
from tesa.compact.saved import copy, save

__all__ = [
    "TOLERANCE", "Check", "Compacted", "Removal", "check_smaller", "compact", "copy", "handled", "save",
    "verify_with_onnxruntime",
]  # fmt: skip
