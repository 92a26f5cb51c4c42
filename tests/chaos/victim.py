"""The process under test: the `eureka` command itself, in a fork of a process that has imported everything.

A fork begins in a hundredth of the time that a new interpreter needs, so hundreds of faults fit in minutes. It is a
process like any other: own session, own signals, killed for real. Three things are added to the command, none of which
changes what it does: its training steps are counted, its changes to the store can be struck by what the shared page
says, and root's licence to ignore permissions is dropped, so that a store that may not be written cannot be.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

import orchestrator.cli
import orchestrator.inline
import orchestrator.published
import orchestrator.run
import orchestrator.sharing
import orchestrator.show
import orchestrator.status
import orchestrator.stopping
import orchestrator.worker
import workloads.scores
from tests.chaos.page import FUSE, KILL, OFFSET_NS, READY, STOP, STRIKE, STRIKES, TRAINED, Page
from workloads.cohort import Cohort

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
_ROOTS_LICENCE = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


def warm_up() -> None:
    """Import what the command imports on its way."""
    torch.set_num_threads(1)
    pa.array([1])  # which imports pandas, where there is one
    del workloads.scores


def suffer(order: dict[str, Any]) -> None:
    """Be the command that the order describes; never returns.

    Args:
        order: `argv`, and the paths `store`, `page` and `log`; perhaps `environment`, and `lease_s` of claims.
    """
    os.setsid()
    os.environ.update(order.get("environment") or {})
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    page = Page(Path(order["page"]))
    _count_steps(page)
    _watch_changes(page, order["store"])
    _set_clock(page)
    _obey_permissions()
    if order.get("lease_s"):
        orchestrator.sharing.run_shared.__kwdefaults__["lease_s"] = order["lease_s"]  # type: ignore[index]
    sys.argv = ["eureka", *order["argv"]]
    page[READY] = 1
    code: Any = 1
    try:
        orchestrator.cli.main()
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _count_steps(page: Page) -> None:
    tick = Cohort._tick

    def counted(self: Cohort) -> None:
        tick(self)
        page[TRAINED] += len(self.running)

    Cohort._tick = counted  # type: ignore[method-assign]


def _watch_changes(page: Page, store: str) -> None:
    """Before a file of the store is opened for writing, renamed or removed, see whether it is time to be struck."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if not page[FUSE]:
            return
        if event == "open":
            flags = args[2] if isinstance(args[2], int) else 0
            if not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event not in CHANGES:
            return
        if not isinstance(args[0], str | bytes | os.PathLike) or not os.fsdecode(args[0]).startswith(store):
            return
        if page[FUSE] > 1:
            page[FUSE] -= 1
            return
        strike = page[STRIKE]
        if page[STRIKES] > 0:
            page[STRIKES] -= 1
        else:
            page[FUSE] = 0
        if strike == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        elif strike == STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        elif strike < 0:
            raise OSError(-strike, os.strerror(-strike))

    sys.addaudithook(hook)


def _set_clock(page: Page) -> None:
    """Let the preloaded clock, if there is one, read its error from the page."""
    try:
        pointer = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "chaos_offset_ns")
    except ValueError:
        return
    fd = os.open(page.path, os.O_RDWR)
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    pointer.value = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0) + 8 * OFFSET_NS


def _obey_permissions() -> None:
    """Root may read and write whatever it likes; give that up."""
    libc = ctypes.CDLL(None)
    head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(head, sets) == 0:
        for at in range(3):  # effective, permitted, inheritable
            sets[at] &= ~_ROOTS_LICENCE & 0xFFFFFFFF
        libc.capset(head, sets)
