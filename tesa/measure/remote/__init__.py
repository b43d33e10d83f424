"""Measuring on the devices of an RPC tracker. See docs/remote.md for how to start one."""

from tesa.measure.local import LocalRunner
from tesa.measure.remote.health import Device, devices
from tesa.measure.remote.runner import RpcRunner

__all__ = ["Device", "LocalRunner", "RpcRunner", "devices"]
