"""A space draws points that it holds, knows its shapes, and says where a sweep file is wrong about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import search_text, small_search, space_of

from orchestrator.errors import BadRequest
from orchestrator.search.proposal import Proposal
from orchestrator.search.space import Setting, Space

NESTED = search_text("""\
  name: random
  space:
    model.attention.temperature: {range: [1, 4], step: 0.5, when: {model.width: [4, 8]}}
    model.width: [2, 4, 8]
    optim: [{name: adamw, lr: 1.0e-3}, {name: sgd, lr: 1.0e-1}]
    budget.steps: {range: [50, 60]}
  objective: final_loss
  configs: 4""")


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_every_point_drawn_is_held_and_makes_a_run(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    space = _nested(tmp_path_factory)
    params = space.draw(np.random.default_rng(seed))
    assert space.holds(params)
    config = space.config(params)
    assert config.model.width == params["model.width"]
    assert ("model.attention.temperature" in params) == (params["model.width"] != 2)


def _nested(factory: pytest.TempPathFactory, *, kept: list[Space] = []) -> Space:  # noqa: B006 - read once
    if not kept:
        search = small_search(factory.mktemp("nested"), text=NESTED).search
        assert search is not None
        kept.append(search.space)
    return kept[0]


def test_settings_that_change_the_shape_stand_first(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    assert [one.field for one in space.settings if one.is_outer] == ["model.width"]
    assert space.settings[0].field == "model.width"
    params = {"model.width": 2, "optim.lr": 1e-3, "model.attention.temperature": 1.0}
    assert space.outer(params) == {"model.width": 2}


def test_a_setting_comes_behind_those_it_depends_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    fields = [one.field for one in _nested(tmp_path_factory).settings]
    assert fields.index("model.width") < fields.index("model.attention.temperature")


def test_a_finite_space_lists_each_of_its_points_once(tmp_path: Path) -> None:
    space = small_search(
        tmp_path,
        text=search_text("""\
  name: brute_force
  space:
    model.width: [2, 4]
    model.attention.temperature: {range: [1, 2], step: 0.5, when: {model.width: 4}}
  objective: final_loss"""),
    ).search.space  # type: ignore[union-attr]
    points = list(space.points())
    assert len(points) == space.size == 4
    assert {"model.width": 2} in points
    assert all(space.holds(point) for point in points)


def test_points_make_a_range_the_values_of_an_axis(tmp_path: Path) -> None:
    space = space_of(tmp_path, "search.space.optim.lr={log_range: [1e-4, 1e-2], points: 3}")
    assert space["optim.lr"].choices == (1e-4, 1e-3, 1e-2)


def test_whole_numbers_over_a_field_of_numbers_are_numbers(tmp_path: Path) -> None:
    space = space_of(tmp_path, "search.space.model.attention.temperature={range: [1, 4]}")
    assert space["model.attention.temperature"].kind == "float"
    assert space_of(tmp_path, "search.space.budget.steps={range: [50, 60]}")["budget.steps"].kind == "int"


def test_replicates_have_the_seeds_of_a_grid_sweep(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    point = {"model.width": 2, "optim.lr": 1e-3, "model.attention.temperature": 1.0}
    runs = space.runs(Proposal(trial=0, params=point, replicates=range(2, 4)))
    assert [(run.seed.init, run.seed.data) for run in runs] == [(2, 2), (3, 3)]
    assert len({run.config_id for run in runs}) == 1
    crossed = space_of(tmp_path, "replicates={init: 2, data: 2}")
    four = crossed.runs(Proposal(trial=0, params=point, replicates=range(4)))
    assert [(run.seed.init, run.seed.data) for run in four] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_mappings_among_choices_stand_for_whole_branches(tmp_path_factory: pytest.TempPathFactory) -> None:
    setting = _nested(tmp_path_factory)["optim"]
    for choice in setting.choices:
        assert setting.value(setting.label(choice)) == choice
    assert isinstance(setting.label(setting.choices[0]), str)


def test_a_truth_value_is_not_the_number_one() -> None:
    assert not Setting(field="x", kind="choice", choices=(1, 2)).holds(True)
    assert not Setting(field="x", kind="float", low=0.0, high=2.0).holds(True)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{}", r":12: search.space: got an empty mapping; expected a mapping of fields"),
        ("{optim.lr: {log_range: [0, 1]}}", r":12: .*log_range: got '\[0, 1\]'; expected \[lo, hi\], two positive"),
        ("{optim.lr: {range: [2, 1]}}", r"two numbers, the smaller first"),
        ("{optim.lr: {ranges: [1, 2]}}", r"got 'ranges'; expected one of .*Did you mean 'range'\?"),
        ("{optim.lr: 3}", r"got 3; expected a list of values, \{range"),
        ("{optim.lr: []}", r"got an empty list; expected a list of values"),
        ("{optim.lr: [1, 1]}", r"got 1 twice; expected each value once"),
        ("{optim.lr: {range: [0, 1], step: 2}}", r"step: got 2; expected a number up to 1"),
        ("{optim.lr: {log_range: [1, 2], step: 1}}", r"no step in a log_range; points has them"),
        ("{optim.lr: {values: [1], points: 3}}", r"points belongs to a range, not to a list"),
        ("{optim.lr: {range: [0, 1], points: 1}}", r"points: got 1; expected an integer from 2"),
        ("{optim.lrr: [1]}", r":12: optim.lrr: got an unknown key; .*Did you mean 'lr'\?"),
        ("{optim.lr: {range: [-1, 1]}}", r":12: optim.lr: got -1"),
        ("{model.width: {range: [2.5, 4.5]}}", r"model.width: got 2.5; expected an integer"),
        ("{seed.init: [1, 2]}", r"seeds belong to replicates"),
        ("{'optim.lr, model.width': [1]}", r"expected one field such as optim.lr"),
        ("{optim.lr: {range: [1, 2], when: {model.widht: 2}}, model.width: [2]}", r"Did you mean 'model.width'\?"),
        (
            "{optim.lr: {range: [1, 2], when: {model.width: 3}}, model.width: [2]}",
            r"expected values that model.width has",
        ),
        ("{optim.lr: {range: [1, 2], when: 3}}", r"when: got 3; expected a mapping such as"),
        (
            "{optim.lr: {values: [1], when: {model.width: 2}}, model.width: {values: [2], when: {optim.lr: 1}}}",
            r"each waits for another",
        ),
    ],
)
def test_a_faulty_space_is_named_in_one_line(space: str, message: str, tmp_path: Path) -> None:
    text = search_text(f"  name: random\n  space: {space}\n  objective: final_loss\n  configs: 4")
    with pytest.raises(BadRequest, match=message) as caught:
        small_search(tmp_path, text=text)
    assert "\n" not in str(caught.value)
    assert "small.yaml:" in str(caught.value)


def test_an_override_that_the_space_would_undo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"base.optim.lr=1e-3.*is varied by the search; set search.space.optim.lr"):
        small_search(tmp_path, "base.optim.lr=1e-3")


def test_overrides_reach_a_dotted_field_of_the_space(tmp_path: Path) -> None:
    space = space_of(tmp_path, "search.space.optim.lr.log_range=[1e-4, 1e-2]", "replicates=3")
    assert (space["optim.lr"].low, space["optim.lr"].high, space.n_replicates) == (1e-4, 1e-2, 3)
    wider = space_of(tmp_path, "search.space.optim.weight_decay=[0, 0.1]")
    assert wider["optim.weight_decay"].choices == (0, 0.1)
