"""Opens the port, and serves until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable
from importlib import import_module
from typing import Any

from analysis.store import Store
from orchestrator.errors import BadRequest
from orchestrator.status import chosen_sweeps

LOOPBACK = ["localhost", "127.0.0.1", "::1", "[::1]"]


def serve(
    store: Store, *, sweep: str | None, host: str, port: int, say: Callable[[str], None], warn: Callable[[str], None],
    is_opened: bool = False,
) -> None:  # fmt: skip
    """Serve a store's live page until somebody presses Ctrl-C.

    Args:
        store: what to show.
        sweep: this sweep alone; None shows all, those to come included.
        host: address to listen at.
        port: and its port; 0 picks a free one.
        say: told the page's address.
        warn: told what a reader of stderr should know.
        is_opened: also open a browser.

    Raises:
        BadRequest: no such sweep, an address that is not this machine's, a port that is taken, or packages missing.
    """
    uvicorn = _server()
    if sweep is not None:
        chosen_sweeps(store, name=sweep)
    listener = listening(host, port)
    from orchestrator.serve.app import make_app
    from orchestrator.serve.live import Live

    live = Live(store, only=sweep)
    is_local = is_loopback(host)
    url = address(listener)

    def announce() -> None:
        if not is_local:
            warn(f"--host {host}: whoever reaches this machine can read the store; 127.0.0.1 keeps it to this machine")
        say(url)
        if is_opened:
            import webbrowser

            webbrowser.open(url)

    app = make_app(live, hosts=[*LOOPBACK, host] if is_local else ["*"], on_start=announce)
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="on", timeout_graceful_shutdown=1)
    with contextlib.closing(listener), contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        BadRequest: it cannot, in one line.
    """
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError):
        raise BadRequest(f"--host: got '{host}'; expected an address of this machine, such as 127.0.0.1") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(128)
    except PermissionError:
        listener.close()
        raise BadRequest(f"--port: got {port}; this user may not listen there. Give one above 1023") from None
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise BadRequest(f"--port: got {port}; it is taken. Give another --port, or 0 for a free one") from None
        why = error.strerror or str(error)
        raise BadRequest(f"--host: got '{host}' ({why}); expected an address of this machine, as 127.0.0.1") from None
    return listener


def address(listener: socket.socket) -> str:
    """The page's address; one that listens everywhere is reached at the machine's own."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _server() -> Any:
    """The web server.

    Raises:
        BadRequest: it, or the framework, is not installed.
    """
    try:
        import_module("starlette")
        return import_module("uvicorn")
    except ImportError as error:
        raise BadRequest(f"serve: {error.name} is not installed. pip install 'eureka[serve]'") from None
