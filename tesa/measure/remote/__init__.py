"""Measuring on devices: this machine, or those of an RPC tracker. See docs/remote.md for how to start one."""

from __future__ import annotations

from tesa.measure.remote.health import Device, devices
from tesa.measure.remote.local import LocalRunner
from tesa.measure.remote.metaschedule import as_metaschedule
from tesa.measure.remote.runner import RpcRunner

__all__ = ["Device", "LocalRunner", "RpcRunner", "as_metaschedule", "devices"]
