"""Asks snapshots of one task and shape about one intervention: rows of a table come back, a list for each snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workloads.probing.bench import Bench, Subject, Unfit, other_task
from workloads.probing.intervention import Intervention
from workloads.spec import RunSpec

Row = dict[str, Any]


def check(intervention: Intervention, spec: RunSpec) -> None:
    """See whether a run can take an intervention, before anything is computed.

    Raises:
        Unfit: saying what would have to be otherwise.
    """
    who = f"{intervention.name}: run {spec.run_id[:8]}"
    try:
        other_task(spec, intervention.task)
    except Unfit as error:
        raise Unfit(f"{who}: {error}") from None
    if wrong := intervention.unfit(spec, spec.model.build(spec.task.shapes())):
        raise Unfit(f"{who}: got a run that cannot take it; expected {wrong}")


def asked(intervention: Intervention, subjects: Sequence[Subject], *, examples: int, seed: int) -> list[list[Row]]:
    """Readings of each subject, in the order in which the intervention gives them.

    Args:
        intervention: what is done.
        subjects: snapshots whose runs have one shape and one task.
        examples: how many each is shown.
        seed: of the examples.

    Raises:
        UnfitWeights: a snapshot is another model's.
    """
    bench = Bench(subjects, examples=examples, seed=seed, task=intervention.task)
    found: list[list[Row]] = [[] for _ in subjects]
    for reading in intervention.readings(bench):
        place = {"layer": reading.layer, "head": reading.head, "item": reading.item, "metric": reading.metric}
        for rows, value in zip(found, reading.values.tolist(), strict=True):
            rows.append({**place, "value": value})
    return found
