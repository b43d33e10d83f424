"""Which file a library is loaded from, and how many threads the runtime's pool gets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tesa.runtime import load

from .models import build, identity, mlp


def test_a_library_that_was_compiled_again_is_loaded_again(tmp_path: Path) -> None:
    first = build(tmp_path, identity(shape=(2, 3)))
    for rows in (4, 5):
        again = build(tmp_path, identity(shape=(rows, 3)))
        assert again([np.ones((rows, 3), np.float32)])["y"].shape == (rows, 3)
        assert load(tmp_path / "model.so")([np.ones((rows, 3), np.float32)])["y"].shape == (rows, 3)
    assert first([np.ones((2, 3), np.float32)])["y"].shape == (2, 3)


SCRIPT = """
import os, sys
import numpy as np
from tesa.runtime import load
model = load(sys.argv[1])
print(os.environ["TVM_NUM_THREADS"], model(np.ones((4, 6), np.float32))["y"].shape)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to CPUs")
def test_the_pool_has_as_many_threads_as_the_process_may_use(tmp_path: Path) -> None:
    build(tmp_path, mlp(), threads=2)
    one = min(os.sched_getaffinity(0))
    environment = {name: value for name, value in os.environ.items() if name != "TVM_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{one}])\n{SCRIPT}", str(tmp_path / "model.so")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (done.stdout, done.stderr) == ("1 (4, 3)\n", "")
