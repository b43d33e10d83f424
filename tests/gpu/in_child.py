"""Starts the pretended driver that $TESA_GPU_DRIVER names, in the process that imports this."""

import os
from pathlib import Path

from tests.gpu.driver import Driver

DRIVER = Driver(Path(os.environ["TESA_GPU_DRIVER"])).start()
