"""A server on a free port of this machine, in this process or as the command."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep_files import ROOT

PATIENCE_S = 60.0


@contextlib.contextmanager
def served(store: Path, *arguments: str) -> Iterator[str]:
    """`eureka serve`, and the page's address; ends with Ctrl-C, which must leave nothing but a line."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "orchestrator.cli", "serve", str(store), "--port", "0", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=store.parent
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://"), line + process.communicate(timeout=PATIENCE_S)[1]
        yield line.split()[0].rstrip("/")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out, err.splitlines()[-1]) == (0, "", "no longer served")
        assert len(err.splitlines()) == 1 + ("--host" in arguments and "127" not in arguments[1]), err
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def served_here(path: Path | str) -> Iterator[str]:
    """The pages of a store from a thread of this process; gives their address."""
    import uvicorn

    from analysis.store import Store
    from orchestrator.serve.app import make_app
    from orchestrator.serve.live import Live
    from orchestrator.serve.server import LOOPBACK, address, listening

    listener, live = listening("127.0.0.1", 0), Live(Store(path))
    server = uvicorn.Server(uvicorn.Config(make_app(live, hosts=LOOPBACK), log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield address(listener).rstrip("/")
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        listener.close()


def got(url: str, path: str = "/", *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """One answer: status, headers by lower name, text; redirects are not followed."""
    where = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    with contextlib.closing(where):
        where.request(method, path, headers={key.replace("_", "-"): value for key, value in headers.items()})
        answer = where.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read().decode()


def counts(url: str) -> list[dict[str, Any]]:
    """What the page knows, as `eureka status --json` prints it."""
    status, _, text = got(url, "/counts.json")
    assert status == 200, text
    return json.loads(text)


def settled(url: str) -> list[dict[str, Any]]:
    """The same, once every ended run is read and judged."""
    until = time.monotonic() + PATIENCE_S
    while True:
        found = counts(url)
        if all(sum(one["detected"].values()) == one["done"] for one in found):
            return found
        assert time.monotonic() < until, found
        time.sleep(0.05)


def eventually(url: str, condition: Any) -> list[dict[str, Any]]:
    """The counts, once they meet a condition."""
    until = time.monotonic() + PATIENCE_S
    while not condition(found := counts(url)):
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found
