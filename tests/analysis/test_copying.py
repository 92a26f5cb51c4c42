"""The figure of copying: which readings become which curves, in whose steps, and what it needs."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from analysis.copying import CURVES, NotProbed, draw, main, table
from analysis.errors import AnalysisError
from analysis.store import Store

SUBSTITUTE = {"follows_shown": ("", 0.9), "follows_right": ("missing", 0.2)}
ALTER = {"follows_right": [("hidden", 0.3), ("turned", -0.8)], "share_at_missing": [("turned", 0.4)]}


def reading(intervention: str, given: dict[str, object], **found: object) -> dict:
    text = json.dumps(given, sort_keys=True, separators=(",", ":"))
    probe = f"{found['run_id']}{found['step']}{intervention}{text}"
    place = {"probe_id": probe, "intervention": intervention, "options": text, "examples": 8, "seed": 0}
    return {**place, "layer": None, "head": None, **found}


def readings(run: str = "r1", *, steps: tuple[int, ...] = (0, 100, 300)) -> list[dict]:
    rows = []
    for step in steps:
        at = {"run_id": run, "step": step}
        for options, part in (({"numbers": "1 2"}, 1.0), ({"numbers": "1 2", "blend": 0.5}, 0.5), ({"blend": 0.2}, 9)):
            for metric, (item, value) in SUBSTITUTE.items():
                rows.append(reading("substitute", options, **at, item=item, metric=metric, value=part * value))
        for metric, found in ALTER.items():
            rows += [reading("alter", {}, **at, item=item, metric=metric, value=value) for item, value in found]
        other = {"task": {"rank": 2}}
        rows.append(reading("alter", other, **at, item="hidden", metric="follows_right", value=9.0))
    return rows


def ledger(**events: int | None) -> pl.DataFrame:
    schema = {"run_id": pl.String, "online_event_step": pl.Int64}
    return pl.DataFrame({"run_id": list(events), "online_event_step": list(events.values())}, schema=schema)


def test_every_reading_becomes_its_curve_and_others_are_left_out():
    found = table(pl.DataFrame(readings()), runs=ledger(r1=200))
    assert found.filter(pl.col("step") == 100).select("panel", "curve", "of_event", "value").rows() == [
        ("a number instead", "that number", 0.5, 0.9), ("a number instead", "half a number", 0.5, 0.45),
        ("missing", "the right number", 0.5, 0.2), ("hidden", "the right number", 0.5, 0.3),
        ("turned", "the number shown", 0.5, 0.8), ("turned", "elsewhere", 0.5, 0.4),
    ]  # fmt: skip
    assert len(found) == 3 * len(CURVES)


def test_runs_stand_in_the_order_asked_for_and_those_without_an_event_are_left_out():
    rows = pl.DataFrame(readings("r1") + readings("r2") + readings("r3") + readings("r4"))
    found = table(rows, runs=ledger(r3=100, r1=50, r2=None))
    assert found["run_id"].unique(maintain_order=True).to_list() == ["r3", "r1"]


@pytest.mark.parametrize("runs", [ledger(r1=None), ledger(r9=100)])
def test_runs_that_were_not_probed_or_had_no_event_have_no_figure(runs: pl.DataFrame):
    with pytest.raises(NotProbed, match=r"expected readings of .*alter.*, of runs with an event"):
        table(pl.DataFrame(readings()), runs=runs)


def test_the_figure_has_a_panel_an_intervention_and_a_line_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    figure = draw(table(pl.DataFrame(readings() + readings("r2")), runs=ledger(r1=200, r2=100)))
    lines = [[line for line in axes.lines if len(line.get_xdata()) > 2] for axes in figure.axes]
    assert [len(each) for each in lines] == [4, 2, 2, 4]
    assert list(lines[0][0].get_xdata()) == [0.0, 0.5, 1.5]
    assert len(draw(table(pl.DataFrame(readings()).filter(pl.col("item") == "hidden"), runs=ledger(r1=9))).axes) == 2
    store = Store.create(tmp_path / "store")
    store.probes.add("1", readings())
    store.save_sweep({"name": "sweep", "runs": ["r1"]})
    with pytest.raises(AnalysisError, match="copying: got none"):
        main(str(store.path), "sweep", str(tmp_path / "copying.svg"))
    assert not (tmp_path / "copying.svg").exists()
