"""Which kernels a table was measured with: see tesa.tune.sources."""

from __future__ import annotations

from tesa.tune.sources import sources as sources
