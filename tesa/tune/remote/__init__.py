"""Measuring on devices: this machine, or those of an RPC tracker. See docs/remote.md for how to start one."""

from __future__ import annotations

from tesa.tune.remote.health import Device, devices
from tesa.tune.remote.local import LocalRunner
from tesa.tune.remote.metaschedule import as_metaschedule
from tesa.tune.remote.runner import RpcRunner

__all__ = ["Device", "LocalRunner", "RpcRunner", "as_metaschedule", "devices"]
