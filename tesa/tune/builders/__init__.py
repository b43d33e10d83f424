"""Builders of candidates (tesa.measure.interfaces.Builder): in processes of this machine, or on a Dask cluster.

families.py   the kernel families that the compiler processes have to know
work.py       one job, and what a child does with it
local.py      LocalBuilder
cluster.py    ClusterBuilder, on dask.distributed; connect.py finds the cluster, dask_jobs.py sends jobs there
remote.py     the side of the cluster's workers
"""

from tesa.tune.builders.cluster import ClusterBuilder
from tesa.tune.builders.local import LIMIT_S, LocalBuilder

__all__ = ["LIMIT_S", "ClusterBuilder", "LocalBuilder"]
