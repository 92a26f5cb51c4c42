"""Figures: small tables that say what they should, and drawings that never stumble on a thin store."""

import re

import polars as pl
import pytest
from demo import demo_study

from analysis.figures import FIGURES, aligned, chance_map, event_curves, style, timing, traces

LR = {"optim.lr": [1e-4, 1e-3]}
THIN = {
    "one run": lambda: demo_study({}, replicates=1, outcomes="e"),
    "one axis": lambda: demo_study(LR, replicates=3, outcomes="ec"),
    "three axes": lambda: demo_study(
        {**LR, "optim.weight_decay": [0.0, 0.1], "model.attention.temperature": [1.0, 2.0]},
        replicates=1,
        outcomes="ecd",
    ),
    "names": lambda: demo_study({"model.attention.name": ["softmax", "heat"]}, replicates=2, outcomes="ecd"),
    "no event": lambda: demo_study(LR, replicates=2, outcomes="c"),
    "all diverged": lambda: demo_study(LR, replicates=2, outcomes="d"),
    "all failed": lambda: demo_study(LR, replicates=2, outcomes="f"),
    "one config failed": lambda: demo_study(LR, replicates=1, outcomes="ef"),
    "no run": lambda: demo_study(LR, replicates=2, lost=4, failed=0),
}
ways = pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.NAME)


@pytest.fixture(scope="module")
def study():
    return demo_study()


def drawn(figure, study) -> str:
    with style.look():
        return style.svg(figure.draw(figure.table(study), study=study), name=figure.NAME)


@ways
@pytest.mark.parametrize("thin", THIN)
def test_thin_stores_give_a_figure_or_a_sentence(figure, thin):
    study = THIN[thin]()
    table = figure.table(study)
    text = drawn(figure, study)
    assert text.startswith("<svg")
    assert table.height or figure.NOTHING in text
    assert not table.height or figure.caption(table, study=study)


@ways
def test_equal_tables_are_equal_bytes(figure, study):
    assert drawn(figure, study) == drawn(figure, study)


@ways
def test_svg_ids_are_the_figures_own_and_resolve(figure, study):
    text = drawn(figure, study)
    ids = set(re.findall(r'\bid="([^"]*)"', text))
    used = set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', text))
    assert all(name.startswith(f"{figure.NAME}-") for name in ids)
    assert {a or b for a, b in used} <= ids


@ways
def test_svg_holds_no_date_and_asks_for_nothing(figure, study):
    text = drawn(figure, study)
    assert "<metadata" not in text
    assert "DOCTYPE" not in text
    assert all(source.startswith("data:") for source in re.findall(r'<image[^>]*href="([^"]*)"', text))
    assert set(re.findall(r'"(https?://[^"]*)"', text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_event_curves_end_at_the_share_of_runs(study):
    table = event_curves.table(study).filter(~pl.col("is_tick"))
    ends = table.group_by("facet", "series", maintain_order=True).last()
    for row in ends.iter_rows(named=True):
        mine = study.events.filter(
            (pl.col("model.attention.temperature") == row["facet"])
            & (pl.col("optim.lr") == row["series"])
            & (pl.col("status") != "failed")
        )
        assert row["chance"] == pytest.approx((mine["status"] == "eureka").mean())


def test_event_curves_count_every_run_at_risk_at_zero(study):
    ticks = event_curves.table(study).filter("is_tick")
    assert ticks.filter(pl.col("step") == 0)["at_risk"].sum() == 89
    assert ticks["step"].unique().to_list() == [0, 375, 750, 1125, 1500]


def test_panels_run_over_the_axis_with_fewer_levels(study):
    assert event_curves.facet_and_series(study) == ("model.attention.temperature", "optim.lr")


def test_map_cells_are_the_runs_of_the_sweep(study):
    table = chance_map.table(study)
    assert table.select(pl.sum("k", "n", "waiting", "failed")).row(0) == (47, 89, 5, 2)
    assert (table["x"].n_unique(), table["y"].n_unique()) == (4, 3)


def test_cells_with_few_runs_are_hatched():
    few, many = (demo_study(LR, replicates=n, outcomes="e") for n in (4, 5))
    assert "hatch" in drawn(chance_map, few).lower() or "<pattern" in drawn(chance_map, few)
    assert "<pattern" not in drawn(chance_map, many)


def test_timing_marks_every_run_once_with_its_way(study):
    table = timing.table(study)
    assert table["run_id"].n_unique() == table.height == 89
    assert dict(table["way"].value_counts().iter_rows()) == {"eureka": 47, "censored": 37, "diverged": 4, "gradual": 1}
    assert table.filter(pl.col("way") == "censored")["step"].unique().to_list() == [1500]


def test_traces_are_logged_values_and_not_averages(study):
    table = traces.table(study)
    joined = table.join(study.metrics.collect(), on=["run_id", "step"], how="left")
    same = pl.col("value").eq_missing(pl.col("loss"))
    assert joined.select(same.all()).item()
    assert table.group_by("run_id").len()["len"].max() <= traces.MOST_POINTS


def test_aligned_runs_fall_through_one_half_at_one(study):
    table = aligned.table(study)
    middle = table.filter(pl.col("octave") == 0)
    assert middle.height == 3
    assert middle["middle"].is_between(0.35, 0.65).all()
    assert table.filter(pl.col("octave") < -0.6)["middle"].is_between(0.9, 1.15).all()
    assert (table["runs"] * 2 >= table["of"]).all()
    assert middle["of"].sum() == 47


def test_ramps_give_every_level_its_colour():
    for levels in ([1, 2], [1e-4, 1e-3, 1e-2, 1.0], ["a", "b", "c"], [None]):
        assert len({str(colour) for colour in style.ramp(levels)}) == len(levels)
