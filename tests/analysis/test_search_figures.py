"""Figures of a search, from a table of trials and a ledger alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from demo import demo_study

from analysis.figures import OF_SEARCH, figures_for, search_front, search_history, search_line, search_seeds, style
from analysis.figures import search_importance as importance_figure
from analysis.figures import search_slices as slices
from analysis.figures.search_words import objective_words
from analysis.importance import importances
from analysis.interval import binomial_interval
from analysis.sequential import width_rule
from analysis.trials import search_of

LR, TEMPERATURE = "optim.lr", "model.attention.temperature"
BEGAN = datetime(2026, 11, 21, 12, tzinfo=UTC)


def trials(n=24, *, seed=0, **columns):
    """A search over a rate, a temperature and a word, told in rounds of six; the rate decides."""
    rng = np.random.default_rng(seed)
    lr = 10 ** rng.uniform(-4, -2, n)
    chance = np.exp(-((np.log10(lr) + 3) ** 2))
    frame = {
        "trial": np.arange(n), "state": ["complete"] * n, "config_id": [f"c{i}" for i in range(n)],
        "asked_at": [BEGAN + timedelta(minutes=2 * (i // 6)) for i in range(n)],
        "told_at": [BEGAN + timedelta(minutes=2 * (i // 6) + 2 + 0.1 * (i % 6)) for i in range(n)],
        "round": [1 + i // 6 for i in range(n)], "runs": [8] * n, "events": np.round(8 * chance).astype(int),
        f"param:{LR}": lr, f"param:{TEMPERATURE}": rng.uniform(0.5, 2, n),
        "param:model.attention.name": [("softmax", "heat")[i % 2] for i in range(n)],
        "value:p_eureka": chance, "low:p_eureka": chance - 0.1, "high:p_eureka": chance + 0.1,
        "value:run_steps": 900 - 600 * chance + rng.uniform(0, 50, n), "low:run_steps": [None] * n,
        "high:run_steps": [None] * n,
    }  # fmt: skip
    ends = dict.fromkeys(("low:run_steps", "high:run_steps"), pl.Float64)
    return pl.DataFrame(frame | columns, schema_overrides=ends)


def record(*, name="tpe", objectives=("p_eureka", "run_steps"), **options):
    goals = {"p_eureka": "maximize", "run_steps": "minimize"}
    return {
        "name": name, "options": options, "space": {LR: {"log_range": [1e-4, 1e-2]}, TEMPERATURE: {"range": [0.5, 2]}},
        "objectives": [{"label": one, "kind": one, "goal": goals[one], "by_step": None} for one in objectives],
    }  # fmt: skip


def searched(table=None, *, study=None, **changes):
    study = demo_study() if study is None else study
    return replace(study, search=search_of(trials() if table is None else table, {"search": record(**changes)}))


def picture(figure, study):
    with style.look():
        return style.svg(figure.draw(figure.table(study), study=study), name=figure.NAME)


@pytest.mark.parametrize("figure", OF_SEARCH, ids=lambda figure: figure.NAME)
def test_sweeps_that_are_no_search_have_none_of_these(figure):
    study = demo_study()
    assert figure.table(study).is_empty()
    assert figure.NOTHING in picture(figure, study)
    assert figure not in figures_for(study)
    assert figure in figures_for(searched())


@pytest.mark.parametrize("figure", OF_SEARCH, ids=lambda figure: figure.NAME)
@pytest.mark.parametrize("n", [1, 2, 24])
def test_young_searches_give_a_figure_or_a_sentence(figure, n):
    study = searched(trials(n))
    table = figure.table(study)
    text = picture(figure, study)
    assert text.startswith("<svg")
    assert table.height or figure.NOTHING in text
    assert not table.height or figure.caption(table, study=study)


def test_trials_that_are_not_told_are_not_drawn():
    states = ["complete"] * 20 + ["running"] * 2 + ["failed"] * 2
    values = np.where(np.arange(24) < 20, 0.5, np.nan)
    table = search_history.table(searched(trials(state=states, **{"value:p_eureka": values})))
    assert table.filter(pl.col("objective") == "p_eureka").height == 20


def test_the_best_so_far_follows_each_objectives_direction():
    table = search_history.table(searched())
    for label, best in (("p_eureka", np.maximum), ("run_steps", np.minimum)):
        rows = table.filter(pl.col("objective") == label)
        assert rows["best"].to_list() == best.accumulate(rows["value"].to_numpy()).tolist()
        assert rows["told_runs"].to_list() == [8 * (i + 1) for i in range(24)]
        assert rows["told"].min() == 2.0


def test_the_front_is_what_no_other_trial_beats():
    table = search_front.table(searched())
    rows = table.select("x", "y").to_numpy()
    for (x, y), is_front in zip(rows, table["is_front"], strict=True):
        beaten = any((a <= x and b >= y and (a < x or b > y)) for a, b in rows)
        assert is_front != beaten
    assert 1 <= table["is_front"].sum() < table.height
    assert search_front.table(searched(objectives=("p_eureka",))).is_empty()


def test_slices_keep_words_and_numbers_apart():
    table = slices.table(searched())
    assert table["field"].unique().sort().to_list() == sorted([LR, TEMPERATURE, "model.attention.name"])
    words = table.filter(pl.col("field") == "model.attention.name")
    assert words["number"].is_null().all()
    assert set(words["word"]) == {"softmax", "heat"}


def test_settings_that_are_not_always_there_are_drawn_where_they_are():
    some = [None if i % 3 else 1.0 + i for i in range(24)]
    table = slices.table(searched(trials(**{"param:optim.beta1": some})))
    assert table.filter(pl.col("field") == "optim.beta1").height == 8


def test_the_setting_that_decides_is_the_most_important():
    table = importance_figure.table(searched())
    for label in ("p_eureka", "run_steps"):
        rows = table.filter(pl.col("objective") == label)
        assert rows["setting"][0] == LR
        assert rows["low"][0] > 0.1
        others = rows.slice(1)
        assert (others["low"] < 0.05).all()
        assert ((rows["low"] <= rows["importance"]) & (rows["importance"] <= rows["high"])).all()


def test_importances_do_not_depend_on_the_order_of_settings():
    rng = np.random.default_rng(0)
    x = pl.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60)})
    values = 3 * x["a"].to_numpy() + x["b"].to_numpy()
    found = importances(x, values)
    swapped = importances(x.select("b", "a"), values)
    assert found["setting"].to_list() == swapped["setting"].to_list() == ["a", "b"]
    assert found["importance"].to_list() == pytest.approx(swapped["importance"].to_list(), rel=0.35)
    assert found.equals(importances(x, values))


def test_too_few_or_equal_trials_have_no_importances():
    x = pl.DataFrame({"a": np.arange(11.0), "b": np.arange(11.0)})
    assert importances(x, np.arange(11.0)).is_empty()
    x = pl.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0)})
    assert importances(x, np.ones(20)).is_empty()


def on_a_plane(n=80, *, axes=2):
    """A study of single runs on a plane, with an event where the sum of both settings is above 0."""
    study, rng = demo_study(replicates=8, lost=0, failed=0), np.random.default_rng(1)
    n = min(n, study.events.height)
    x, y, z = 10 ** rng.uniform(-4, -2, n), rng.uniform(0.5, 2, n), rng.uniform(0, 1, n)
    had = np.log10(x) + 3 + (y - 1.25) + rng.normal(0, 0.2, n) > 0
    own = {LR: x, TEMPERATURE: y, "optim.weight_decay": z}
    events = study.events.head(n).with_columns(
        *(pl.Series(name, values) for name, values in own.items()),
        status=pl.Series(np.where(had, "eureka", "censored")), kind=pl.Series(np.where(had, "eureka", "none")),
        eureka_step=pl.Series(np.where(had, 300.0, np.nan)).fill_nan(None),
        censored_step=pl.Series(np.where(had, np.nan, 1500.0)).fill_nan(None), end_step=pl.lit(1500.0),
    )  # fmt: skip
    params = {f"param:{name}": values for name, values in list(own.items())[:axes]}
    asked = trials(n).drop(f"param:{LR}", f"param:{TEMPERATURE}", "param:model.attention.name").with_columns(
        *(pl.Series(name, values) for name, values in params.items())
    )  # fmt: skip
    online = pl.DataFrame({"run_id": events["run_id"], "online_event_step": np.where(had, 300, -1)})
    runs = study.runs.drop("online_event_step").join(
        online.with_columns(pl.col("online_event_step").replace(-1, None)), on="run_id"
    )
    study = replace(study, events=events, runs=runs, axes=tuple(own)[:axes])
    return searched(asked, study=study, name="boundary", objectives=("p_eureka",), chance=0.5)


def test_the_line_runs_where_chances_are_even():
    table = search_line.table(on_a_plane())
    grid = table.filter(pl.col("kind") == "grid")
    even = grid.filter((pl.col("chance") - 0.5).abs() < 0.05)
    off = even["x"].log10() + 3 + (even["y"] - 1.25)
    assert off.abs().mean() < 0.15
    assert ((grid["chance_lo"] <= grid["chance"]) & (grid["chance"] <= grid["chance_hi"])).all()
    assert table.filter(pl.col("kind") == "run").height == 80


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_lines_over_one_to_three_settings_are_drawn(axes):
    study = on_a_plane(axes=axes)
    text = picture(search_line, study)
    assert text.startswith("<svg")
    assert "No line" not in text
    panels = search_line.table(study)["panel"].drop_nulls().n_unique()
    assert panels == (3 if axes == 3 else 1)


def test_seeds_are_counted_by_config_with_the_searchs_own_intervals():
    study = demo_study(lost=0, failed=0)
    runs = study.runs.with_columns(online_event_step=pl.col("online_event_step").cast(pl.Float64))
    asked = trials(12).select(pl.exclude("^param:.*$")).with_columns(
        pl.Series(f"param:{LR}", np.tile([1e-4, 3e-4, 1e-3, 3e-3], 3)),
        pl.Series(f"param:{TEMPERATURE}", np.repeat([0.5, 1.0, 2.0], 4)),
    )  # fmt: skip
    study = replace(searched(asked, name="replicates", objectives=("p_eureka",), width=0.4), runs=runs)
    study = replace(study, search=search_of(asked, {"search": record(name="replicates", width=0.4)}))
    table = search_seeds.table(study)
    assert table.height == 12
    assert table["n"].sum() == study.runs.filter(pl.col("status") != "failed").height
    level = width_rule(0.4).look_level
    row = table.row(0, named=True)
    assert (row["low"], row["high"]) == pytest.approx(binomial_interval(row["k"], n=row["n"], level=level))
    assert picture(search_seeds, study).startswith("<svg")


def test_objectives_have_words_with_their_step():
    assert objective_words("p_eureka") == "P(eureka)"
    assert objective_words("p_eureka_800") == "P(eureka), by step 800"
    assert objective_words("rmst_budget") == "restricted mean [steps], whole run"
