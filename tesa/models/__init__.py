"""A small pruned model that ships with tesa, and the images to try it on.

The model is a MobileNet-v1-style network for handwritten digits. 90 % of the weights of each of its 1x1
convolutions are zero. `benchmarks/train_digits.py` makes both files. `digits_channels.npz` prunes channels on top.

    import onnxruntime
    from tesa import models

    session = onnxruntime.InferenceSession(models.digits_path())
    logits = session.run(None, {"image": models.digits_images()[:1]})[0]
    print(logits.argmax(), "should be", models.digits_labels()[0])
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["digits_channels_path", "digits_images", "digits_labels", "digits_path", "preprocess_digits"]

_FOLDER = Path(__file__).parent
_LEVELS = 16  # the scanned images hold whole numbers from 0 to 16


def _test_set(name: str) -> npt.NDArray[Any]:
    with np.load(_FOLDER / "digits_test.npz") as arrays:
        array: npt.NDArray[Any] = arrays[name]
    return array


def digits_path() -> Path:
    """The path of the ONNX model: input "image" float32 [1, 1, 64, 64], output "logits" float32 [1, 10].

    >>> digits_path().name
    'digits.onnx'
    """
    return _FOLDER / "digits.onnx"


def digits_channels_path() -> Path:
    """The path of a mask that prunes half of the output channels of its 1x1 convolutions, for `--mask` and `masks=`.

    Those with the smallest weights go, of all but the last of these layers. Propagation finds what else is dead then.

    >>> with np.load(digits_channels_path()) as masks:
    ...     len(masks), f"{masks['block1.pointwise'].mean():.2f}"
    (8, '0.50')
    """
    return _FOLDER / "digits_channels.npz"


def digits_images() -> npt.NDArray[np.float32]:
    """The 360 held-out images, ready for the model: float32 [360, 1, 64, 64], values from 0 to 1.

    The model takes one image at a time: feed it `digits_images()[i : i + 1]`.

    >>> digits_images().shape
    (360, 1, 64, 64)
    """
    return preprocess_digits(_test_set("images8"))


def digits_labels() -> npt.NDArray[np.int64]:
    """The digit on each image of `digits_images()`: int64 [360], values from 0 to 9.

    >>> digits_labels().shape
    (360,)
    """
    return _test_set("labels").astype(np.int64)


def preprocess_digits(images8: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Turn scanned digits [n, 8, 8] with levels 0 to 16 into model inputs: float32 [n, 1, 64, 64], 0 to 1.

    The upscaling is bilinear, with pixel centres at half coordinates (`align_corners=False`). Training uses this
    same function. Weights and levels are multiples of 1/16, so that float32 holds every step exactly, and the
    result has the same bits on every machine.

    >>> preprocess_digits(np.full((1, 8, 8), 16)).mean().item()
    1.0
    """
    weights = _bilinear(8, 64)
    levels = np.asarray(images8, dtype=np.float32) / np.float32(_LEVELS)
    scaled: npt.NDArray[np.float32] = weights @ levels @ weights.T
    return np.ascontiguousarray(scaled[:, None])


def _bilinear(size: int, new_size: int) -> npt.NDArray[np.float32]:
    """The matrix [new_size, size] that resamples a line of pixels, at most two non-zero weights per row."""
    position = ((np.arange(new_size) + 0.5) * size / new_size - 0.5).clip(0, size - 1)
    distance = np.abs(position[:, None] - np.arange(size))
    return np.maximum(0.0, 1.0 - distance).astype(np.float32)
