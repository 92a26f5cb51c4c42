"""Every fall of a run, times of several levels, and how long a run could have shown one."""

import numpy as np
import polars as pl
import pytest
from curves import TASK, detected_short, fall, short_run, tables

from analysis.detect import DETECTORS, DROPS_SCHEMA, drops_of, with_measured_rise
from analysis.digest import digest
from analysis.levels import level_times


def test_every_fall_has_a_row_in_the_order_of_time():
    rng = np.random.default_rng(0)
    t = np.arange(1.0, 20_001)
    one, two = (0.5 * fall(t, at=at, ratio=1.2) for at in (1500, 6000))
    runs, metrics = tables([one + two + rng.normal(0, 0.01, t.size), rng.normal(1, 0.01, t.size)])
    found = drops_of(digest(metrics, runs=runs), runs=runs, detector=DETECTORS["contrast-1"])
    large = found.filter(pl.col("relative_gap") > 0.3)
    assert dict(found.schema) == DROPS_SCHEMA
    assert large["eureka_step"].to_list() == pytest.approx([1500, 6000], rel=0.02)
    assert large["verdict"].to_list() == ["eureka", "eureka"]  # the first takes half, the second all of what was left
    assert large["plateau_ratio"][1] == pytest.approx(6000 / 1500 / 1.2, rel=0.1)
    assert found.group_by("run_id", maintain_order=True).agg(pl.col("nth").diff().drop_nulls().eq(1).all())["nth"].all()


def test_level_times_come_later_for_a_deeper_level():
    rng = np.random.default_rng(0)
    runs, metrics = tables([short_run(rng, at=700, width=200), short_run(rng, at=None)], **TASK)
    found = level_times(digest(metrics, runs=runs), runs=runs, by=DETECTORS["contrast-1"])
    first = found.filter(run_id=runs["run_id"][0])
    assert first["share"].to_list() == [0.3, 0.5, 0.7]
    assert first["solved_step"].is_sorted()
    assert first["solved_step"][1] == pytest.approx(700, rel=0.02)
    assert found.filter(run_id=runs["run_id"][1])["solved_step"].null_count() == 3


def test_a_slower_task_is_detectable_for_a_shorter_time():
    detector = DETECTORS["contrast-1"]
    found = detected_short(12, at=700, width=100).with_columns(task=pl.Series(["a"] * 8 + ["b"] * 4))
    moved = with_measured_rise(found, detector=detector, by=["task"])
    rise = found.filter(task="a")["rise_ratio"].median()
    expected = found["detectable_step"][0] * (detector.usual_rise / rise) ** 0.5
    assert moved["detectable_step"][0] == pytest.approx(expected)
    assert moved["detectable_step"][-1] == found["detectable_step"][-1]  # four eurekas are too few to measure on
    slow = detected_short(12, at=700, width=220)
    assert slow["rise_ratio"].median() > detector.usual_rise
    assert (with_measured_rise(slow, detector=detector)["detectable_step"] < slow["detectable_step"]).all()
