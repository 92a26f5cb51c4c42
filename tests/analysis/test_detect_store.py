"""Events of a store: from its digests, for every way that its runs may have ended; and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from curves import tables
from demo import LEVELS, demo_store
from ledger import TYPES, row

from analysis import frames
from analysis.detect import EVENTS_SCHEMA, Detector, detect_events, detector_named, stored_events
from analysis.errors import NoSuchColumn, NoSuchDetector
from analysis.rows import curve
from analysis.store import Store
from analysis.study import open_study


@pytest.mark.parametrize("detector", ["contrast-1", "level-1", "contrast-accuracy-1"])
def test_events_from_stored_digests_are_those_of_the_curves(tmp_path, detector):
    store = demo_store(tmp_path, replicates=2)
    runs = frames.runs(store)
    expected = detect_events(frames.metrics(store), runs=runs, detector=detector)
    assert stored_events(store, detector=detector).equals(expected)
    some = runs["run_id"].to_list()[::3]
    assert stored_events(store, run_ids=some, detector=detector).equals(expected[::3])


def test_a_store_without_runs_has_no_events(tmp_path):
    found = stored_events(Store.create(tmp_path))
    assert dict(found.schema) == EVENTS_SCHEMA
    assert found.is_empty()


@pytest.mark.parametrize("outcomes", ["d", "f", "e", "c"])
def test_a_store_of_one_kind_of_run_has_events(tmp_path, outcomes):
    store = demo_store(tmp_path, {"optim.lr": [1e-3]}, replicates=1, outcomes=outcomes)
    kind = {"d": "diverged", "f": "failed", "e": "eureka", "c": "none"}[outcomes]
    assert stored_events(store)["kind"].to_list() == [kind]


def test_runs_that_all_diverged_at_once_are_rows(tmp_path):
    store = Store.create(tmp_path)
    rows = [row(run, steps=1, status="diverged") | LEVELS for run in "ab"]
    curves = [curve(run, {"loss": np.full(1, np.nan, np.float32)}, np.zeros(0, int), {}) for run in "ab"]
    store.commit(rows, curves, types=TYPES)
    assert stored_events(store)["status"].to_list() == ["diverged", "diverged"]


def test_bad_requests_of_a_store_are_one_line(tmp_path):
    store = demo_store(tmp_path, replicates=1, outcomes="ec")
    with pytest.raises(NoSuchColumn, match="metric: got 'entropy'; expected one of accuracy, loss") as refusal:
        stored_events(store, detector=detector_named("contrast-1").reading("entropy"))
    assert "\n" not in str(refusal.value)
    with pytest.raises(NoSuchDetector, match="got 'contrast'; expected one of contrast-1, level-1"):
        stored_events(store, detector="contrast")


def test_events_are_read_without_the_curves(tmp_path):
    store = demo_store(tmp_path, replicates=1, outcomes="ec")
    expected, study = stored_events(store), open_study(store, sweep="softness").events
    for path in store.metrics_paths():
        Path(path).unlink()
    assert stored_events(store).equals(expected)
    assert open_study(store, sweep="softness").events.equals(study)


def test_unknown_names_list_what_there_is():
    runs, metrics = tables([np.ones(50)])
    with pytest.raises(NoSuchDetector, match="contrast-1, level-1"):
        detector_named("contrast-2")
    with pytest.raises(NoSuchColumn, match=r"level\.loss_floor, level\.loss_plateau"):
        detect_events(metrics, runs=runs, detector=Detector(name="mine", floor="level.flor"))
