"""An S3 gateway of a test's own: moto's server in a process, and before it a gate that can be shut, or answer badly.

Loopback only, a port that the system picks, and credentials that are none.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

import analysis.places.bucket
from analysis.places.bucket import bucket_of

KEYS = {
    "AWS_ACCESS_KEY_ID": os.environ.get("EUREKA_TEST_S3_KEY", "test"),
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    "AWS_REGION": "us-east-1",
}
UNSET = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_WEB_IDENTITY_TOKEN_FILE")
THERE = "EUREKA_TEST_S3_PORT"
SERVER = """
import sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def gateway() -> Iterator[tuple[int, subprocess.Popen[str] | None]]:
    """A running server: its port and its process; it ends with whoever started it.

    EUREKA_TEST_S3_PORT names one that is there already and has a bucket called `bucket`: so the same tests ask another.
    """
    if port := os.environ.get(THERE):
        yield int(port), None
        return
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield int(process.stdout.readline()), process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def make_bucket(port: int, name: str) -> None:
    if THERE in os.environ:
        return
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{name}", data=b"", method="PUT")
    with urllib.request.urlopen(request) as answer:
        answer.read()


def environment(port: int) -> dict[str, str]:
    """What makes a process speak to it."""
    return {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


@dataclass
class Gate:
    """A way to a gateway, by TCP, that a test can shut and damage.

    Attributes:
        behind: port of the gateway.
        answers: instead of the gateway's, for as many requests, in order; empty: the connection is cut.
        swallows: requests, by a pattern of their first line, that reach the gateway, and whose answer is lost.
        drops: a header that does not come through.
        seen: first lines of all requests.
    """

    behind: int
    answers: list[bytes] = field(default_factory=list)
    swallows: list[str] = field(default_factory=list)
    drops: bytes = b""
    seen: list[str] = field(default_factory=list)

    def __enter__(self) -> Gate:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()

    def shut(self) -> None:
        """Refuse connections, and cut those there are."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def reopen(self) -> None:
        """Let requests through again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        listener = self._listener
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One request a connection: what it says decides what becomes of it."""
        self._open.add(client)
        with contextlib.suppress(OSError), client:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := client.recv(65536)):
                    return
                head += piece
            line = head.split(b"\r\n", 1)[0].decode()
            self.seen.append(line)
            if self.answers:
                client.sendall(self.answers.pop(0))
                return
            head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)
            if self.drops:
                head = re.sub(rb"(?i)\r\n" + self.drops + rb":[^\r]*", b"", head)
            head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            lost = next((pattern for pattern in self.swallows if re.search(pattern, line)), None)
            if lost is not None:
                self.swallows.remove(lost)
            with socket.create_connection(("127.0.0.1", self.behind)) as server:
                self._open.add(server)
                server.sendall(head)
                threading.Thread(target=_pipe, args=(client, server), daemon=True).start()
                while piece := server.recv(65536):
                    if lost is None:
                        client.sendall(piece)
                self._open.discard(server)
            client.shutdown(socket.SHUT_RDWR)  # closing alone would wait for the other direction's thread
        self._open.discard(client)


def answer(status: int, code: str) -> bytes:
    """An error as S3 gives it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>hush hush</Message></Error>".encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)


@contextlib.contextmanager
def bucket_server() -> Iterator[int]:
    """A server with an empty bucket called `bucket`: its port."""
    with gateway() as (port, _):
        make_bucket(port, "bucket")
        yield port


@contextlib.contextmanager
def through_gate(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A gate before a server, and this process's environment set to go through it, impatiently."""
    with Gate(port) as gate:
        for name, value in environment(gate.port).items():
            monkeypatch.setenv(name, value)
        for name in UNSET:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(analysis.places.bucket, "PAUSE_S", 0.01)
        bucket_of.cache_clear()
        yield gate
    bucket_of.cache_clear()
