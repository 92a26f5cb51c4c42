"""Is everything there that a sweep needs? Versions, the machine, and the store's own check."""

from __future__ import annotations

import contextlib
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import BadRequest
from orchestrator.plan import usable_cores

if TYPE_CHECKING:
    from analysis.store import Store

PACE_S = 3.0  # between two words of progress

PACKAGES = (
    "torch",
    "numpy",
    "pydantic",
    "omegaconf",
    "ray",
    "polars",
    "pyarrow",
    "scipy",
    "matplotlib",
    "click",
    "rich",
)


def examine(
    store: str, *, repair: bool = False, dry_run: bool = False, note: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Versions, every problem found [one line each], what was mended, and what is worth knowing besides.

    Args:
        store: where a store may be; none is no problem.
        repair: mend what can be mended without guessing.
        dry_run: only say what would be mended.
        note: told how far the check has come, every few seconds.
    """
    from analysis.places.place import is_there
    from workloads.code_files import compiler

    versions = {"python": platform.python_version(), "processors": str(usable_cores())}
    versions |= {name: _version(name) for name in PACKAGES}
    versions["C++ compiler"] = compiler() or "none (compute.program can only be eager)"
    record = {"versions": versions, "store": f"{store} (none yet)", "problems": [], "mended": [], "notes": []}
    if is_there(store):
        record |= _of_store(store, repair=repair, dry_run=dry_run, note=note)
    elif repair:
        raise BadRequest(f"{store}: no store here, and nothing to repair")
    record["problems"] = [f"{name} is not installed" for name in PACKAGES if versions[name] == "missing"] + [
        *record["problems"]
    ]
    return record


def lines(record: dict[str, Any], *, dry_run: bool) -> Iterator[str]:
    """What `examine` gave, for people."""
    for key, value in record["versions"].items():
        yield f"{key:<12} {value}"
    for line in record["mended"]:
        yield f"{'would have' if dry_run else 'repair'}: {line}"
    for problem in record["problems"]:
        yield f"problem: {problem}"
    for line in record["notes"]:
        yield f"note: {line}"
    counted = ""
    if "blocks" in record:
        verified = sum(record["files"]["verified"].values())
        counted = f": {record['runs']:,} runs in {record['blocks']:,} blocks, {verified:,} files with a checksum"
    yield f"{'store':<12} {record['store']}{counted}"


def _of_store(store: str, *, repair: bool, dry_run: bool, note: Callable[[str], None]) -> dict[str, Any]:
    from analysis.errors import StoreError
    from analysis.integrity.invariants import examine as look
    from analysis.integrity.mend import mend, mend_marker
    from analysis.places.place import MARKER, place_of
    from analysis.store import Store

    mended: list[str] = []
    try:
        opened = Store(store)
    except StoreError as error:
        path = place_of(store).path
        if not (path / MARKER).exists() or "not a store's marker" not in str(error):
            raise
        if repair:
            mended += mend_marker(path, dry_run=dry_run)
        if not repair or dry_run:
            problem = f"{error}; nothing else can be checked before it is mended"
            return {"store": store, "problems": [problem], "mended": mended, "notes": []}
        opened = Store(store)
    found = look(opened, note=_paced(note))
    if repair:
        mended += mend(opened, found.findings, dry_run=dry_run)
        if mended and not dry_run:
            opened = Store(store)
            found = look(opened, note=_paced(note))
    return {
        "store": store,
        "problems": [one.text for one in found.findings],
        "mended": mended,
        "notes": list(_notes(opened, unverified=found.unverified)),
        "blocks": found.blocks,
        "runs": found.runs,
        "files": {"verified": found.files, "unverified": found.unverified},
    }


def _notes(store: Store, *, unverified: dict[str, int]) -> Iterator[str]:
    """What is no broken promise, and still worth knowing."""
    from analysis.errors import StoreError
    from analysis.integrity.mend import DAMAGED

    if unverified:
        listed = ", ".join(f"{number:,} in {part}" for part, number in sorted(unverified.items()))
        way_out = f"`eureka compact {store.path}` gives blocks theirs"
        yield f"unverified: files of before there were checksums: {listed}. {way_out}"
    aside = store.path / DAMAGED
    if kept := sum(path.is_file() for path in aside.rglob("*")) if isinstance(aside, Path) else len(aside.below()):
        yield f"damaged/ holds {kept:,} files that a repair set aside; nobody reads them, and they can be removed"
    with contextlib.suppress(StoreError):  # a problem, told as such
        yield from _studies(store)


def _studies(store: Store) -> Iterator[str]:
    """Trials that were told of more runs than the ledger has, since a repair took some out."""
    there = Counter(store.runs_table(columns=["run_id", "config_id"])["config_id"].to_pylist())
    for name in store.sweeps():
        trials = store.trials(name)
        rows = [] if trials is None else trials.select(["trial", "config_id", "state", "runs", "warm"]).to_pylist()
        told = [row for row in rows if row["state"] == "complete" and not row["warm"] and row["config_id"]]
        wanted = Counter[str]()
        for row in told:
            wanted[row["config_id"]] += row["runs"]
        for row in told:
            config = row["config_id"]
            if there[config] < wanted[config]:
                how = f"was told of {row['runs']:,} runs, and the ledger has {there[config]:,} of its config"
                yield f"sweep {name}, trial {row['trial']}: {how}; its score stands"


def _paced(note: Callable[[str], None]) -> Callable[[int, int], None]:
    """Told of every block, says so every few seconds."""
    last = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last > PACE_S:
            last = time.monotonic()
            note(f"{done:,} of {of:,} blocks checked")

    return tell


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"
