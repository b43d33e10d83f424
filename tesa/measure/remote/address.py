"""The address of a tracker or a server."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Address:
    """The address at which an RPC server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def split_address(text: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT"; an IPv6 address stands in brackets. ValueError for anything else.

    >>> split_address("10.0.0.2:9190")
    ('10.0.0.2', 9190)
    >>> split_address("[::1]:9190")
    ('::1', 9190)
    """
    host, _, port = text.rpartition(":")
    bare = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if bare else host
    if not name or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 2**16 or (":" in name) != bare:
        raise ValueError(f"{text!r} is no HOST:PORT")
    return name, int(port)
