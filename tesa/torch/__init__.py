"""PyTorch: compile a module and call it in its place, fine-tune it under masks, export it with exact zeros.

Needs the extra `torch`: pip install 'tesa[torch]'.
"""

from tesa.errors import UsageError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise UsageError("torch is not installed: pip install 'tesa[torch]'") from error

from tesa.torch.export import export
from tesa.torch.masks import Masks
from tesa.torch.module import CompiledModule, compile
from tesa.torch.tuning import FineTuning

__all__ = ["CompiledModule", "FineTuning", "Masks", "compile", "export"]
