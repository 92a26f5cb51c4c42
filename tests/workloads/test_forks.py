"""Forks: runs that begin with another's weights, and runs of which only some parts train."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_runs import alone, assert_same, finish, run, train

from workloads.cohort import Cohort
from workloads.errors import SpecError, UnfitWeights
from workloads.forks import matching
from workloads.rows import Layout
from workloads.spec import RunSpec

STEPS = 40
NAMES = ("embed.weight", "embed.bias", "blocks.0.attention.qkv", "blocks.0.attention.out.weight", "blocks.1.up.bias")
Kept = dict[tuple[str, int], dict[str, np.ndarray]]


def trained(members: list[RunSpec], *, width: int = 1, kept: Kept | None = None) -> Kept:
    """Snapshots of the members, trained with what was kept before at hand."""
    found: Kept = dict(kept or {})
    cohort = Cohort(
        members,
        width=width,
        weights=lambda run_id, step: found[run_id, step],
        keep=lambda run_id, step, arrays: found.update({(run_id, step): arrays}),
    )
    finish(cohort)
    return found


def source(**changes: Any) -> RunSpec:
    return run(0, {"budget.steps": STEPS, "log.snapshots": [0, 10, "end"], **changes})


def fork(*, step: int = 10, seed: int = 1, **changes: Any) -> RunSpec:
    start = {"run": source().run_id, "step": step, **changes.pop("start_from", {})}
    snapshots = {"budget.steps": STEPS, "log.snapshots": [0, "end"]}
    return run(seed, {**snapshots, "start_from": start, **changes})


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ("embed", {"embed.weight", "embed.bias"}),
        ("attention", {"blocks.0.attention.qkv", "blocks.0.attention.out.weight"}),
        ("blocks.1", {"blocks.1.up.bias"}),
        ("blocks.*.up embed.bias", {"blocks.1.up.bias", "embed.bias"}),
        ("*", set(NAMES)),
        ("block emb", set()),
    ],
)
def test_patterns_stand_for_whole_pieces_of_names(patterns: str, found: set[str]):
    assert matching(patterns, NAMES) == found


def test_snapshots_are_the_weights_after_so_many_updates():
    spec = source()
    kept = trained([spec])
    assert sorted(step for _, step in kept) == [0, 10, STEPS]
    layout = Layout(spec.model.build(spec.task.shapes()))
    row = layout.initial_row(spec.seed.init, std=spec.model.init_std, device=torch.device("cpu"))
    for name, values in layout.named(row).items():
        assert np.array_equal(kept[spec.run_id, 0][name], values), name
    longer = trained([source(**{"budget.steps": 2 * STEPS, "log.snapshots": [STEPS]})])
    [later] = longer.values()
    assert all(np.array_equal(later[name], kept[spec.run_id, STEPS][name]) for name in later)


def test_snapshots_do_not_depend_on_company_or_on_a_resume():
    spec = source(**{"log.snapshots": [0, 10, 25, "end"]})
    wanted = trained([spec])
    company = [run(seed, {"budget.steps": 7 * seed}) for seed in (3, 4, 5)]
    found = trained([*company, spec], width=2)
    killed = Cohort([spec], width=1)
    killed.advance(ticks=17)
    resumed: Kept = {}
    again = Cohort([spec], width=1, saved=killed.state().get, keep=lambda r, s, a: resumed.update({(r, s): a}))
    finish(again)
    assert sorted(step for _, step in resumed) == [25, STEPS]
    for (run_id, step), arrays in {**found, **resumed}.items():
        assert all(np.array_equal(arrays[name], wanted[run_id, step][name]) for name in arrays)


def test_a_fork_begins_with_the_others_weights_but_for_its_fresh_parts():
    spec = fork(start_from={"fresh": "embed"})
    kept = trained([spec], kept=trained([source()]))
    begun, given = kept[spec.run_id, 0], kept[source().run_id, 10]
    own = trained([run(1, {"budget.steps": 1, "log.snapshots": 0})])
    [drawn] = own.values()
    for name, values in begun.items():
        wanted = drawn if name.startswith("embed.") else given
        assert np.array_equal(values, wanted[name]), name
    assert any(not np.array_equal(drawn[name], given[name]) for name in drawn)


@pytest.mark.parametrize("optim", ["adamw", "adam", "sgd"])
def test_only_the_trainable_parts_move(optim: str):
    spec = run(
        0,
        {
            "trainable.only": "attention",
            "optim": {"name": optim, "lr": 1e-2, "weight_decay": 0.5, "clip_norm": 1.0},
            "budget.steps": STEPS,
            "log.snapshots": [0, "end"],
        },
    )
    kept = trained([spec])
    before, after = kept[spec.run_id, 0], kept[spec.run_id, STEPS]
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == matching("attention", before)


def test_gradient_norms_count_trainable_parts_alone():
    whole, part = run(0, {"budget.steps": 3}), run(0, {"budget.steps": 3, "trainable.only": "embed"})
    norms = [outcome.metrics["grad_norm"][0] for spec in (whole, part) for outcome in train([spec]).values()]
    assert 0.0 < norms[1] < norms[0]


def test_training_all_parts_by_name_is_training_whole():
    whole, named = run(0), run(0, {"trainable.only": "*"})
    [a], [b] = train([whole]).values(), train([named]).values()
    assert np.allclose(a.metrics["loss"], b.metrics["loss"], rtol=1e-4)
    assert whole.shape_key != named.shape_key  # rows are updated in one piece there, parameter by parameter here


@pytest.mark.parametrize("program", ["eager", "compiled"])
def test_forks_share_a_cohort_and_company_changes_nothing(program: str):
    parts = ("embed", "attention", "up down", "head")
    members = [
        run(seed, {"trainable.only": part, "compute.program": program, "budget.steps": 20 + 9 * seed})
        for seed, part in enumerate(parts)
    ]
    assert len({spec.shape_key for spec in members}) == 1
    assert_same(train(members, width=2), alone(members))


def test_forks_share_a_cohort_with_runs_that_start_afresh():
    assert fork().shape_key == run(0).shape_key
    assert len({fork().run_id, fork(step=0).run_id, run(1).run_id}) == 3


def test_ids_of_runs_that_are_no_forks_stay_as_they_are():
    columns = run(0).columns()
    assert not {"start_from", "trainable"} & set(columns)
    assert columns["log.snapshots"] == ""


@pytest.mark.parametrize("given", ["0 10 end", ["end", 10, 0], [10, "0", "end", 10]])
def test_snapshot_steps_have_one_spelling(given: object):
    assert source(**{"log.snapshots": given}).run_id == source().run_id


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"log.snapshots": [1.5]}, "log.snapshots"),
        ({"log.snapshots": "sometimes"}, "log.snapshots"),
        ({"log.snapshots": [-1]}, "log.snapshots"),
        ({"trainable.only": "embedding"}, "Did you mean 'embed'?"),
        ({"trainable.only": ""}, "trainable.only"),
        ({"trainable": {}}, "trainable.only"),
        ({"start_from": {"run": "abc", "step": 0}}, "start_from.run"),
        ({"start_from": {"run": "0" * 16, "step": -1}}, "start_from.step"),
        ({"start_from": {"run": "0" * 16, "step": 0, "fresh": "heads"}}, "Did you mean 'head'?"),
    ],
)
def test_bad_forks_are_refused_in_one_line(changes: dict[str, Any], said: str):
    with pytest.raises(SpecError, match="expected") as refused:
        run(0, changes)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_weights_of_another_model_are_refused():
    kept = {(source().run_id, 10): {"embed.weight": np.zeros((2, 2), np.float32)}}
    with pytest.raises(UnfitWeights, match=r"embed\.weight: got shape \(2, 2\)"):
        trained([fork()], kept=kept)


def test_a_fork_without_its_source_says_so():
    with pytest.raises(UnfitWeights, match=source().run_id[:8]):
        Cohort([fork()], width=1)
