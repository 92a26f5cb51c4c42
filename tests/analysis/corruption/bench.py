"""Is every damaged file found, and none silently read? Each kind is cut, loses sectors, and has bits flipped.

    python -m tests.analysis.corruption.bench [--flips 2000] [--seed 1] [--write]

Files are cut at every 512 bytes, every 512 bytes of them become zeros, and 1 to 64 of their bits are flipped at random.
A damaged file is found when what `eureka doctor` looks at has a finding. Reading it is *refused* with a StoreError, or
*right*: what comes back is what was written, because it can be made from other files, or is there without the damage.
Anything else is *wrong*, and there must be none.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from analysis import frames
from analysis.appended import Appended, check_appended, sum_path
from analysis.detect import stored_events
from analysis.errors import StoreError
from analysis.files import read_json, write_json
from analysis.integrity.block_promises import of_block
from analysis.integrity.file_promises import checkpoints, probes, snapshots, sweeps
from analysis.integrity.finding import Finding
from analysis.integrity.invariants import unsettled
from analysis.kept_events import check_events
from analysis.places.place import DRAFT_S
from analysis.probes import PROBES
from analysis.schema import schema
from analysis.store import Store
from analysis.vouched import forget_checked
from orchestrator.published import read as read_progress
from tests.analysis.ledger import TYPES, curve_of, row

STEPS = 300
SECTOR = 512
RESULTS = Path(__file__).with_name("RESULTS.md")
BITS = (1, 1, 1, 2, 3, 8, 64)  # flipped at once, one of these


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        path: where one lies.
        look: the part of the doctor that must find its damage.
        read: what readers get from it.
    """

    path: Path
    look: Callable[[], Iterator[Any]]
    read: Callable[[], Any]


@dataclass
class Tally:
    """What came of one kind's damages."""

    size: int
    cuts: int = 0
    lost: int = 0
    flips: int = 0
    unfound: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    read: Counter[str] = field(default_factory=Counter)


def filled(path: Path) -> Store:
    """A store with a file of every kind."""
    store = Store.create(path)
    rows = [row(run, steps=STEPS, **{"log.snapshots": "5"}) for run in "abc"]
    store.commit(rows, [curve_of(run, steps=STEPS) for run in "abc"], types=TYPES | {"log.snapshots": str})
    rng = np.random.default_rng(0)
    for run in "abc":
        store.snapshots.save(run, 5, {"weight": rng.normal(size=(16, 16)), "bias": rng.normal(size=16)})
    states = {
        run: {"step": np.array(3), "row": rng.normal(size=200), "history": rng.normal(size=(3, 2))} for run in "gh"
    }
    store.checkpoints.save("k", states)
    probe = dict.fromkeys(schema(PROBES).names)
    store.probes.add("p", [probe | {"probe_id": f"{n:016x}", "run_id": "a", "value": n / 7} for n in range(50)])
    runs = [f"{n:016x}" for n in range(100)]
    store.save_sweep({"name": "s", "runs": runs, "yaml": "question: x\nbase:\n" + "  # a long file\n" * 60})
    told = {
        "members": [{"budget": {"steps": 9}}] * 40,
        "width": 1,
        "device": "cpu",
        "checkpoint_s": 1.0,
        "resumes": True,
    }
    store.save_cohort("s", "k", told)
    folder = Path(str(store.sweep_dir("s")))
    store.save_trials("s", pa.table({"trial": range(60), "state": ["complete"] * 60, "value:x": rng.normal(size=60)}))
    write_json(folder / "progress.json", {"at": 1.0, "host": "h", "pid": 1, "runs": runs})
    (folder / "claims").mkdir()
    write_json(folder / "claims" / "me.json", {"beat": 1, "runs": runs})
    study = Appended(folder / "study.journal")
    (folder / "study.journal").write_text("".join(f'{{"op_code":5,"trial_id":{n}}}\n' for n in range(80)))
    study.grown()
    stored_events(store)
    write_json(path / ".pending", {"block": "none", "replaces": runs})
    return store


def kinds(store: Store) -> dict[str, Kind]:
    """Every kind of file of a `filled` store."""
    root, sweep, block = Path(str(store.path)), Path(str(store.sweep_dir("s"))), store.blocks()[0]

    def blocks() -> Iterator[Finding]:
        return of_block(store, block, ledgers={})

    def marker() -> Iterator[str]:
        try:
            Store(root)
        except StoreError as error:
            yield str(error)

    def opened(read: Callable[[Store], Any]) -> Callable[[], Any]:
        return lambda: read(Store(root))

    def state(of: Store) -> list[Any]:
        found = of.checkpoints.furthest()
        if not found:
            raise StoreError("nothing to resume from: the runs start afresh")
        return [
            [name, array.tolist()]
            for run, (path, _) in sorted(found.items())
            for name, array in of.checkpoints.load(run, path).items()
        ]

    def columns(frame: pl.DataFrame) -> list[Any]:
        return frame.drop("ended_at", strict=False).rows()

    def journal(of: Store) -> Any:
        with of.locked():
            return None

    return {
        "ledger": Kind(Path(str(store.runs_path(block))), blocks, opened(lambda s: columns(frames.runs(s)))),
        "curves": Kind(
            Path(str(store.metrics_path(block))), blocks, opened(lambda s: frames.metrics(s).collect().rows())
        ),
        "digests": Kind(Path(str(store.digest_path(block))), blocks, opened(lambda s: frames.digest(s).rows())),
        "kept EVENTS": Kind(
            root / "events" / "contrast-1.parquet",
            lambda: iter(check_events(store)),
            opened(lambda s: stored_events(s).rows()),
        ),
        "checkpoint": Kind(root / "checkpoints" / "k.npz", lambda: checkpoints(store), opened(state)),
        "snapshot": Kind(
            root / "snapshots" / "a-5.npz",
            lambda: snapshots(store, {}),
            opened(lambda s: [[name, array.tolist()] for name, array in s.snapshots.load("a", 5).items()]),
        ),
        "probes": Kind(
            root / "probes" / "p.parquet", lambda: probes(store), opened(lambda s: s.probes.table().to_pylist())
        ),
        "marker": Kind(root / "eureka.json", marker, opened(lambda s: s.path.name)),
        "sweep's record": Kind(sweep / "sweep.json", lambda: sweeps(store), opened(lambda s: s.sweep("s"))),
        "sweep's YAML": Kind(sweep / "sweep.yaml", lambda: sweeps(store), opened(lambda s: s.sweep("s")["yaml"])),
        "cohort": Kind(sweep / "cohorts" / "k.json", lambda: sweeps(store), opened(lambda s: s.cohort("s", "k"))),
        "claim": Kind(
            sweep / "claims" / "me.json", lambda: sweeps(store), lambda: read_json(sweep / "claims" / "me.json")
        ),
        "progress": Kind(sweep / "progress.json", lambda: sweeps(store), lambda: progress(sweep)),
        "trials": Kind(sweep / "trials.parquet", lambda: sweeps(store), opened(lambda s: s.trials("s").to_pylist())),
        "study": Kind(sweep / "study.journal", lambda: sweeps(store), lambda: study(sweep / "study.journal")),
        "study's sum": Kind(
            sum_path(sweep / "study.journal"), lambda: sweeps(store), lambda: study(sweep / "study.journal")
        ),
        "journal": Kind(
            root / ".pending", lambda: map(unsettled, store.place.leftovers(older_s=DRAFT_S)), opened(journal)
        ),
    }


def progress(folder: Path) -> Any:
    found = read_progress(folder)
    if found is None:
        raise StoreError("as if there were none")
    return found["runs"]


def study(path: Path) -> list[Any]:
    check_appended(path)
    return [json.loads(line) for line in path.read_text().splitlines()]


def damages(whole: bytes, *, flips: int, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Every cut at a sector's end, every sector lost to zeros, then random flips."""
    for length in range(0, len(whole), SECTOR):
        yield f"cut to {length}", whole[:length]
        part = whole[length : length + SECTOR]
        yield f"lost {length}", whole[:length] + bytes(len(part)) + whole[length + SECTOR :]
    for _ in range(flips):
        data, places = bytearray(whole), [rng.randrange(8 * len(whole)) for _ in range(rng.choice(BITS))]
        for place in places:
            data[place // 8] ^= 1 << place % 8
        if bytes(data) != whole:
            yield f"flipped {sorted(places)}", bytes(data)


def tally(kind: Kind, *, flips: int, rng: random.Random) -> Tally:
    """Damage one file again and again; it is whole afterwards."""
    whole, expected = kind.path.read_bytes(), kind.read()
    kind.path.write_bytes(whole)  # reading settles a journal
    found = Tally(size=len(whole))
    for what, data in damages(whole, flips=flips, rng=rng):
        found.cuts += what.startswith("cut")
        found.lost += what.startswith("lost")
        found.flips += what.startswith("flip")
        kind.path.write_bytes(data)
        forget_checked()
        if not list(kind.look()):
            found.unfound.append(what)
        try:
            is_right = kind.read() == expected
            found.read["right" if is_right else "wrong"] += 1
            if not is_right:
                found.wrong.append(what)
        except StoreError:
            found.read["refused"] += 1
        kind.path.write_bytes(whole)
    return found


def bench(
    *, flips: int, seed: int, only: str | None = None, say: Callable[[str], None] = lambda text: None
) -> dict[str, Tally]:
    """All kinds."""
    with tempfile.TemporaryDirectory(
        prefix="eureka-corruption-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None
    ) as scratch:
        filled(Path(scratch) / "whole")
        found = {}
        for name in kinds(Store(Path(scratch) / "whole")):
            if only in (None, name):
                copy = shutil.copytree(Path(scratch) / "whole", Path(scratch) / "copy")
                found[name] = tally(kinds(Store(copy))[name], flips=flips, rng=random.Random(f"{seed} {name}"))
                shutil.rmtree(copy)
                say(f"{name}: {found[name]}")
    return found


def table(found: dict[str, Tally]) -> str:
    columns = "file", "bytes", "cut", "sectors lost", "bits flipped", "found", "refused", "right", "silently wrong"
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, one in found.items():
        tried = one.cuts + one.lost + one.flips
        counts = [
            one.size,
            one.cuts,
            one.lost,
            one.flips,
            tried - len(one.unfound),
            *(one.read[key] for key in ("refused", "right", "wrong")),
        ]
        lines.append(f"| {name} | {' | '.join(f'{count:,}' for count in counts)} |")
    return "\n".join(lines)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--flips", type=int, default=2000, help="of each kind of file")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--write", action="store_true", help="keep the table in RESULTS.md")
    given = options.parse_args()
    found = bench(flips=given.flips, seed=given.seed, say=lambda text: print(text[:200], file=sys.stderr))
    text = table(found)
    print(text)
    if given.write:
        command = f"python -m tests.analysis.corruption.bench --flips {given.flips} --seed {given.seed}"
        about = __doc__.split("\n\n")[2].replace("\n", " ").strip()
        RESULTS.write_text(f"# Damaged files\n\n`{command}`\n\n{about}\n\n{text}\n")
    return int(any(one.unfound or one.wrong for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
