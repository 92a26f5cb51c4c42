"""EVENTS that a store keeps, so that a run is judged once: a cache, one file a detector; it can always be thrown away.

    STORE/events/DETECTOR.parquet     EVENTS of runs judged so far, the block of each, and its last value

A row holds for one run in one block, and blocks never change; what a run's row says follows from its curve, its ledger
row, the detector and the code. The last two are in the file as a key: with another definition, other code or other
packages the file counts for nothing and is replaced. Only registered detectors are kept, since a name tells one of
them from another.

A file is written again only where it gains enough, so that whoever asks every second judges a few runs again instead.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from analysis import frames
from analysis.bins import DIGEST_VERSION
from analysis.detect import EVENTS_SCHEMA, events_of
from analysis.detectors import DETECTORS, Detector
from analysis.errors import AnalysisError, StoreError
from analysis.files import made, read_parquet, read_schema, write_parquet
from analysis.store import Store

KEPT_SCHEMA: dict[str, pl.DataType] = EVENTS_SCHEMA | {
    "block": pl.String(),  # joins RUNS
    "final_value": pl.Float64(),  # of the detector's metric, in the run's last bin [metric]
}
KEY = b"events_key"
GAIN = 0.02  # so much of what is kept must be new before the file is written again
_RUN = ["run_id", "block"]


def kept_events(store: Store, detector: Detector) -> pl.DataFrame:
    """What the store keeps of a detector: columns of KEPT_SCHEMA, blocks that are gone included; else no row."""
    nothing = pl.DataFrame(schema=KEPT_SCHEMA)
    try:
        table = read_parquet(store.events_path(detector.name))
        if (table.schema.metadata or {}).get(KEY) != key_of(detector):
            return nothing
        return pl.DataFrame(pl.from_arrow(table)).select(
            pl.col(name).cast(dtype) for name, dtype in KEPT_SCHEMA.items()
        )
    except (StoreError, pl.exceptions.PolarsError, pa.ArrowException, ValueError):  # none yet, or damaged
        return nothing


def known_events(
    store: Store, *, runs: pl.DataFrame, detector: Detector, digest: pl.DataFrame | None = None
) -> pl.DataFrame:
    """EVENTS of a store's runs; judges only those that were not, and keeps what it says of them.

    Args:
        store: the store.
        runs: RUNS rows, `block` among their columns.
        detector: the definition.
        digest: of the detector's metric and these runs, where it was read already.

    Returns:
        One row a run, in the order of `runs`, as `events_of` returns them.

    Raises:
        As `detect.stored_events`.

    Checked by: test_kept_events.py::test_events_by_parts_are_those_of_the_whole
    """
    kept = kept_events(store, detector)
    known = kept.join(runs.select(_RUN), on=_RUN, how="semi")
    new, found = runs.join(known.select(_RUN), on=_RUN, how="anti", maintain_order="left"), known
    if not new.is_empty():
        try:
            of_new = None if digest is None else digest.join(new.select("run_id"), on="run_id", how="semi")
            found = pl.concat([known, _judged(store, runs=new, detector=detector, digest=of_new)])
        except AnalysisError:
            if known.is_empty():
                raise
            found = _judged(store, runs=runs, detector=detector, digest=digest)  # of all of them it may not be true
        if found.height - known.height > GAIN * kept.height:
            _keep(store, detector, kept=kept, found=found)
    ordered = runs.select("run_id").join(found, on="run_id", how="left", maintain_order="left")
    return ordered.select(list(EVENTS_SCHEMA))


def move_blocks(store: Store, moved: Mapping[str, str]) -> None:
    """Follow a merge: rows of an old block are those of its new one; the caller holds the store's lock."""
    old, new = pa.array(list(moved)), pa.array(list(moved.values()))
    for path in store.files("events") if moved else ():
        with contextlib.suppress(StoreError):  # damaged: it counts for nothing
            table = read_parquet(path)
            block = table["block"].cast(pa.string())
            followed = pc.coalesce(pc.take(new, pc.index_in(block, old)), block)
            write_parquet(path, table.set_column(table.schema.get_field_index("block"), "block", followed))


def check_events(store: Store) -> list[str]:
    """What is wrong with the kept EVENTS, in plain words: they must be what their detector says today."""
    problems = []
    for path in store.files("events"):
        again = "remove the file; whoever needs it next makes it again"
        detector = DETECTORS.get(path.stem)
        if detector is None:
            problems.append(f"events/{path.name}: of no detector that is known here; {again}")
            continue
        try:
            read_schema(path)
            kept = kept_events(store, detector)
            runs = frames.runs(store).join(kept.select(_RUN), on=_RUN, how="semi")
            mine = kept.join(runs.select(_RUN), on=_RUN, how="semi").sort("run_id")
            if not runs.is_empty() and not mine.equals(_judged(store, runs=runs, detector=detector).sort("run_id")):
                problems.append(f"events/{path.name}: is not what {detector.name} says of the digests; {again}")
        except AnalysisError as error:
            problems.append(f"events/{path.name}: {error}; {again}")
    return problems


@lru_cache(maxsize=64)
def key_of(detector: Detector) -> bytes:
    """Hash of everything besides a run that its EVENTS follow from."""
    found = hashlib.blake2b(digest_size=16)
    for part in (str(detector), DIGEST_VERSION.decode(), version("polars"), version("numpy"), code_hash()):
        found.update(part.encode() + b"\0")
    return found.hexdigest().encode()


@lru_cache(maxsize=1)
def code_hash() -> str:
    """Of the source files beside this one, whichever of them detection needs."""
    found = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def _judged(
    store: Store, *, runs: pl.DataFrame, detector: Detector, digest: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Rows of KEPT_SCHEMA, in the order of `runs`."""
    if digest is None:
        ids = runs["run_id"].to_list()
        digest = frames.digest(store, metric=detector.metric, run_ids=ids, bin_steps=detector.bin_steps)
    events = events_of(digest, runs=runs, detector=detector)
    last = digest.group_by("run_id").agg(final_value=pl.col("value").sort_by("bin").last())
    rows = events.join(runs.select(_RUN), on="run_id", how="left", maintain_order="left")
    return rows.join(last, on="run_id", how="left", maintain_order="left").select(list(KEPT_SCHEMA))


def _keep(store: Store, detector: Detector, *, kept: pl.DataFrame, found: pl.DataFrame) -> None:
    """Write what is kept, and what was found besides; a store that cannot be written keeps nothing.

    A run without a value of the metric may be refused when asked for alone, so nothing is kept of it.
    """
    if DETECTORS.get(detector.name) != detector:
        return
    others = kept.join(found.select(_RUN), on=_RUN, how="anti").filter(pl.col("block").is_in(store.blocks()))
    rows = pl.concat([others, found]).sort(_RUN)
    rows = rows.filter(pl.col("final_value").is_not_null() | (pl.col("status") == "failed"))
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest()).replace_schema_metadata({KEY: key_of(detector)})
    with contextlib.suppress(StoreError, OSError):
        path = store.events_path(detector.name)
        made(path.parent)
        write_parquet(path, table)
