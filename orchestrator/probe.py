"""Probes snapshots of a store's runs: works out what is asked, computes what the store lacks, keeps it.

A *probe* is one intervention on one snapshot. Each has an id made of all that determines its readings, so the same file
again computes nothing, and two files share what they have in common. Snapshots of one shape and task are probed
together, a few at a time, and what comes of them is stored at once: an interrupted probe goes on from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.rows import new_block
from analysis.store import Store
from orchestrator.errors import BadRequest
from orchestrator.probe_spec import Chosen, ProbeSpec
from orchestrator.rerun import find_run
from workloads.fields import column_types
from workloads.probing import Intervention
from workloads.probing.ask import asked, check
from workloads.probing.bench import Subject
from workloads.spec import RunSpec, resolve

if TYPE_CHECKING:
    import polars as pl

AT_ONCE = 8  # snapshots in one model
BEFORE = 0.75  # of the step at which the online rule saw the event: none of the fall has happened yet


@dataclass(frozen=True)
class Source:
    """A run that was chosen: its spec, the event that the online rule saw, and after how many updates it was kept."""

    spec: RunSpec
    event_step: int | None
    kept: tuple[int, ...]

    def step(self, word: int | str) -> int | None:
        """The snapshot that a word means; None for `before` where there was no event, or nothing was kept before it.

        Raises:
            BadRequest: there is no such snapshot.
        """
        if word == "before":
            early = [step for step in self.kept if step <= BEFORE * (self.event_step or 0)]
            return early[-1] if early and self.event_step is not None else None
        if self.kept and word in ("first", "end"):
            return self.kept[0 if word == "first" else -1]
        if word in self.kept:
            return int(word)
        listed = ", ".join(map(str, self.kept)) or "none"
        raise BadRequest(
            f"run {self.spec.run_id[:8]}: got no snapshot after {word} updates; there are: {listed}."
            " Its spec asks for them in log.snapshots"
        )


@dataclass(frozen=True)
class Probe:
    """One intervention on one snapshot; `at` and `asked` are what the file calls the step and says of the settings."""

    source: Source
    step: int
    at: str
    intervention: Intervention
    asked: str
    other_step: int | None
    examples: int
    seed: int

    @property
    def probe_id(self) -> str:
        """Hash of all that determines the readings [16 hex digits]."""
        content = [self.source.spec.run_id, self.step, self.intervention.name, self.intervention.options]
        version = [self.intervention.version] if self.intervention.version > 1 else []
        text = json.dumps([*content, self.examples, self.seed, *version])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def together(self) -> tuple[str, ...]:
        """What is the same for probes that can be computed side by side."""
        spec = self.source.spec
        settings = self.intervention.model_copy(update={"with_step": None} if self.other_step is not None else {})
        return (spec.shape_key, spec.task.model_dump_json(), settings.model_dump_json())


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What one `eureka probe` did.

    Attributes:
        probes: what the file asks for.
        computed: how many of them this call added.
        left_out: runs that had no snapshot before their event, or no event.
    """

    probes: tuple[Probe, ...]
    computed: int
    left_out: tuple[str, ...]


def probe(store: Store, asks: ProbeSpec, *, note: Callable[[str], None] = lambda text: None) -> Probed:
    """Compute what a file asks for and the store lacks.

    Args:
        store: has the runs and their snapshots.
        asks: the file.
        note: told of progress.

    Raises:
        BadRequest: no run is chosen, or a step was not kept.
        WorkloadError: a run cannot take an intervention.
        StoreError: a snapshot is damaged, or the table cannot be written.
    """
    sources = chosen(store, asks.runs)
    probes, left_out = planned(sources, asks)
    for example in {one.together: one for one in probes}.values():
        check(example.intervention, example.source.spec)
    known = store.probes.known()
    new = {one.probe_id: one for one in probes if one.probe_id not in known}
    groups: dict[tuple[str, ...], list[Probe]] = {}
    for one in new.values():
        groups.setdefault(one.together, []).append(one)
    done = 0
    for group in groups.values():
        for start in range(0, len(group), AT_ONCE):
            part = group[start : start + AT_ONCE]
            store.probes.add(new_block(), list(_rows(store, part)))
            done += len(part)
            note(f"{done:,} of {len(new):,} probes: {part[0].intervention.name}")
    return Probed(probes=tuple(probes), computed=len(new), left_out=tuple(left_out))


def chosen(store: Store, runs: Chosen) -> list[Source]:
    """The runs that a file asks for, in the order of their sweep.

    Raises:
        BadRequest: there is none.
        StoreError: there is no such sweep.
    """
    if runs.ids is not None:
        ids = [find_run(store, beginning)["run_id"] for beginning in runs.ids.split()]
    else:
        assert runs.sweep is not None
        ids = store.sweep(runs.sweep)["runs"]
    rows = {
        row["run_id"]: row for row in store.runs_table(["run_id", "spec", "online_event_step", "status"]).to_pylist()
    }
    kept: dict[str, list[int]] = {}
    for run, step in store.snapshots.there():
        kept.setdefault(run, []).append(step)
    found = []
    for run in ids:
        if run in rows and rows[run]["status"] != "failed":
            source = Source(
                resolve(json.loads(rows[run]["spec"])), rows[run]["online_event_step"], tuple(sorted(kept.get(run, [])))
            )
            if _has(source.spec, runs):
                found.append(source)
    if not found:
        what = f"sweep {runs.sweep}" if runs.sweep else f"runs {runs.ids}"
        way_out = "`eureka status` shows what is trained"
        raise BadRequest(f"{store.path}: {what}: got no trained run with what `where` asks for; {way_out}")
    return found


def _has(spec: RunSpec, runs: Chosen) -> bool:
    columns = spec.columns()
    absent = [field for field in runs.where if field not in column_types(spec)]
    if absent:
        raise BadRequest(f"runs.where: got '{absent[0]}'; expected fields of a run, such as optim.lr or task.name")
    return all(columns[field] == value for field, value in runs.where.items())


def planned(sources: Sequence[Source], asks: ProbeSpec) -> tuple[list[Probe], list[str]]:
    """Every probe of a file, and the runs that `before` leaves out.

    Raises:
        BadRequest: a step was not kept, or nothing is left to probe.
    """
    probes: list[Probe] = []
    left_out: list[str] = []
    for source in sources:
        words = [word for given in asks.steps for word in (source.kept if given == "all" else [given])]
        steps = [(str(word), source.step(word)) for word in words]
        if any(step is None for _, step in steps):
            left_out.append(source.spec.run_id)
            continue
        for given in asks.interventions:
            for at, step in steps:
                assert step is not None
                other = source.step(given.with_step) if given.NEEDS_OTHER_STEP else None
                if given.NEEDS_OTHER_STEP and other is None:
                    left_out.append(source.spec.run_id)
                    continue
                own = given.model_copy(update={"with_step": other}) if given.NEEDS_OTHER_STEP else given
                probes.append(Probe(source, step, at, own, given.options, other, asks.examples, asks.seed))
    if not probes:
        raise BadRequest(
            "steps: got no run with a snapshot before its event; expected at least one. Ask for steps by number,"
            " or keep more of them (log.snapshots)"
        )
    return probes, list(dict.fromkeys(left_out))


def _rows(store: Store, probes: Sequence[Probe]) -> Iterator[dict[str, Any]]:
    """PROBES rows of a few probes, computed together."""
    subjects = [
        Subject(
            spec=one.source.spec,
            step=one.step,
            weights=store.snapshots.load(one.source.spec.run_id, one.step),
            other_step=one.other_step,
            other=None if one.other_step is None else store.snapshots.load(one.source.spec.run_id, one.other_step),
        )
        for one in probes
    ]
    first = probes[0]
    found = asked(first.intervention, subjects, examples=first.examples, seed=first.seed)
    for one, rows in zip(probes, found, strict=True):
        place = {
            "probe_id": one.probe_id,
            "run_id": one.source.spec.run_id,
            "step": one.step,
            "intervention": one.intervention.name,
            "options": one.intervention.options,
            "examples": one.examples,
            "seed": one.seed,
        }
        yield from (place | row for row in rows)


def readings(store: Store, probed: Probed) -> pl.DataFrame:
    """PROBES rows of what a file asks for, in its order; `at` is what it calls the step, `options` what it says."""
    import polars as pl

    found = pl.DataFrame(pl.from_arrow(store.probes.table()))
    asked_for = pl.DataFrame(
        {
            "probe_id": [one.probe_id for one in probed.probes],
            "at": [one.at for one in probed.probes],
            "asked": [one.asked for one in probed.probes],
        }
    )
    rows = asked_for.join(found, on="probe_id", how="inner", maintain_order="left_right")
    return rows.with_columns(options=pl.col("asked")).drop("asked")
