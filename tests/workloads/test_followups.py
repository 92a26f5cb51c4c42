"""The engine's promises for the follow-up workloads: bits depend on the spec alone, ids stay, events come.

Every task and model variant of theirs is trained alone, in company and after a refill. What a sweep of theirs must show
is shown here on a run or two, as small as it can be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import alone, assert_same, assert_same_in_company, follow, run, runs, staggered, train

from workloads.cohort import Cohort
from workloads.rows import Layout
from workloads.spec import RunSpec, resolve

LINEAR = {"name": "transformer", "width": 16, "layers": 1, "heads": 2, "causal": True, "attention": {"name": "linear"}}
GROKKER = {"name": "transformer", "width": 16, "layers": 1, "heads": 2, "norm": "none", "activation": "relu"}
ADAM = {"name": "adam", "lr": 1e-3}
MARKED = {"name": "relevant_token", "tokens": 9, "dim": 5, "place": "random"}
RECALL = {"name": "associative_recall", "n_pairs": 3, "n_words": 8}
WORKLOADS: dict[str, dict[str, Any]] = {
    "linear_by_lanes": {"task": {"name": "window_sum", "n": 5, "modulus": 7}, "model": LINEAR, "optim": ADAM},
    "linear_by_products": {"task": {"name": "window_sum", "n": 9, "modulus": 7}, "model": LINEAR, "optim": ADAM},
    "one_linear_head": {"task": {"name": "rewrite", "n": 8}, "model": {**LINEAR, "heads": 1}, "optim": ADAM},
    "histogram": {"task": {"name": "histogram", "n": 7}, "model": LINEAR, "optim": ADAM},
    "permutation": {"task": {"name": "permutation", "n": 5}, "model": LINEAR, "optim": ADAM},
    "scaled_init": {"task": {"name": "window_sum", "n": 5, "modulus": 7},
                    "model": {**LINEAR, "layers": 2, "init": "scaled"}, "optim": ADAM},
    "attention_alone": {"task": RECALL, "model": {**LINEAR, "attention": {"name": "softmax"}, "has_mlp": False},
                        "optim": ADAM},
    "recall": {"task": RECALL, "model": {"name": "transformer", "width": 16, "heads": 1, "causal": True},
               "optim": ADAM},
    "clamped": {"task": {"name": "exemplars", "n_classes": 9, "features": 7},
                "model": {"name": "transformer", "width": 16, "heads": 2, "causal": True, "has_mlp": False,
                          "clamp": "previous_token"}, "optim": ADAM},
    "many_clamped": {"task": {"name": "associative_recall", "n_pairs": 7, "n_words": 20},
                     "model": {"name": "transformer", "width": 16, "heads": 1, "causal": True,
                               "clamp": "previous_token"}, "optim": ADAM},
    "single_query": {"task": {"name": "relevant_token", "tokens": 13, "dim": 7, "repeats": 2},
                     "model": {"name": "single_query"}, "optim": {"name": "sgd", "lr": 0.5}},
    "marked_token": {"task": MARKED, "model": GROKKER, "optim": ADAM},
    "mlp": {"task": {"name": "parity", "n_bits": 13, "k": 2}, "model": {"name": "mlp", "width": 24},
            "optim": {"name": "sgd", "lr": 0.1, "weight_decay": 0.01}},
    "deep_mlp": {"task": {"name": "parity", "n_bits": 11, "loss": "logistic"},
                 "model": {"name": "mlp", "width": 9, "layers": 3, "activation": "gelu"}, "optim": ADAM},
    "mlp_on_tokens": {"task": {**MARKED, "place": "last"}, "model": {"name": "mlp", "width": 12}, "optim": ADAM,
                      "log": {"measures_every_steps": 0}},
    "addition": {"task": {"name": "modular_addition", "modulus": 7}, "model": GROKKER, "optim": {"lr": 1e-3},
                 "budget": {"steps": 24, "batch": 49}},
    "addition_with_keys": {"task": {"name": "modular_addition", "modulus": 10, "key_frequencies": "1 4"},
                           "model": GROKKER, "optim": {"lr": 1e-3}},
    "addition_by_parts": {"task": {"name": "modular_addition", "modulus": 11}, "model": GROKKER, "optim": {"lr": 1e-3}},
}  # fmt: skip
SHARED = {"budget": {"steps": 24, "batch": 12}, "log": {"measures_every_steps": 7}}


def members(name: str, n: int = 3, changes: Mapping[str, Any] | None = None) -> list[RunSpec]:
    return staggered(runs(n, changes, base={**SHARED, **WORKLOADS[name]}))


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workloads_runs_are_bitwise_the_same_alone_and_in_company(name):
    for outcome in assert_same_in_company(members(name)).values():
        for values in (*outcome.metrics.values(), *outcome.measures.values()):
            assert np.isfinite(values).all()


def favoured(n: int, *values: tuple[float, int]) -> list[RunSpec]:
    data = {**SHARED, **WORKLOADS["linear_by_lanes"], "task": {"name": "window_sum", "n": n, "modulus": 7}}
    found = []
    for favour, step in values:
        attention = {"name": "linear", "favour": favour, "favour_from_step": step}
        found.append(resolve({**data, "model": {**LINEAR, "attention": attention}}))
    return found


@pytest.mark.parametrize("n", [5, 9])  # by lanes, by products
def test_members_of_one_cohort_differ_in_favour_from_their_own_steps_on(n):
    specs = favoured(n, (1.0, 0), (10.0, 0), (10.0, 11), (0.2, 11))
    assert len({spec.shape_key for spec in specs}) == 1
    found = train(specs)
    assert_same(found, alone(specs))
    plain, at_once, late, less = (found[spec.run_id].metrics["loss"] for spec in specs)
    assert plain[0] != at_once[0]
    for other in (late, less):
        np.testing.assert_array_equal(plain[:11], other[:11])
        assert plain[11] != other[11]


@pytest.mark.parametrize(
    "name", ["linear_by_products", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mlp", "single_query"))]
)
def test_a_workload_survives_being_compiled(name, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("EUREKA_CACHE", str(tmp_path_factory.getbasetemp() / "code"))
    given = members(name, 2, {"compute.program": "compiled"})
    found = train(given)
    assert_same(found, alone(given))
    for spec, eager in zip(given, members(name, 2), strict=True):
        [other] = train([eager]).values()
        np.testing.assert_allclose(found[spec.run_id].metrics["loss"][:8], other.metrics["loss"][:8], rtol=1e-4)


# If these fail, ids of stored runs have drifted; see test_spec.py.
GOLDEN = [
    ({"task": {"name": "window_sum"}, "model": {"name": "transformer", "causal": True}}, "6fa07fb148879a84"),
]


@pytest.mark.parametrize(("part", "run_id"), GOLDEN)
def test_ids_are_the_frozen_ones(part, run_id):
    assert resolve({**part, "optim": {"lr": 1e-3}, "budget": {"steps": 100}}).run_id == run_id


# -- what each must show ---------------------------------------------------------------------------


def test_window_sum_waits_repeats_itself_and_drops():
    """Section 4.1 in small: repetition and cosine rise before the drop, attention moves to the sources with it."""
    task = {"name": "window_sum", "n": 5, "modulus": 7}
    model = {**LINEAR, "width": 32, "heads": 1, "qkv_bias": True}
    budget = {"steps": 500, "batch": 48}
    plain, favoured_ten = (
        resolve({"task": task, "model": {**model, "attention": {"name": "linear", "favour": favour}},
                 "optim": {"name": "adam", "lr": 3e-3}, "budget": budget, "stop": {"after_event_steps": 60},
                 "log": {"measures_every_steps": 5}})
        for favour in (1.0, 10.0)
    )  # fmt: skip
    found = train([plain, favoured_ten])
    outcome, sooner = found[plain.run_id], found[favoured_ten.run_id]
    assert outcome.event_step is not None
    assert sooner.event_step is not None
    assert sooner.event_step < outcome.event_step
    before = outcome.measured_steps < outcome.event_step
    assert outcome.measures["repetition"][before].max() > 0.5
    assert outcome.measures["state_cosine"][before].max() > 0.9
    assert outcome.measures["state_cosine"][-1] < 0.5
    assert outcome.measures["attention_progress"][-1] > 2 * outcome.measures["attention_progress"][0]
    assert outcome.metrics["accuracy"][-10:].mean() > 0.9


def test_parity_stays_at_chance_and_then_is_solved():
    spec = resolve({"task": {"name": "parity", "n_bits": 15, "k": 3}, "model": {"name": "mlp", "width": 64},
                    "optim": {"name": "sgd", "lr": 0.1, "weight_decay": 0.01}, "budget": {"steps": 3000, "batch": 32},
                    "stop": {"after_event_steps": 200}, "log": {"measures_every_steps": 50}})  # fmt: skip
    [outcome] = train([spec]).values()
    assert outcome.event_step is not None
    assert outcome.event_step > 100
    assert outcome.metrics["accuracy"][:50].mean() == pytest.approx(0.5, abs=0.06)
    assert outcome.metrics["accuracy"][-50:].mean() > 0.95
    shares = outcome.measures["weight_on_hidden"]
    assert shares[0] == pytest.approx(3 / 15, abs=0.05)
    assert shares[-1] > 2 * shares[0]


def plateau_steps(tokens: int, dim: int, repeats: int) -> int:
    """When half the squared error, 0.5 at first, has fallen to 0.1."""
    [outcome] = train([resolve({
        "task": {"name": "relevant_token", "tokens": tokens, "dim": dim, "repeats": repeats},
        "model": {"name": "single_query"}, "optim": {"name": "sgd", "lr": 1.0},
        "budget": {"steps": 4000, "batch": 64},
        "stop": {"level": 0.2, "half_life_steps": 2.0, "after_event_steps": 25},
    })]).values()  # fmt: skip
    assert outcome.event_step is not None
    return outcome.event_step


def test_the_toy_plateau_is_a_power_law_in_tokens_dim_and_repeats():
    """Section 4.7a; the whole grid of 100 settings is the sweep relevant_token_law."""
    settings = [(t, d, b) for t in (12, 24, 48) for d in (4, 8, 16) for b in (1, 2)]
    steps = np.array([plateau_steps(*each) for each in settings])
    design = np.column_stack([np.ones(len(settings)), np.log(settings)])
    exponents, *_ = np.linalg.lstsq(design, np.log(steps), rcond=None)
    rest = np.log(steps) - design @ exponents
    assert 1 - (rest**2).sum() / ((np.log(steps) - np.log(steps).mean()) ** 2).sum() > 0.98
    assert exponents[1:] == pytest.approx([0.9, 0.5, -0.45], abs=0.15)


def test_attention_finds_the_relevant_token_of_the_toy():
    [spec] = members("single_query", 1, {"optim.lr": 1.0, "budget.steps": 400})
    [outcome] = train([spec]).values()
    on_relevant = outcome.measures["attention_on_relevant"]
    assert on_relevant[0] == pytest.approx(2 / 13)
    assert on_relevant[-1] > 0.8


def test_key_frequencies_change_what_is_measured_and_no_bit_of_the_run():
    base = {**SHARED, **WORKLOADS["addition_by_parts"], "model": {**GROKKER, "init_std": 0.3}}
    plain, keyed = (run(0, changes, base=base) for changes in ({}, {"task.key_frequencies": "2 5"}))
    assert plain.run_id != keyed.run_id
    found = train([plain]) | train([keyed])
    a, b = found[plain.run_id], found[keyed.run_id]
    np.testing.assert_array_equal(a.metrics["loss"], b.metrics["loss"])
    np.testing.assert_array_equal(a.measures["key_frequency_share"], b.measures["key_frequency_share"])
    assert not np.array_equal(a.measures["restricted_loss"], b.measures["restricted_loss"])


def test_moved_is_the_distance_of_all_weights_from_their_first_values():
    spec = members("mlp", 1, {"budget.steps": 15, "log.measures_every_steps": 14})[0]
    outcomes, late = follow(Cohort([spec], width=1), step=14)
    layout = Layout(spec.model.build(spec.task.shapes()))
    first = layout.initial_row(spec.seed.init, std=spec.model.init_std, device=torch.device("cpu"))
    row = torch.from_numpy(late[spec.run_id]["row"])
    moved = outcomes[spec.run_id].measures["moved"]
    assert moved[0] == 0.0
    assert moved[1] == pytest.approx(((row - first).norm() / first.norm()).item(), rel=1e-5)
    assert moved[1] > 0.0


@pytest.mark.parametrize(("layers", "has_mlp"), [(1, True), (3, True), (2, False)])
def test_scaled_init_shrinks_what_writes_to_the_residual_stream_alone(layers, has_mlp):
    def weights(init: str) -> dict[str, torch.Tensor]:
        model = {**LINEAR, "layers": layers, "has_mlp": has_mlp, "init": init}
        spec = run(3, base={**SHARED, **WORKLOADS["linear_by_lanes"], "model": model})
        layout = Layout(spec.model.build(spec.task.shapes()))
        row = layout.initial_row(3, std=0.02, device=torch.device("cpu"))
        return {place.name: place.view(row[None]) for place in layout.places}

    same, scaled = weights("same"), weights("scaled")
    for name, values in same.items():
        shrinks = name.endswith(("out.weight", "down.weight"))
        torch.testing.assert_close(scaled[name], values / math.sqrt(2 * layers) if shrinks else values)
    assert sum(name.endswith(("out.weight", "down.weight")) for name in same) == layers * (1 + has_mlp)


def test_linear_attention_is_scores_below_the_diagonal():
    from workloads.layers import SelfAttention

    layer = SelfAttention(4, 1, statistic="linear", qkv_bias=False, causal=True, sources=((), (0,), (1, 2)))
    scores = torch.tensor([[1.0, 9.0, 9.0], [-2.0, 3.0, 9.0], [4.0, -5.0, 6.0]]).view(1, 1, 1, 3, 3)
    found = layer._weights(scores, torch.tensor(0.5).view(1, 1, 1, 1, 1), keys_axis=4)
    assert found.view(3, 3).tolist() == [[0.5, 0.0, 0.0], [-1.0, 1.5, 0.0], [2.0, -2.5, 3.0]]


def test_a_clamped_head_looks_at_the_position_before():
    [spec] = members("clamped", 1, {"log.measures_every_steps": 5})
    [outcome] = train([spec]).values()
    assert (outcome.measures["attention_back"] == 1.0).all()
    [free] = train(members("clamped", 1, {"model.clamp": "none"})).values()
    assert (free.measures["attention_back"] < 1.0).all()
