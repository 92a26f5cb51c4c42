"""Every promise of a store, looked at one by one, and what would mend each that is broken.

What follows from other files (a digest, kept EVENTS, a claim) is made again or removed; what does not is set aside, and
the runs that it belonged to are trained again. Nothing is guessed. Sweeps may run meanwhile: a block that is just being
written, or was merged away, is no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from analysis.integrity.block_promises import doubled, of_block
from analysis.integrity.file_promises import bare, checkpoints, probes, snapshots, sweeps
from analysis.integrity.finding import Finding
from analysis.kept_events import check_events
from analysis.places.place import DRAFT_S, Leftover
from analysis.store import Store
from analysis.vouched import DOCTOR, forget_checked


@dataclass(frozen=True)
class Examined:
    """What was looked at, and what was found.

    Attributes:
        findings: the broken promises.
        blocks: how many blocks.
        runs: how many rows of the ledger.
        files: how many files have a checksum that holds, by part of the store.
        unverified: how many have none, by part: they are of before there were any.
    """

    findings: list[Finding]
    blocks: int
    runs: int
    files: dict[str, int]
    unverified: dict[str, int]


def examine(store: Store, *, note: Callable[[int, int], None] = lambda done, of: None) -> Examined:
    """Look at every promise of a store.

    Args:
        store: which.
        note: told how many blocks were looked at, of how many.
    """
    forget_checked()
    left, ledgers = store.place.leftovers(older_s=DRAFT_S), dict[str, pa.Table]()
    found = [unsettled(one) for one in left]
    replaced = {block for one in left for block in one.replaced}
    blocks = [block for block in store.blocks() if block not in replaced]
    for number, block in enumerate(blocks):
        note(number, len(blocks))
        here = list(of_block(store, block, ledgers=ledgers))
        if here and store.runs_path(block).exists():  # else it was merged into another meanwhile
            found += here
    note(len(blocks), len(blocks))
    found += doubled(store, ledgers)
    found += [*checkpoints(store), *snapshots(store, ledgers), *probes(store), *sweeps(store)]
    files, unverified = dict[str, int](), dict[str, int]()
    unvouched = [*bare(store, files=files, unverified=unverified)]
    found += [one for one in unvouched if not any(set(one.files) & set(other.files) for other in found)]
    found = list(_once(found)) or list(_events(store))
    rows = sum(map(len, ledgers.values()))
    return Examined(findings=found, blocks=len(blocks), runs=rows, files=files, unverified=unverified)


def unsettled(left: Leftover) -> Finding:
    """What a killed writer left: the next one settles it, or it is a file that is no one's."""
    if left.path is None:
        return Finding(text=left.text, remedy="settle")
    return Finding(text=left.text, remedy="remove", files=(left.path,))


def _once(found: list[Finding]) -> Iterator[Finding]:
    """Without repetitions, and without sending whom we tell it to where we are."""
    seen = set[str]()
    for one in found:
        text = one.text.replace(DOCTOR, "")
        if text not in seen:
            seen.add(text)
            yield replace(one, text=text)


def _events(store: Store) -> Iterator[Finding]:
    """Kept EVENTS follow from all the rest, and are compared where the rest is right."""
    for text in check_events(store):
        name = text.partition(":")[0].partition("/")[2]
        yield Finding(text=text, remedy="remove", files=(store.path / "events" / name,))
