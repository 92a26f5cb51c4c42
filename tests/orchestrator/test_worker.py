"""What one worker does with a cohort: hands that are sent after it, saved states that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sweeps import small
from tables import as_bytes, values
from views import Interrupting

from analysis.store import Store
from orchestrator.inline import train_inline
from orchestrator.outlook import Outlook
from orchestrator.packing import cohort_of, pack
from orchestrator.pulse import Pulse
from orchestrator.queue import CohortQueue
from orchestrator.run import run_sweep
from orchestrator.sweep import Sweep
from orchestrator.worker import CohortWorker, pulse_or_error


def queue_in(folder: Path, sweep: Sweep, cohorts, **more) -> CohortQueue:
    settings = {"device": "cpu", "checkpoint_s": 100.0}
    return CohortQueue(store=Store.create(folder), sweep=sweep.name, cohorts=cohorts, settings=settings, **more)


def test_hands_are_trained_in_the_slots_that_fall_free(tmp_path: Path) -> None:
    sweep = small(tmp_path, "replicates=8")
    run_sweep(sweep, store_path=tmp_path / "calm", launcher="inline")
    queue = queue_in(
        tmp_path / "store", sweep, [cohort_of(sweep.runs[:4], width=2), cohort_of(sweep.runs[4:], width=2)]
    )
    cohort = queue.take()
    queue.begin(cohort)
    queue.hear(Pulse(cohort=cohort, running=2, waiting=0))
    worker = CohortWorker(store=queue.store, sweep=sweep.name, cohort=cohort)
    while not (pulse := pulse_or_error(worker)).over:
        queue.hear(pulse)
    assert pulse.error == ""
    assert pulse.hands >= 1
    assert pulse.finished == 4 + sum(map(len, queue.out[cohort].hands[: pulse.hands]))
    queue.hear(pulse)
    train_inline(queue, on_pulse=lambda pulse: None)
    for one, other in zip(values(tmp_path / "store"), values(tmp_path / "calm"), strict=True):
        assert as_bytes(one) == as_bytes(other)


def test_a_cohort_whose_members_were_all_given_away_is_over_at_once(tmp_path: Path) -> None:
    sweep = small(tmp_path)
    queue = queue_in(tmp_path / "store", sweep, pack(sweep.runs, outlook=Outlook(width=2), workers=3))
    pending = queue.take()
    assert queue._withdraw(sweep.runs[0].shape_key, most=6, of_others=6)
    pulse = pulse_or_error(CohortWorker(store=queue.store, sweep=sweep.name, cohort=pending))
    assert (pulse.over, pulse.error, pulse.finished) == (True, "", 0)
    queue.hear(pulse)
    assert queue.is_over


def interrupted(tmp_path: Path) -> tuple[Sweep, Path]:
    """A sweep of two runs that was interrupted, with their states saved."""
    sweep = small(tmp_path, "base.budget.steps=4000", "axes.optim.lr=[1e-3]", "replicates=2")
    store = tmp_path / "store"
    assert run_sweep(sweep, store_path=store, launcher="inline", view=Interrupting()).interrupted
    return sweep, store


def test_saved_states_of_another_layout_start_afresh_and_it_is_said(tmp_path: Path) -> None:
    sweep, store = interrupted(tmp_path)
    [path] = (store / "checkpoints").glob("*.npz")
    arrays = dict(np.load(path))
    first = sweep.runs[0].run_id
    arrays[f"{first}/layout"] = arrays[f"{first}/layout"] + 1
    np.savez(path, **arrays)
    rest = run_sweep(sweep, store_path=store, launcher="inline")
    assert (rest.trained, rest.afresh, rest.damaged) == (2, 1, 0)


def test_saved_states_of_other_types_start_afresh_and_fail_nobody(tmp_path: Path) -> None:
    sweep, store = interrupted(tmp_path)
    [path] = (store / "checkpoints").glob("*.npz")
    arrays = dict(np.load(path))
    first = sweep.runs[0].run_id
    for name in arrays:
        if name.startswith(first) and not name.endswith(("/step", "/layout", "/history")):
            arrays[name] = np.zeros((2, 2), dtype="U3")
    np.savez(path, **arrays)
    rest = run_sweep(sweep, store_path=store, launcher="inline")
    assert (rest.trained, rest.failed, rest.afresh) == (2, 0, 1)


def test_a_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    sweep, store = interrupted(tmp_path)
    [path] = (store / "checkpoints").glob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    rest = run_sweep(sweep, store_path=store, launcher="inline")
    assert (rest.trained, rest.damaged) == (2, 1)


def test_states_that_fit_are_not_called_unreadable(tmp_path: Path) -> None:
    sweep, store = interrupted(tmp_path)
    rest = run_sweep(sweep, store_path=store, launcher="inline")
    assert (rest.afresh, rest.damaged) == (0, 0)


@pytest.mark.parametrize("members", [1, 2])
def test_a_pulse_says_how_long_it_trained(tmp_path: Path, members: int) -> None:
    sweep = small(tmp_path)
    queue = queue_in(tmp_path / "store", sweep, [cohort_of(sweep.runs[:members], width=2)])
    pulse = pulse_or_error(CohortWorker(store=queue.store, sweep=sweep.name, cohort=queue.take()))
    assert 0.0 < pulse.seconds < 60.0
