"""A real Azure gateway on loopback: Microsoft's own emulator, with a container called `bucket`.

`npm install azurite`, and LAB_AZURITE=FOLDER/node_modules/.bin/azurite-blob where it is not on the PATH.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ACCOUNT = "devstoreaccount1"
KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # no secret: everybody's
)
STARTS_S = 60.0


def program() -> str | None:
    """The emulator, if there is one."""
    return shutil.which(os.environ.get("LAB_AZURITE", "azurite-blob"))


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[dict[str, str]]:
    """A running emulator: what makes a process speak to it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(program()), "--blobPort", str(port), "--location", str(folder)]
    command += ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + STARTS_S
        while True:
            with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, "it does not start"
            assert time.monotonic() < until
            time.sleep(0.2)
        _make_container(port, "bucket")
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY, "AZURE_STORAGE_ENDPOINT": endpoint,
        }  # fmt: skip
    finally:
        process.kill()
        process.wait()


def _make_container(port: int, name: str) -> None:
    """Put a container, signed with the account's shared key, since no Azure library is needed otherwise."""
    sets = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    named = "".join(f"{key}:{value}\n" for key, value in sorted(sets.items()))
    text = f"PUT{12 * chr(10)}{named}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signed = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    sets["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}"
    url = f"http://127.0.0.1:{port}/{ACCOUNT}/{name}?restype=container"
    with urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=sets)) as answer:
        answer.read()
