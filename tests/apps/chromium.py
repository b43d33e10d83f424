"""A headless Chromium for tests: pages by the DevTools protocol, and a file server on a free port."""

from __future__ import annotations

import asyncio
import base64
import functools
import http.server
import json
import re
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.support import PATIENCE_S, kill_family

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
    "--hide-scrollbars", "--disable-background-networking", "--disable-extensions", "--remote-debugging-port=0",
)  # fmt: skip


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a file server on a folder, as long as it is used."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Page:
    """A tab: go somewhere, run JavaScript, press, take a picture."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: WebSocketClientConnection) -> None:
        self._loop, self._socket, self._last = loop, socket, 0
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> Any:
        """The result of a command."""
        self._last += 1
        self._loop.run_until_complete(self._write({"id": self._last, "method": method, "params": parameters}))
        while True:
            message = self._next()
            if message.get("id") == self._last:
                assert "error" not in message, message
                return message["result"]

    def _next(self) -> dict[str, Any]:
        text = self._loop.run_until_complete(asyncio.wait_for(self._read(), PATIENCE_S))
        assert text is not None, "the browser has ended"
        message: dict[str, Any] = json.loads(text)
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(message["params"]["exceptionDetails"]["exception"].get("description", "?"))
        return message

    async def _write(self, message: dict[str, Any]) -> None:
        await self._socket.write_message(json.dumps(message))

    async def _read(self) -> str | bytes | None:
        return await self._socket.read_message()

    def go(self, address: str) -> None:
        """Load a page."""
        self.send("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        done = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true; the page may be replaced meanwhile."""
        self.run(
            "new Promise((resolve) => { const ask = () => { let is = false; try { is = "
            + condition
            + "; } catch {} is ? resolve(true) : setTimeout(ask, 20); }; ask(); })"
        )

    def screen(self, width: int, height: int, dark: bool = False, scale: float = 1, touch: bool = False) -> None:
        """The size of the screen, and the colours that the system has."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=touch
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def mouse(self, kind: str, x: float, y: float) -> None:
        """A mouse event: mousePressed, mouseMoved or mouseReleased, of the left button."""
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """A touch event: touchStart, touchMove or touchEnd."""
        self.send("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])

    def key(self, key: str, text: str = "") -> None:
        """Press a key and let it go."""
        code = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, " ": 32, "Delete": 46, "Tab": 9}[key]
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, text=text)

    def picture(self, path: Path, whole: bool = True) -> None:
        """Write what is seen as a PNG."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(chromium: str, folder: Path, *flags: str) -> Iterator[Page]:
    """A page of a new browser whose files are in a folder."""
    log = folder / "chromium.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [chromium, *_FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    loop = asyncio.new_event_loop()
    try:
        from tests.support import until

        until(lambda: "DevTools listening on" in log.read_text() or process.poll() is not None, "the browser's start")
        found = re.search(r"DevTools listening on ws://([^/]+)/", log.read_text())
        assert found is not None, log.read_text()
        with urllib.request.urlopen(f"http://{found[1]}/json/list", timeout=PATIENCE_S) as answer:
            tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
        socket = loop.run_until_complete(_connected(tabs[0]["webSocketDebuggerUrl"]))
        yield Page(loop, socket)
        socket.close()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        kill_family(process.pid)
        process.wait()
        loop.close()


async def _connected(address: str) -> WebSocketClientConnection:
    return await websocket_connect(address, max_message_size=1 << 28)
