"""PyTorch: compile a module and call it in its place, fine-tune it under masks, export it with exact zeros.

Needs the packages of the extra `torch`.
"""

from tesa.base.extras import install
from tesa.errors import UsageError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise UsageError(f"torch is not installed: {install('torch')}") from error

from tesa.torch.export import export
from tesa.torch.masks import Masks
from tesa.torch.module import CompiledModule, compile
from tesa.torch.tuning import FineTuning

__all__ = ["CompiledModule", "FineTuning", "Masks", "compile", "export"]
