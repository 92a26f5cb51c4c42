"""What the report of a search says of its configs: each for itself, and nothing as if they were a sample."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from demo import simulate

from analysis.report import finding, write_study
from analysis.report.findings import WIDEST
from analysis.study import study_of

LR, TEMPERATURE = "optim.lr", "model.attention.temperature"
BEGAN = datetime(2026, 11, 21, 12, tzinfo=UTC)


def searched(*, name="tpe", objectives=("p_eureka",), **options):
    """The simulated runs as those of a search over ranges: twelve trials in four rounds, none an axis."""
    runs, metrics, record = simulate(failed=0)
    asked = runs.group_by("config_id").agg(
        pl.col(LR, TEMPERATURE).first(), runs=pl.len().cast(pl.Int64), k=(pl.col("reason") == "event").sum()
    ).sort(TEMPERATURE, LR)  # fmt: skip
    number = pl.int_range(asked.height, dtype=pl.Int64)
    told = {
        "p_eureka": (pl.col("k") + 0.5) / (pl.col("runs") + 1), "run_steps": 1500.0 - 100 * pl.col("k").cast(pl.Float64)
    }  # fmt: skip
    trials = asked.select(
        trial=number, state=pl.lit("complete"), config_id="config_id", asked_at=pl.lit(BEGAN),
        told_at=pl.lit(BEGAN) + number * timedelta(minutes=1), round=1 + number // 3, runs="runs", events="k",
        **{f"param:{LR}": pl.col(LR), f"param:{TEMPERATURE}": pl.col(TEMPERATURE)},
        **{f"value:{one}": told[one] for one in objectives}, **{f"low:{one}": told[one] - 0.1 for one in objectives},
        **{f"high:{one}": told[one] + 0.1 for one in objectives},
    )  # fmt: skip
    goals = {"p_eureka": "maximize", "run_steps": "minimize"}
    search = {
        "name": name, "options": options, "space": {LR: {"log_range": [1e-4, 1e-2]}, TEMPERATURE: {"range": [0.5, 2]}},
        "objectives": [{"label": one, "kind": one, "goal": goals[one], "by_step": None} for one in objectives],
    }  # fmt: skip
    record = {**record, "axes": {}, "search": search}
    return study_of(runs, metrics=metrics.lazy(), record=record, trials=trials), asked


def test_every_config_of_a_search_has_its_row(tmp_path):
    study, asked = searched()
    assert (study.axes, study.settings) == ((), (LR, TEMPERATURE))
    write_study(study, out_dir=tmp_path)
    table = pl.read_csv(tmp_path / "tables" / "configs.csv")
    both = asked.join(table, on=[LR, TEMPERATURE])
    assert both.height == table.height == 12
    assert both["n"].to_list() == both["runs"].to_list()
    page, summary = (tmp_path / "index.html").read_text(), (tmp_path / "summary.md").read_text()
    assert f'<th class="setting" title="{LR}">' in page
    assert f"| {LR} | {TEMPERATURE} |" in summary


def test_the_best_trial_is_named_with_its_settings_and_as_one_of_many():
    study, asked = searched()
    lines = finding(study)
    best = asked.with_columns(p=(pl.col("k") + 0.5) / (pl.col("runs") + 1)).sort(
        "p", descending=True, maintain_order=True
    )
    row = best.row(0, named=True)
    assert lines[0].startswith("96 runs planned in 12 configs: ")
    assert lines[1].startswith(f"Best P(eureka): {row['p']:.2f} [")
    assert lines[1].endswith(f"n={row['runs']}, the best of 12 and so partly luck")
    assert lines[2] == f"At: lr {row[LR]:g}, temperature {row[TEMPERATURE]:g}"


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"objectives": ("p_eureka", "run_steps")}, "of 12 trials"),
        ({"name": "boundary", "chance": 0.25}, "the line on which P(eureka) is 0.25"),
        ({}, "partly luck"),
    ],
    ids=["two objectives", "boundary", "one objective"],
)
def test_what_a_search_found_is_five_lines_and_no_average_of_the_space(search, said):
    study, _ = searched(**search)
    lines = finding(study)
    assert len(lines) == 5
    assert all(0 < len(line) <= WIDEST for line in lines)
    assert said in lines[1]
    assert lines[3].endswith("no average of the space")
    assert lines[4] == f"Spent: {study.runs['steps'].sum():,} run-steps on 12 trials, asked in 4 rounds"


def test_a_front_is_told_by_its_ends():
    study, asked = searched(objectives=("p_eureka", "run_steps"))
    dearest = asked.with_columns(p=(pl.col("k") + 0.5) / (pl.col("runs") + 1)).sort("p").row(-1, named=True)
    assert finding(study)[2].startswith("From ")
    assert f"{dearest['p']:.2f} at" in finding(study)[2]


def test_configs_that_seeds_were_added_to_are_ranked_like_those_of_a_grid():
    study, _ = searched(name="replicates")
    lines = finding(study)
    assert lines[2].startswith("Highest: 0.88 [0.53, 0.98] n=8")
    assert " at lr " in lines[2]
    assert lines[4].startswith("Most along ")
