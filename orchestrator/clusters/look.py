"""What a machine says of itself: versions, disk, store, accelerators, a port. Only the standard library.

It runs on a cluster's nodes by Ray, and before there is a Ray, as text that ssh hands to the machine's interpreter:

    ssh MACHINE PYTHON - '{"store": …, "token": …, "port": …}' < look.py
"""

from __future__ import annotations

import glob
import json
import os
import platform
import shutil
import socket
import sys
import tempfile
from importlib import metadata

PACKAGES = ("ray", "torch", "numpy", "pyarrow", "pydantic")


def look(token: str) -> dict[str, object]:
    """Versions, whether a file of the store is to be seen, and room for temporary files [bytes]."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "missing"
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return {"versions": versions, "sees_token": os.path.exists(token), "free": free}


def examine(store: str, *, token: str, port: int, leaves: bool) -> dict[str, object]:
    """The same, and what matters before Ray starts.

    Args:
        store: its path; empty where it is none of the machine's folders.
        token: a file's name in it.
        port: that Ray's head will listen at; 0 where it is not this machine's matter.
        leaves: put the file there, for the others to see.
    """
    found = look(os.path.join(store, token))
    refused = ""
    if not store:
        found["sees_token"] = True
    elif leaves:
        try:
            os.makedirs(store, exist_ok=True)
            with open(os.path.join(store, token), "w"):
                found["sees_token"] = True
        except OSError as error:
            refused = error.strerror or str(error)
    gpus = len(glob.glob("/dev/nvidia[0-9]*"))
    return {**found, "refused": refused, "gpus": gpus, "port_is_taken": bool(port) and _is_taken(port)}


def _is_taken(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("", port))
        except OSError:
            return True
    return False


if __name__ == "__main__":
    print("EUREKA " + json.dumps(examine(**json.loads(sys.argv[1]))), flush=True)
