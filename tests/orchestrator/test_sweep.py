from __future__ import annotations

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_files import BASE, python, sweep_text

from orchestrator.errors import BadRequest
from orchestrator.sweep import Sweep, load_sweep, sweep_from_text
from workloads.spec import resolve


def sweep(rest: str = "", *overrides: str) -> Sweep:
    return sweep_from_text(sweep_text(rest), file="temperature.yaml", overrides=overrides)


def values(found: Sweep, column: str) -> list[object]:
    return [run.columns()[column] for run in found.runs]


def ids(found: Sweep) -> set[str]:
    return {run.run_id for run in found.runs}


TWO_AXES = """
axes:
  optim.lr: [1.0e-4, 1.0e-3]
  model.attention.temperature: [0.5, 1, 2]
"""


# -- what a file means --------------------------------------------------------------------------


def test_axes_are_crossed_first_axis_slowest():
    found = sweep(TWO_AXES)
    assert values(found, "optim.lr") == [1e-4] * 3 + [1e-3] * 3
    assert values(found, "model.attention.temperature") == [0.5, 1.0, 2.0] * 2


def test_runs_come_replicate_major():
    found = sweep(TWO_AXES + "replicates: 2\n")
    assert values(found, "seed.init") == [0] * 6 + [1] * 6
    assert [run.config_id for run in found.runs[:6]] == [run.config_id for run in found.runs[6:]]


def test_integer_replicates_pair_their_seeds():
    found = sweep("replicates: 3")
    assert values(found, "seed.init") == values(found, "seed.data") == [0, 1, 2]


def test_mapped_replicates_cross_their_seeds():
    found = sweep("replicates: {init: 2, data: 3}")
    pairs = set(zip(values(found, "seed.init"), values(found, "seed.data"), strict=True))
    assert pairs == {(i, d) for i in range(2) for d in range(3)}
    assert found.n_replicates == 6


def test_seeds_start_where_the_base_says():
    found = sweep("replicates: 2", "base.seed.init=10", "base.seed.data=20")
    assert list(zip(values(found, "seed.init"), values(found, "seed.data"), strict=True)) == [(10, 20), (11, 21)]


def test_replicates_have_the_ids_of_freshly_resolved_runs():
    for run in sweep(TWO_AXES + "replicates: 2\n").runs:
        fresh = resolve(run.model_dump(mode="json"))
        assert (run.run_id, run.config_id, run.shape_key) == (fresh.run_id, fresh.config_id, fresh.shape_key)


def test_fields_joined_by_commas_move_together():
    found = sweep("axes:\n  optim.lr, optim.weight_decay: [[1.0e-3, 0], [3.0e-3, 0.1]]")
    assert list(zip(values(found, "optim.lr"), values(found, "optim.weight_decay"), strict=True)) == [
        (1e-3, 0.0),
        (3e-3, 0.1),
    ]
    assert found.zipped == (("optim.lr", "optim.weight_decay"),)
    assert found.axes == {"optim.lr": (1e-3, 3e-3), "optim.weight_decay": (0, 0.1)}


def test_mapping_values_replace_the_variant_whole():
    rest = "axes:\n  model.attention: [{name: normsoftmax, statistic: std}, {name: softmax}]"
    base = BASE.replace("{name: softmax}", "{name: heat, epoch_steps: 3}")
    found = sweep_from_text(sweep_text(rest, base=base))
    assert [run.model.attention.name for run in found.runs] == ["normsoftmax", "softmax"]


def test_new_variant_name_drops_what_only_the_old_one_knew():
    found = sweep(
        "axes:\n  model.attention.name: [normsoftmax, softmax]",
        "base.model.attention={name: normsoftmax, statistic: std, temperature: 2}",
    )
    assert [run.model.attention.model_dump() for run in found.runs] == [
        {"name": "normsoftmax", "version": 1, "statistic": "std", "temperature": 2.0},
        {"name": "softmax", "version": 1, "temperature": 2.0},
    ]


def test_new_variant_name_keeps_misspelt_keys_for_the_error():
    with pytest.raises(BadRequest, match="temprature: got an unknown key"):
        sweep("axes:\n  model.attention.name: [normsoftmax]", "base.model.attention.temprature=2")


def test_setting_on_an_axis_of_its_own_outlives_a_new_variant():
    rest = "axes:\n  {}\n  {}"
    lines = ["model.attention.name: [softmax, normsoftmax]", "model.attention.temperature: [1, 2]"]
    assert values(sweep(rest.format(*lines)), "model.attention.temperature") == [1, 2, 1, 2]


@pytest.mark.parametrize("turn", [1, -1])
def test_setting_that_a_chosen_variant_lacks_is_never_dropped(turn: int):
    lines = ["model.attention.name: [normsoftmax, softmax]", "model.attention.statistic: [var, std]"]
    with pytest.raises(BadRequest, match=r"model.attention.statistic: got an unknown key"):
        sweep("axes:\n  {}\n  {}".format(*lines[::turn]))


def test_log_range_keeps_its_ends_and_six_digits():
    found = sweep("axes:\n  optim.lr: {log_range: [1.0e-4, 3.0e-3], points: 4}")
    assert found.axes["optim.lr"] == (1e-4, 0.000310723, 0.000965489, 3e-3)


def test_range_on_an_integer_field_gives_integers():
    assert values(sweep("axes:\n  budget.steps: {range: [100, 300], points: 3}"), "budget.steps") == [100, 200, 300]


def test_stop_and_log_enter_every_run():
    found = sweep("stop: {after_event_steps: 7}\nlog: {measures_every_steps: 5}")
    assert found.runs[0].stop.after_event_steps == 7
    assert found.runs[0].log.measures_every_steps == 5


def test_horizon_is_the_largest_budget():
    assert sweep("axes:\n  budget.steps: [5, 70, 20]").horizon_steps == 70


def test_interpolations_see_the_overrides():
    found = sweep("axes:\n  optim.weight_decay: ['${base.optim.lr}']", "base.optim.lr=0.02")
    assert values(found, "optim.weight_decay") == [0.02]


def test_name_is_the_files_unless_given():
    assert sweep().name == "temperature"
    assert sweep("name: softer-2").name == "softer-2"


def test_resolved_yaml_gives_the_same_runs():
    found = sweep(TWO_AXES + "replicates: 2\nstop: {after_event_steps: 3}\n", "base.optim.weight_decay=0.1")
    again = sweep_from_text(found.yaml, file="elsewhere.yaml")
    assert again.name == found.name
    assert [run.run_id for run in again.runs] == [run.run_id for run in found.runs]
    assert again.yaml == found.yaml


def test_record_survives_json():

    record = sweep(TWO_AXES).record()
    assert json.loads(json.dumps(record)) == record
    assert set(record) >= {
        "name",
        "question",
        "axes",
        "base",
        "replicates",
        "runs",
        "horizon_steps",
        "yaml",
        "overrides",
    }


# -- overrides ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "column", "expected"),
    [
        ("base.optim.weight_decay=0.5", "optim.weight_decay", {0.5}),
        ("axes.optim.lr=[0.5, 0.6]", "optim.lr", {0.5, 0.6}),
        ("axes.optim.lr={range: [1, 2], points: 3}", "optim.lr", {1.0, 1.5, 2.0}),
        ("axes.budget.steps=[3, 4]", "budget.steps", {3, 4}),
        ("base.model.attention={name: heat, schedule: linear}", "model.attention.schedule", {"linear"}),
        ("stop.after_event_steps=9", "stop.after_event_steps", {9}),
    ],
)
def test_override_reaches_its_key(override: str, column: str, expected: set[object]):
    assert set(values(sweep("axes:\n  optim.lr: [1, 2]", override), column)) == expected


def test_override_reaches_into_an_axis_of_the_file():
    found = sweep("axes:\n  optim.lr: {range: [1, 2], points: 2}", "axes.optim.lr.points=5")
    assert len(found.runs) == 5


def test_override_that_an_axis_would_undo_is_refused():
    with pytest.raises(
        BadRequest, match=r"override 'base.optim.lr=1': optim.lr: is varied by the axis optim.lr; set axes"
    ):
        sweep("axes:\n  optim.lr: [1, 2]", "base.optim.lr=1")


# -- properties ---------------------------------------------------------------------------------


replicates = st.integers(1, 12)


@given(few=replicates, more=replicates)
def test_raising_paired_replicates_only_adds_runs(few: int, more: int):
    few, more = sorted((few, more))
    assert ids(sweep(f"replicates: {few}")) <= ids(sweep(f"replicates: {more}"))


@given(few=st.tuples(st.integers(1, 4), st.integers(1, 4)), add=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_raising_crossed_replicates_only_adds_runs(few: tuple[int, int], add: tuple[int, int]):
    def crossed(init: int, data: int) -> set[str]:
        return ids(sweep(f"replicates: {{init: {init}, data: {data}}}"))

    assert crossed(*few) <= crossed(few[0] + add[0], few[1] + add[1])


AXES = [
    "optim.lr: [1.0e-4, 1.0e-3]",
    "model.attention: [{name: softmax}, {name: normsoftmax}]",
    "model.attention.temperature: [1, 2]",
    "task.noise, budget.steps: [[0.1, 10], [0.2, 20]]",
]


@given(order=st.permutations(AXES))
def test_axis_order_never_changes_which_runs(order: list[str]):
    def of(lines: list[str]) -> set[str]:
        return ids(sweep("axes:\n" + "".join(f"  {line}\n" for line in lines)))

    assert of(order) == of(AXES)


@given(lo=st.floats(1e-8, 1e3), ratio=st.floats(1.01, 1e6), points=st.integers(2, 40))
def test_log_range_rises_between_its_ends(lo: float, ratio: float, points: int):
    from orchestrator.axes import log_range

    found = log_range(lo, lo * ratio, points=points)
    assert (found[0], found[-1]) == (lo, lo * ratio)
    assert all(a <= b * (1 + 1e-5) for a, b in itertools.pairwise(found))
    assert all(math.isclose(b / a, ratio ** (1 / (points - 1)), rel_tol=3e-5) for a, b in itertools.pairwise(found))


# -- cost ---------------------------------------------------------------------------------------


def test_a_hundred_thousand_runs_are_all_told_apart():
    found = sweep("axes:\n  optim.lr: {log_range: [1.0e-4, 1], points: 1000}\nreplicates: 100")
    assert len(ids(found)) == len(found.runs) == 100_000
    assert len({run.config_id for run in found.runs}) == 1000


def test_loading_needs_no_heavy_import():
    code = (
        "import orchestrator.cli, orchestrator.sweep, orchestrator.planner, orchestrator.show, sys; print(*sys.modules)"
    )
    loaded = set(python("-c", code).stdout.split())
    assert not loaded & {"torch", "ray", "polars", "pyarrow", "matplotlib", "scipy", "pandas"}


def test_bytes_of_a_file_equal_its_text(tmp_path):
    path = tmp_path / "with space.yaml"
    path.write_text("name: spaced\n" + BASE)
    assert ids(load_sweep(path)) == ids(sweep())
