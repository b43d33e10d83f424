"""Builders of candidates (tesa.measure.interfaces.Builder): in processes of this machine, or on a Dask cluster.

families.py     the kernel families that the compiler processes have to know
work.py         one job, and what a child does with it
crew.py         child processes under a time limit, results as they come
local.py        LocalBuilder
cluster.py      ClusterBuilder, on dask.distributed; connect.py finds the cluster and checks it
remote.py       what runs on the cluster's workers
metaschedule.py the same compilers behind TVM's MetaSchedule builder interface
"""

from __future__ import annotations

from tesa.tune.builders.cluster import ClusterBuilder
from tesa.tune.builders.local import LIMIT_S, LocalBuilder

__all__ = ["LIMIT_S", "ClusterBuilder", "LocalBuilder"]
