"""Figures: small tables that say what they should, and drawings that never stumble on a thin store."""

import re
from dataclasses import replace

import polars as pl
import pytest
from demo import demo_study
from matplotlib import colormaps
from matplotlib.colors import Normalize

from analysis import figures
from analysis.estimate import config_table, level_table
from analysis.figures import FIGURES, style
from analysis.figures.cells import Key
from analysis.figures.selection import evenly, thinned
from analysis.labels import config_text

TEMPERATURE = "model.attention.temperature"
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


@pytest.fixture(scope="module")
def pictures(study):
    """Every figure of the demo sweep, drawn once."""
    return {figure.NAME: drawn(figure, study) for figure in FIGURES}


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
def test_equal_tables_are_equal_bytes(figure, study, pictures):
    assert drawn(figure, study) == pictures[figure.NAME]


@ways
def test_svg_ids_are_the_figures_own_and_resolve(figure, pictures):
    text = pictures[figure.NAME]
    ids = set(re.findall(r'\bid="([^"]*)"', text))
    used = set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', text))
    assert all(name.startswith(f"{figure.NAME}-") for name in ids)
    assert {a or b for a, b in used} <= ids


@ways
def test_svg_holds_no_date_and_asks_for_nothing(figure, pictures):
    text = pictures[figure.NAME]
    assert "<metadata" not in text
    assert "DOCTYPE" not in text
    assert all(source.startswith("data:") for source in re.findall(r'<image[^>]*href="([^"]*)"', text))
    assert set(re.findall(r'"(https?://[^"]*)"', text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_event_curves_end_at_the_share_of_runs(study):
    table = figures.event_curves.table(study).filter(~pl.col("is_tick"))
    ends = table.group_by("facet", "series", maintain_order=True).last()
    for row in ends.iter_rows(named=True):
        mine = study.events.filter(
            (pl.col("model.attention.temperature") == row["facet"])
            & (pl.col("optim.lr") == row["series"])
            & (pl.col("status") != "failed")
        )
        assert row["chance"] == pytest.approx((mine["status"] == "eureka").mean())


def test_event_curves_count_every_run_at_risk_at_zero(study):
    ticks = figures.event_curves.table(study).filter("is_tick")
    assert ticks.filter(pl.col("step") == 0)["at_risk"].sum() == 89
    assert ticks["step"].unique().to_list() == [0, 375, 750, 1125, 1500]


def test_panels_run_over_the_axis_with_fewer_levels(study):
    assert figures.event_curves.facet_and_series(study) == ("model.attention.temperature", "optim.lr")


def test_map_cells_are_the_runs_of_the_sweep(study):
    table = figures.chance_map.table(study)
    assert table.select(pl.sum("k", "n", "waiting", "failed")).row(0) == (47, 89, 5, 2)
    assert (table["x"].n_unique(), table["y"].n_unique()) == (4, 3)


def test_cells_with_few_runs_are_hatched():
    few, many = (demo_study(LR, replicates=n, outcomes="e") for n in (4, 5))
    assert "hatch" in drawn(figures.chance_map, few).lower() or "<pattern" in drawn(figures.chance_map, few)
    assert "<pattern" not in drawn(figures.chance_map, many)


def test_timing_marks_every_run_once_with_its_way(study):
    table = figures.timing.table(study)
    assert table["run_id"].n_unique() == table.height == 89
    assert dict(table["way"].value_counts().iter_rows()) == {"eureka": 47, "censored": 37, "diverged": 4, "gradual": 1}
    assert table.filter(pl.col("way") == "censored")["step"].unique().to_list() == [1500]


def test_traces_are_the_bins_that_the_detector_read(study):
    table = figures.traces.table(study)
    joined = table.join(study.digest, left_on=["run_id", "step"], right_on=["run_id", "at_step"], how="left")
    assert joined.select((pl.col("value") == pl.col("value_right")).all()).item()
    assert table.group_by("place").agg(pl.col("run_id").n_unique())["run_id"].max() <= figures.traces.MOST_RUNS


def test_aligned_runs_fall_through_one_half_at_one(study):
    table = figures.aligned.table(study)
    middle = table.filter(pl.col("octave") == 0)
    assert middle.height == 3
    assert middle["middle"].is_between(0.35, 0.65).all()
    assert table.filter(pl.col("octave") < -0.6)["middle"].is_between(0.9, 1.15).all()
    assert (table["runs"] * 2 >= table["of"]).all()
    assert middle["of"].sum() == 47


def test_ramps_give_every_level_its_colour():
    for levels in ([1, 2], [1e-4, 1e-3, 1e-2, 1.0], ["a", "b", "c"], [None]):
        assert len({str(colour) for colour in style.ramp(levels)}) == len(levels)


def test_wait_map_never_counts_a_budget_as_a_wait(study):
    table = figures.wait_map.table(study)
    none = table.filter(pl.col("k") == 0)
    assert none.height == 1
    assert none["t50"].is_null().all()
    assert table["t50"].drop_nulls().max() < study.horizon_steps
    assert table["k"].sum() == 47


def test_outcomes_add_up_to_the_runs(study):
    table = figures.outcomes.table(study).filter(pl.col("config") == "all configs, pooled")
    ends = dict(table.filter(pl.col("way") != "at risk").group_by("way").agg(pl.col("chance").last()).iter_rows())
    assert ends["eureka"] == pytest.approx(47 / 89)
    assert ends["diverged"] == pytest.approx(4 / 89)
    assert ends["gradual"] == pytest.approx(1 / 89)
    assert table.filter((pl.col("way") == "at risk") & (pl.col("step") == 0))["at_risk"].item() == 89


def test_cost_marks_the_step_that_costs_least(study):
    table = figures.cost.table(study)
    best = table.filter("is_best")
    assert best.height
    for row in best.iter_rows(named=True):
        mine = table.filter((pl.col("place") == row["place"]) & ~pl.col("is_best"))["steps_per_eureka"].drop_nulls()
        assert row["steps_per_eureka"] <= mine.min() + 1e-9
        assert row["step_lo"] <= row["step"] <= row["step_hi"]


def test_cost_at_the_horizon_is_the_config_tables(study):
    table = figures.cost.table(study).filter(~pl.col("is_best") & (pl.col("step") >= study.horizon_steps - 1e-6))
    expected = config_table(study.events, axes=study.axes, at_step=study.horizon_steps)
    costs = {config_text(row, axes=study.axes): row["steps_per_eureka"] for row in expected.iter_rows(named=True)}
    for row in table.iter_rows(named=True):
        assert row["steps_per_eureka"] == (costs[row["config"]] and pytest.approx(costs[row["config"]]))


def test_compute_ends_at_the_level_tables_chance(study):
    table = figures.compute.table(study).filter(pl.col("step") >= study.horizon_steps - 1e-6)
    expected = level_table(study.events, axis="optim.lr", at_step=study.horizon_steps)
    assert table["chance"].to_list() == pytest.approx(expected["chance"].to_list())


def test_effects_name_their_family_and_adjust_within_it(study):
    table = figures.effects.table(study)
    risk = table.filter(pl.col("effect") == "risk difference")
    assert risk.height == 5  # two temperatures and three rates against the first of each
    assert (risk["p_adjusted"] >= risk["p"]).all()
    assert set(risk["adjustment"]) == {"Holm"}
    assert "(5)" in risk["family"][0]
    there = study.events.filter(pl.col("status") != "failed").partition_by("model.attention.temperature", as_dict=True)
    share = [(there[(level,)]["status"] == "eureka").mean() for level in (2.0, 0.5)]
    row = risk.filter(pl.col("contrast") == "2 against 0.5").row(0, named=True)
    assert row["estimate"] == pytest.approx(share[0] - share[1])


def test_abruptness_shows_each_eureka_below_the_cut(study):
    table = figures.abruptness.table(study)
    assert table.height == 47
    assert table["rise_ratio"].max() <= study.detector.most_rise


def test_final_levels_count_every_watched_run(study):
    assert figures.final_levels.table(study)["runs"].sum() == 89


def test_definitions_hold_the_primary_one(study):
    table = figures.definitions.table(study)
    assert table.height == 18
    first = table.filter("is_primary").row(0, named=True)
    assert first["chance"] == pytest.approx(47 / 89, abs=0.001)
    assert (first["flips"], first["of"]) == (0, 12)
    unknown = table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("chance", "chance_lo", "chance_hi"))
    assert figures.definitions.draw(unknown, study=study).axes  # as where budgets differ


def test_surface_is_between_its_points_and_has_a_line_of_one_half(study):
    table = figures.surface.table(study)
    assert set(table["kind"]) == {"grid", "line", "point"}
    assert table.filter(pl.col("kind") == "grid")["chance"].is_between(0, 1).all()
    assert table.filter(pl.col("kind") == "point")["n"].sum() == pytest.approx(89)


def test_no_surface_over_names():
    assert figures.surface.table(THIN["names"]()).is_empty()


def test_progress_shows_measures_beyond_the_usual(study):
    measured = study.metrics.with_columns(attention_on_target=1 - pl.col("loss"), attention_entropy=pl.col("loss"))
    table = figures.progress.table(replace(study, metrics=measured))
    assert set(table["measure"]) == {"attention_entropy", "attention_on_target"}
    ends = table.filter(pl.col("measure") == "attention_on_target").group_by("way").agg(pl.col("middle").last())
    found = dict(ends.iter_rows())
    assert found["eureka"] > 0.8
    assert found["censored"] < 0.2


def test_a_missing_metric_leaves_figures_out(study):
    bare = replace(study, metrics=study.metrics.select("run_id", "block", "step"))
    assert figures.definitions.table(bare).is_empty()
    assert figures.progress.table(bare).is_empty()


def test_many_configs_are_thinned_evenly_and_pooled():
    axes = {
        "optim.lr": [1e-4 * 1.1**i for i in range(20)],
        "model.attention.temperature": [0.1 * i for i in range(1, 11)],
    }
    many = demo_study(axes, replicates=1, steps=400, outcomes="ec")
    table = figures.timing.table(many)
    assert table["place"].n_unique() == figures.timing.MOST_CONFIGS + 1
    assert table.filter(pl.col("place") == figures.timing.MOST_CONFIGS)["n"][0] == 200 - figures.timing.MOST_CONFIGS
    assert figures.traces.table(many)["place"].n_unique() == figures.traces.MOST_CONFIGS
    for figure in (figures.chance_map, figures.wait_map, figures.timing, figures.outcomes, figures.traces):
        assert drawn(figure, many).startswith("<svg")


def test_even_choices_keep_both_ends():
    assert evenly(5, most=9) == [0, 1, 2, 3, 4]
    assert evenly(100, most=3) == [0, 50, 99]
    rows = pl.DataFrame({"of": ["a"] * 100 + ["b"] * 3, "i": range(103)})
    kept = thinned(rows, most=10, over="of")
    assert kept.group_by("of", maintain_order=True).len()["len"].to_list() == [10, 3]


def test_too_many_marks_become_one_picture_and_words_stay(monkeypatch, study):
    plain = drawn(figures.timing, study)
    monkeypatch.setattr(style, "MOST_LETTERS", 1000)
    text = drawn(figures.timing, study)
    assert "<image" in text
    assert "<image" not in plain
    assert "temperature 0.5, lr 0.0001" in text
    assert text == drawn(figures.timing, study)


def test_cells_pale_as_their_interval_widens():
    key = Key(shades=colormaps["cividis"], norm=Normalize(0, 1), label="", widths=("", ""), widths_label="")
    sure, unsure, unknown = key.face(0.0, 0.0), key.face(0.0, 1.0), key.face(None, 0.0)
    assert sure == pytest.approx(colormaps["cividis"](0.0)[:3])
    assert all(a < b < 1 for a, b in zip(sure, unsure, strict=True))
    assert unknown == (1.0, 1.0, 1.0)
    assert key.face(0.0, 7.0) == unsure  # no width is wider than the widest


@pytest.mark.parametrize("figure", [figures.chance_map, figures.wait_map], ids=lambda figure: figure.NAME)
def test_maps_explain_how_the_interval_pales_them(figure, study, pictures):
    assert "interval's" in pictures[figure.NAME]
    assert "paler" in figure.caption(figure.table(study), study=study)


def test_a_cell_of_more_runs_is_less_pale():
    few, many = (demo_study({}, replicates=n, outcomes="ec") for n in (4, 40))
    faces = []
    for each in (few, many):
        drawing = figures.chance_map.draw(figures.chance_map.table(each), study=each)
        faces.append(drawing.axes[0].patches[0].get_facecolor())
    assert sum(faces[0]) > sum(faces[1])


def test_wait_map_has_the_interval_of_each_median(study):
    table = figures.wait_map.table(study)
    known = table.drop_nulls("t50_lo")
    assert known.height
    assert (known["k"] >= 6).all()
    assert (known["t50_lo"] <= known["t50"]).all()
    assert (known["t50"] <= known["t50_hi"]).all()
    assert table.filter(pl.col("k") < 6)["t50_lo"].is_null().all()
    assert (table["q25"].drop_nulls() <= table["t50"].drop_nulls()).all()


def test_maps_of_many_cells_do_not_promise_words():
    many = demo_study({"optim.lr": [1e-4 * 1.1**i for i in range(20)]}, replicates=1, steps=400, outcomes="ec")
    text = figures.chance_map.caption(figures.chance_map.table(many), study=many)
    assert "too many cells for words" in text
    assert "2/" not in drawn(figures.chance_map, many)


def test_levels_with_names_keep_the_sweeps_order_on_a_map():
    named = demo_study({"model.attention.name": ["softmax", "heat", "linear"]}, replicates=2, outcomes="ec")
    text = drawn(figures.chance_map, named)
    assert text.index(">softmax<") < text.index(">heat<") < text.index(">linear<")


def test_laws_mark_some_runs_and_say_of_how_many():
    many = demo_study({"optim.lr": [1e-4, 1e-3, 1e-2]}, replicates=200, steps=400, outcomes="eec", lost=0, failed=0)
    table = figures.laws.table(many)
    marks = table.filter(pl.col("kind") == "run").group_by("way").len()
    assert marks["len"].max() == figures.laws.MOST_MARKS
    assert marks["len"].sum() < 600 == table["n"][0]
    assert f"{marks['len'].sum():,} of them are marked" in figures.laws.caption(table, study=many)


def test_final_levels_reach_from_floor_to_plateau():
    table = figures.final_levels.table(demo_study(LR, replicates=3, outcomes="e"))
    assert table["high"].max() < 0.5  # all runs ended at the floor
    assert table.select(pl.col("plateau", "floor").unique()).row(0) == (0.95, 0.01)
    bar = (table["high"] - table["low"]).to_numpy()
    assert bar == pytest.approx((0.95 - table["low"].min()) / figures.final_levels.BINS, rel=0.05)


def test_many_lines_have_their_intervals_at_the_horizon():
    many = demo_study({"optim.lr": [1e-4 * 2**i for i in range(9)]}, replicates=3, outcomes="ec")
    table = figures.event_curves.table(many)
    assert table["series"].n_unique() == figures.event_curves.MOST_LINES
    assert "right of the panel's horizon" in figures.event_curves.caption(table, study=many)
    drawing = figures.event_curves.draw(table, study=many)
    assert not [part for part in drawing.axes[0].collections if part.get_visible()]
    few = demo_study(LR, replicates=3, outcomes="ec")
    assert figures.event_curves.draw(figures.event_curves.table(few), study=few).axes[0].collections


def test_titles_break_between_settings_and_keep_their_end():
    title = "task window_sum, window 2, rule repeat"
    assert style.wrapped(title, width=2.1, lines=3) == "task window_sum, window 2\nrule repeat"
    assert style.wrapped(title, width=1.3, lines=3) == "task window_sum\nwindow 2\nrule repeat"
    assert style.wrapped(title, width=1.3, lines=2) == "task window_sum\n…rule repeat"
    assert all(len(line) <= 13 for line in style.wrapped("a" * 40, width=1, lines=9).split("\n"))


def test_panels_and_legends_fill_their_rows():
    assert [style.columns_for(n, most=3) for n in (1, 2, 3, 4, 5, 7)] == [1, 2, 3, 2, 3, 3]
    assert style.legend_columns(["0.1"] * 8, width=6) > style.legend_columns(["a long name of a level"] * 8, width=6)
    assert style.legend_columns(["x" * 200], width=1) == 1


def test_logarithmic_ticks_are_round_numbers_in_words():
    with style.look():
        drawing, (axes,) = style.separate(1)
        axes.set_yscale("log")
        axes.set_ylim(150, 2500)
        style.log_ticks(axes.yaxis, low=150, high=2500)
        drawing.draw_without_rendering()
        shown = [label.get_text() for label in axes.get_yticklabels() if 150 <= label.get_position()[1] <= 2500]
    assert shown == ["200", "500", "1k", "2k"]
