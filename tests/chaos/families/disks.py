"""A disk that is full, read-only, gone, or gives errors; permissions that are lost; a limit on what may be written."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

from tests.chaos.page import FUSE, STRIKE, STRIKES
from tests.chaos.scene import Fault, Scene
from tests.chaos.smithy import Process

ERRORS = {
    "an error of the disk (EIO)": errno.EIO,
    "no space for one file (ENOSPC)": errno.ENOSPC,
    "over quota (EDQUOT)": errno.EDQUOT,
    "a permission is denied (EACCES)": errno.EACCES,
    "a stale handle (ESTALE)": errno.ESTALE,
}
SPACE, INODES = "64m", 100_000
SUFFERS_S = 0.7
QUOTA_DISK = 128 << 20  # bytes
QUOTA_STEPS = 300
VOLUME, GROUP = "volume", "0/256"  # of btrfs: the first that is made, and what counts its bytes
QUOTA_S = 10.0  # it is felt when something is saved


def an_error(scene: Scene, rng: Random, *, number: int) -> list[str]:
    """One change to the store fails, or some in a row do."""
    victim = scene.victim(rng)
    victim.page[STRIKE], victim.page[STRIKES] = -number, rng.choice([0, 0, 3, 100])
    victim.page[FUSE] = rng.randint(1, 40)
    while victim.page[FUSE] and not victim.is_over:
        time.sleep(0.005)
    return _suffered(scene, victim)


def full(scene: Scene, rng: Random) -> list[str]:
    with _remounted(scene, lambda: f"size={_used_kib(scene.folder)}k", back=f"size={SPACE}"):
        return _suffered(scene, scene.victim(rng), waits_s=SUFFERS_S)


def out_of_inodes(scene: Scene, rng: Random) -> list[str]:
    with _remounted(scene, lambda: f"nr_inodes={_used_inodes(scene.folder)}", back=f"nr_inodes={INODES}"):
        return _suffered(scene, scene.victim(rng), waits_s=SUFFERS_S)


def read_only(scene: Scene, rng: Random) -> list[str]:
    """Only a disk on which nobody has a file open for writing can be made so: the next command finds it."""
    victim = scene.victim(rng)
    victim.end()
    scene.on_time(victim)
    mount = scene.folder.parent
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
    try:
        refused = scene.start()
        code = refused.wait()
    finally:
        subprocess.run(["mount", "-o", "remount,rw", mount], check=True)
    is_said = code == 2 and "cannot be written" in refused.said
    return scene.spoken(refused) + ([] if is_said else [f"exit {code}, having said: {refused.said[-300:]}"])


def no_permission(scene: Scene, rng: Random) -> list[str]:
    victim = scene.victim(rng)
    parts = [scene.store / part for part in ("", "runs", "metrics", "checkpoints", "sweeps")]
    lost = rng.sample(parts, rng.randint(1, len(parts)))
    mode = rng.choice([0o000, 0o500])
    try:
        for part in lost:
            part.chmod(mode)
        return _suffered(scene, victim, waits_s=SUFFERS_S)
    finally:
        for part in reversed(parts):
            part.chmod(0o755)


def gone(scene: Scene, rng: Random) -> list[str]:
    """The store is not there for a while, as an unmounted disk."""
    victim = scene.victim(rng)
    elsewhere = scene.store.with_name("elsewhere")
    scene.store.rename(elsewhere)
    try:
        return _suffered(scene, victim, waits_s=SUFFERS_S)
    finally:
        if scene.store.exists():  # the view's folder, made anew
            for entry in sorted(scene.store.rglob("*"), reverse=True):
                entry.rmdir() if entry.is_dir() else entry.unlink()
            scene.store.rmdir()
        elsewhere.rename(scene.store)


def over_quota(scene: Scene, rng: Random) -> list[str]:
    """The store is on a disk with a quota, which holds for root, too; it is raised later."""
    disk = scene.held.enter_context(_with_quotas())
    scene.store = disk / VOLUME / "a store"
    scene.address = str(scene.store)
    victim = scene.victim(rng, most=QUOTA_STEPS)
    _limit(disk, str(_counted(disk) + rng.randint(0, 1 << 16)))
    try:
        problems = _suffered(scene, victim, waits_s=QUOTA_S)
        is_felt = victim.exit == 1 and f"({os.strerror(errno.EDQUOT)})" in victim.said
        return problems + ([] if is_felt else [f"exit {victim.exit}, no word of the quota: {victim.said[-300:]}"])
    finally:
        _limit(disk, "none")


@contextmanager
def _with_quotas() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="eureka-quota-") as own:
        image, disk = Path(own) / "image", Path(own) / "disk"
        disk.mkdir()
        with image.open("wb") as file:
            file.truncate(QUOTA_DISK)
        subprocess.run(["mkfs.btrfs", "-q", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, disk], check=True)
        try:
            subprocess.run(["btrfs", "quota", "enable", disk], check=True)
            subprocess.run(["btrfs", "subvolume", "create", disk / VOLUME], check=True, capture_output=True)
            yield disk
        finally:
            subprocess.run(["umount", "-l", disk], check=True)


def _counted(disk: Path) -> int:
    """What counts against the quota [bytes]."""
    show = ["btrfs", "qgroup", "show", "--raw", "--sync", "-f", disk / VOLUME]
    lines = subprocess.run(show, check=True, capture_output=True, text=True).stdout.splitlines()
    return int(lines[-1].split()[1])


def _limit(disk: Path, most: str) -> None:
    """From outside the volume: within it, even raising the limit may be over quota."""
    subprocess.run(["btrfs", "qgroup", "limit", most, GROUP, disk], check=True)


def no_large_file(scene: Scene, rng: Random) -> list[str]:
    """A limit of the process on a file's size, which is felt in the middle of a file."""
    victim = scene.victim(rng)
    resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (rng.choice([0, 100, 4096]), resource.RLIM_INFINITY))
    return _suffered(scene, victim, waits_s=SUFFERS_S)


def _suffered(scene: Scene, victim: Process, *, waits_s: float = 0.3) -> list[str]:
    """It ends with one line, or goes on."""
    until = time.monotonic() + waits_s
    while time.monotonic() < until and not victim.is_over:
        time.sleep(0.01)
    if not victim.is_over:
        victim.end()
        return scene.spoken(victim)
    scene.on_time(victim)
    found = scene.spoken(victim)
    if victim.exit == 1 and "failed" in victim.said:
        found.append(f"runs failed for what was the disk's fault: {victim.said[-300:]}")
    return found


@contextmanager
def _remounted(scene: Scene, how: Callable[[], str], *, back: str) -> Iterator[None]:
    """Change the disk under a command that is under way; try again where a file is open for writing just then."""
    mount, victim = scene.folder.parent, scene.victim(Random(0), most=30)
    while subprocess.run(["mount", "-o", f"remount,{how()}", mount], capture_output=True, check=False).returncode:
        if victim.is_over:
            break
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", f"remount,{back}", mount], check=True)


def _used_kib(folder: Path) -> int:
    there = os.statvfs(folder)
    return max(64, (there.f_blocks - there.f_bfree) * there.f_frsize // 1024 + 8)


def _used_inodes(folder: Path) -> int:
    there = os.statvfs(folder)
    return there.f_files - there.f_ffree


def mounted(folder: Path) -> bool:
    """Give the bench a small disk of its own; false where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SPACE},nr_inodes={INODES}", "eureka-chaos", folder]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _no_quotas() -> str:
    lacking = [name for name in ("mkfs.btrfs", "btrfs") if shutil.which(name) is None]
    if lacking or _no_mount():
        return _no_mount() or "needs btrfs-progs, to make a disk with quotas"
    return "" if "btrfs" in Path("/proc/filesystems").read_text() else "needs a kernel with btrfs, which has quotas"


def _no_mount() -> str:
    return "" if os.geteuid() == 0 and Path("/proc/self/mounts").exists() else "needs root, to mount a small disk"


FAULTS = (
    *(Fault("disks", words, partial(an_error, number=number)) for words, number in ERRORS.items()),
    Fault("disks", "full", full, needs=_no_mount),
    Fault("disks", "no inode left", out_of_inodes, needs=_no_mount),
    Fault("disks", "read-only", read_only, needs=_no_mount),
    Fault("disks", "permissions lost", no_permission),
    Fault("disks", "not there for a while", gone),
    Fault("disks", "a limit on a file's size", no_large_file),
    Fault("disks", "a quota", over_quota, is_whole=True, needs=_no_quotas),
)
