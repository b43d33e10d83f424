"""A Dask scheduler that is met with certificates, and only with them."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tesa.errors import UsageError
from tesa.tune.builders.connect import certificates, connect
from tests.measure.remote.park import free_port
from tests.support import PATIENCE_S, require_system, until

pytest.importorskip("distributed", reason="pip install 'tesa[cluster]'")


def test_certificates_are_found_or_named(tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"no certificate .*key\.pem; a folder for a Dask cluster has ca\.pem"):
        certificates(f"tls://host:8786?certificates={tmp_path}")
    (tmp_path / "key.pem").touch()
    for address in ("tls://host:8786", "host:8786", "tcp://host:8786"):
        plain, files = certificates(f"{address}?certificates={tmp_path}")
        assert plain == "tls://host:8786"
        assert files["tls_client_key"] == str(tmp_path / "key.pem")
    with pytest.raises(UsageError, match="met at tls://HOST:PORT"):
        certificates(f"ws://host:8786?certificates={tmp_path}")


def test_a_scheduler_with_certificates_is_met_with_them_only(tmp_path: Path) -> None:
    openssl = require_system("openssl", "openssl")

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=tmp_path, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes")
    run("req", "-x509", *key, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    run("req", *key, "-subj", "/CN=member", "-keyout", "key.pem", "-out", "member.csr")
    run("x509", "-req", "-in", "member.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "cert.pem")
    _, files = certificates(f"tls://x?certificates={tmp_path}")
    options = {"tls-ca-file": "tls_ca_file", "tls-cert": "tls_client_cert", "tls-key": "tls_client_key"}
    words = [f"--{name}={files[option]}" for name, option in options.items()]
    port = free_port()
    place = ["--protocol", "tls", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", *place, *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: _listens(port), "the scheduler listens")
        with pytest.raises(UsageError, match="has no worker after"):  # met, and asked who it has
            connect(f"127.0.0.1:{port}?certificates={tmp_path}", {}, connect_s=PATIENCE_S, workers_s=0.1)
        with pytest.raises(UsageError, match=r"no Dask scheduler answers|cannot use"):
            connect(f"tls://127.0.0.1:{port}", {}, connect_s=2.0, workers_s=0.1)
    finally:
        scheduler.kill()
        scheduler.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
