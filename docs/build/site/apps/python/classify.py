"""Names the digits in images, without tesa.

python classify.py model.so images.npz [libtvm_runtime.so]     an array of float32 [N, 1, 64, 64] in the file
"""

import sys

import numpy as np
from tesa_model import Model, ModelError


def main() -> int:
    """One line for each image."""
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        model = Model(sys.argv[1], *sys.argv[3:])
        (images,) = np.load(sys.argv[2]).values()
        for image in images:
            print(model({"image": image[None]})["logits"].argmax())
    except (ModelError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
