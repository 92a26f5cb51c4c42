"""The token by which Ray's processes know each other: made here where there is none, and kept from other users.

Ray makes one itself, which whoever has an account on the machine may read; with it and a port comes the right to run
anything as this user.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

OTHERS = 0o077


def keep_private(path: Path | None = None) -> None:
    """Make Ray's token where Ray would, unless it is told elsewhere or has none; nobody else may read it.

    Args:
        path: of the token; Ray's own unless given.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = path or Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError):  # a home that cannot be written: Ray says what it thinks of that
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), open(path, "x", opener=_for_its_owner) as file:
            file.write(secrets.token_hex(32))
        mode = path.stat().st_mode
        if mode & OTHERS:
            path.chmod(mode & ~OTHERS)


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
