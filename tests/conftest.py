"""What every test runs under."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# For `tests` and `benchmarks`. Last, so that `make test` gets the tesa that it installed, not the checkout.
sys.path.append(str(Path(__file__).parent.parent))

from tests.support import require_system as _require_system

# Timing noise of a busy machine is no defect, and a failure must come back with the same examples.
settings.register_profile("tesa", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tesa")

# Threads of NumPy's would spin beside the other processes of the tests. It is not imported yet.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A shell starts what it runs in the background with Ctrl-C ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # and nohup with that of a terminal that goes
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

LONGEST = (
    "test_notebooks", "faults/test_soak", "frontend/test_sweep", "propagate/test_onnx_nodes",
    "schedules/test_families_aarch64", "cli/test_tune_remote", "measure/remote/test_runner", "fuzz/test_formats",
    "tune/builders/test_cluster", "cli/test_emulated_device", "faults/test_kills", "runtime/test_networks_elsewhere",
    "kernels/test_docs", "apps/test_web_page", "schedules/test_depthwise_codes", "schedules/test_wasm",
    "schedules/test_block", "schedules/test_indexed", "propagate/test_exhaustive", "frontend/test_hostile",
    "cli/test_main", "schedules/test_operators", "decompose/test_composite", "propagate/test_law",
    "schedules/test_inner", "test_gpu_compiler", "costs/test_calibrate", "integer/test_digits", "fuzz/test_models",
    "frontend/test_quantized", "explore/test_explore", "apps/test_c", "costs/test_analysis",
)  # fmt: skip
"""The files that take longest, the longest first: begun last, one of them would keep a process busy alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; each is run by one process, and those begin files in this order."""
    here = Path(__file__).parent
    rank = {here / f"{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests out of the user's cache, and one run's measurements out of the next."""
    os.environ["TESA_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("COLUMNS", None)  # tests in several processes get one: tables would be folded
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))


@pytest.fixture
def require_system() -> Callable[[str, str], str]:
    """require_system(tool, package): see tests.support."""
    return _require_system
