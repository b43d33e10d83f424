"""The devices of an RPC tracker, as a table and as plain data."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from tesa.measure.remote.health import BROKEN, BUSY, FREE, Device
from tesa.report.table import FittedTable

_STYLES = {FREE: "green", BUSY: "yellow", BROKEN: "bold red"}


def devices_view(devices: Sequence[Device]) -> Iterator[RenderableType]:
    """One row per device."""
    columns = ("key", "address", "state", "cpu", "cores", "latency ms", "link MB/s", "versions", "what is wrong")
    rows = []
    for device in devices:
        about, told = device.about, ("",) * 5
        if about is not None:
            cpu = about.cpu if about.model in ("", about.cpu) else f"{about.cpu} ({about.model})"
            link = (f"{about.latency_ms:.2f}", f"{about.link_mb_s:.0f}") if about.link_mb_s else ("", "")
            versions = ", ".join(f"{name} {version}" for name, version in sorted(about.versions.items()) if version)
            told = (cpu, str(about.cores), *link, versions)
        state = Text(device.state, style=_STYLES[device.state])
        rows.append((device.key, str(device.address), state, *told, device.reason))
    if not rows:
        return
    right = ("cores", "latency ms", "link MB/s")
    yield FittedTable(columns, rows, optional=("versions", "link MB/s", "latency ms"), right=right)
    if any(device.state == BUSY for device in devices):
        yield Text("A busy device serves somebody else, or is stuck: it was not checked.", style="dim")


def devices_data(devices: Sequence[Device]) -> dict[str, Any]:
    """Plain data for --json. ok: none is broken, and there is one; devices: by key and address."""
    return {
        "ok": bool(devices) and all(device.state != BROKEN for device in devices),
        "devices": [_data(device) for device in devices],
    }


def _data(device: Device) -> dict[str, Any]:
    names = ("cpu", "model", "machine", "emulated", "cores", "host", "latency_ms", "link_mb_s")
    told = {name: getattr(device.about, name, None) for name in names}
    told["versions"] = device.about.versions if device.about else {}
    address = {"host": device.address.host, "port": device.address.port}
    return {"key": device.key, "address": address, "state": device.state, "reason": device.reason, **told}
