"""A headless Chromium driven by its own protocol: pages are opened, keys pressed, sizes and colours changed.

Everything that the browser logs or asks for is kept, so that a test can say there was nothing.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
         "--remote-debugging-port=0", "--remote-allow-origins=*", "--no-first-run", "--disable-extensions"]  # fmt: skip
PATIENCE_S = 60.0
NAMED = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39}


class Refused(Exception):
    """What the browser says to a command that it cannot do, such as one to a page that it is just leaving."""


class Browser:
    """One tab.

    Attributes:
        logged: console messages and errors, as text.
        requests: addresses that were asked for.
    """

    def __init__(self, socket: Any):
        self._socket, self._number = socket, 0
        self.logged: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if message.get("id") == self._number:
                if "error" in message:
                    raise Refused(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        name, params = message.get("method"), message.get("params", {})
        if name == "Runtime.consoleAPICalled":
            self.logged.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
        elif name == "Runtime.exceptionThrown":
            self.logged.append(json.dumps(params["exceptionDetails"]))
        elif name == "Log.entryAdded":
            self.logged.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif name == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, url: str) -> None:
        """Go to an address, and wait until the page and its scripts are there."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page; promises are waited for."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression holds."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(Refused):
                if self.ask(condition):
                    return
            time.sleep(0.05)
        raise AssertionError(f"never: {condition}; the page says {self.ask('document.body.innerText')[:2000]}")

    def size(self, width: int, height: int = 900) -> None:
        """Make the window so wide and high [CSS pixels]."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, name: str) -> None:
        """`dark` or `light`, as the reader's system has it."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def press(self, key: str) -> None:
        """A key, down and up."""
        more = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=NAMED[key], **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The mouse, held down from one place to another."""
        for kind, (x, y), held in (("mousePressed", start, 1), ("mouseMoved", end, 1), ("mouseReleased", end, 0)):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=held, clickCount=1)

    def photograph(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium of its own, gone afterwards."""
    from websockets.sync.client import connect

    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(prefix="eureka-chromium-", ignore_cleanup_errors=True) as folder:
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            tab = _tab(Path(folder), process)
            with connect(tab, max_size=None, open_timeout=PATIENCE_S, ping_interval=None) as socket:
                yield Browser(socket)
        finally:
            process.kill()
            process.wait()


def _tab(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the first tab's protocol."""
    import urllib.request

    until, port = time.monotonic() + PATIENCE_S, folder / "DevToolsActivePort"
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            where = f"http://127.0.0.1:{int(port.read_text().splitlines()[0])}/json/list"
            with urllib.request.urlopen(where, timeout=5) as answer:
                tabs = json.loads(answer.read())
            return next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        time.sleep(0.05)
    raise RuntimeError("Chromium did not start")
