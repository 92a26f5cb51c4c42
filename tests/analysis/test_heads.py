"""The figure of heads: which steps and heads stand where, and what it needs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from analysis.heads import WORDS, NotProbed, draw, main, table
from analysis.store import Store

SHARES = {0: (0.2, 0.1), 10: (0.3, 0.3), 90: (0.1, 0.9)}  # on the row, of heads 0 and 1


def readings(*, steps: tuple[int, ...] = (0, 10, 90), run: str = "r1", options: str = "{}") -> list[dict[str, object]]:
    return [
        {
            "probe_id": f"{run}{step}{options}", "run_id": run, "step": step, "intervention": "attention",
            "options": options, "examples": 8, "seed": 0, "layer": layer, "head": head, "item": "", "metric": kind,
            "value": SHARES[step][head] if kind == "on_row" else 0.25,
        }
        for step in steps for layer in (0, 1) for head in (0, 1) for kind in (*WORDS, "entropy")
    ]  # fmt: skip


def test_heads_keep_the_order_of_the_last_step():
    found = table(pl.DataFrame(readings() + readings(options='{"task":{}}')))
    on_row = found.filter((pl.col("kind") == "on_row") & (pl.col("layer") == 1))
    assert on_row.select("when", "step", "place", "head", "share").rows() == [
        ("first", 0, 0, 1, 0.1), ("first", 0, 1, 0, 0.2), ("last", 90, 0, 1, 0.9), ("last", 90, 1, 0, 0.1),
    ]  # fmt: skip
    assert set(found["kind"]) == set(WORDS)


def test_runs_stand_in_the_order_asked_for_and_others_are_left_out():
    rows = pl.DataFrame(readings(run="r1") + readings(run="r2") + readings(run="r3", steps=(0,)))
    assert table(rows, runs=["r2", "r1", "r3"])["run_id"].unique(maintain_order=True).to_list() == ["r2", "r1"]
    assert set(table(rows, runs=["r1"])["run_id"]) == {"r1"}


def test_runs_probed_at_one_step_have_no_figure():
    with pytest.raises(NotProbed, match=r"expected readings of .* at two steps"):
        table(pl.DataFrame(readings(steps=(0,))))


def test_the_figure_shows_every_share_and_both_steps(tmp_path: Path):
    figure = draw(table(pl.DataFrame(readings() + readings(run="r2"))))
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 2 * len(WORDS)
    assert [text.get_text() for text in panels[0].texts] == ["0.10", "0.90", "0.20", "0.10"] * 2
    assert [label.get_text() for label in panels[-1].get_xticklabels()] == ["0", "90"]
    store = Store.create(tmp_path / "store")
    store.probes.add("1", readings())
    store.save_sweep({"name": "sweep", "runs": ["r1"]})
    main(str(store.path), "sweep", str(tmp_path / "heads.svg"))
    assert (tmp_path / "heads.svg").stat().st_size > 1000
    assert len(pl.read_csv(tmp_path / "heads.csv")) == 2 * 2 * 2 * len(WORDS)
