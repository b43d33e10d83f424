"""Which kernels a table was measured with: see tesa.records.sources."""

from __future__ import annotations

from tesa.records.sources import sources as sources
