"""The same bits read as numbers of another type."""

from typing import Any

import numpy as np
import tvm
from onnx import helper
from tvm import te

from tesa.frontend.registry import imports


@imports("BitCast")
def bit_cast(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """The same bits as numbers of another type of as many bits."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(attrs["to"])).name

    def bits(x: Any) -> Any:
        return te.compute(x.shape, lambda *place: tvm.tirx.reinterpret(dtype, x(*place)), "bit_cast")

    return bb.call_te(bits, inputs[0], primfunc_name_hint="bit_cast")
