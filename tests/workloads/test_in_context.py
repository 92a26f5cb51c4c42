"""What models learn from the example itself, and from both sides of a gap: the engine's promises and what must be seen.

Bits of the tasks `markov_chain`, `in_context_regression`, `in_context_classification` and `masked_language`, of
relative positions, and a run or two of each as small as they can be.
"""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from small_runs import alone, assert_same, assert_same_in_company, runs, staggered, train

from analysis.detect import detect_events
from analysis.rows import runs_rows
from orchestrator.worker import ledger_row, outcome_curve
from workloads.cohort import Outcome
from workloads.errors import SpecError
from workloads.fields import column_types
from workloads.layers import SelfAttention
from workloads.rows import Layout
from workloads.seen import Seen
from workloads.spec import RunSpec, resolve

TASKS = ("markov_chain", "in_context_regression", "in_context_classification", "masked_language")
ADAM = {"name": "adam", "lr": 1e-3}
RELATIVE = {"name": "transformer", "width": 16, "layers": 2, "heads": 1, "causal": True, "has_mlp": False,
            "positions": "relative", "init_std": 0.05}  # fmt: skip
CAUSAL = {"name": "transformer", "width": 16, "layers": 2, "heads": 2, "causal": True}
CHAIN = {"name": "markov_chain", "symbols": 3, "length": 17}
LABELS = {"name": "in_context_classification", "pairs": 4, "classes": 12, "labels": 3, "features": 7, "burstiness": 2}
MASKED = {"name": "masked_language", "words": 40, "length": 18}
WORKLOADS: dict[str, dict[str, Any]] = {
    "chain": {"task": CHAIN, "model": RELATIVE, "optim": {"lr": 1e-3, "beta2": 0.95, "clip_norm": 1.0}},
    "short_chain": {"task": {**CHAIN, "length": 9}, "model": {**RELATIVE, "heads": 2}, "optim": ADAM},
    "balanced_chain": {"task": {**CHAIN, "prior": "doubly_stochastic"}, "optim": ADAM,
                       "model": {**RELATIVE, "attention": {"name": "normsoftmax", "statistic": "std"}}},
    "heated_chain": {"task": CHAIN, "optim": ADAM,
                     "model": {**RELATIVE, "heads": 4, "attention": {"name": "heat", "statistic": "var"}}},
    "linear_chain": {"task": CHAIN, "model": {**RELATIVE, "attention": {"name": "linear"}}, "optim": ADAM},
    "regression": {"task": {"name": "in_context_regression", "dim": 3, "points": 5}, "model": CAUSAL, "optim": ADAM},
    "long_regression": {"task": {"name": "in_context_regression", "dim": 5, "points": 11}, "model": CAUSAL,
                        "optim": ADAM},
    "curriculum": {"task": {"name": "in_context_regression", "dim": 4, "points": 6, "curriculum_steps": 7,
                            "first_dim": 2, "first_points": 2}, "model": CAUSAL, "optim": ADAM},
    "classification": {"task": LABELS, "model": CAUSAL, "optim": {"name": "sgd", "lr": 0.1}},
    "mixed_classification": {"task": {**LABELS, "pairs": 6, "p_bursty": 0.7, "p_novel": 0.3, "zipf": 1.0},
                             "model": {**CAUSAL, "has_mlp": False}, "optim": ADAM},
    "masked": {"task": MASKED, "model": {**CAUSAL, "causal": False}, "optim": ADAM},
    "short_masked": {"task": {**MASKED, "length": 8}, "optim": ADAM,
                     "model": {**CAUSAL, "causal": False, "attention": {"name": "normsoftmax"}}},
}  # fmt: skip
SHARED = {"budget": {"steps": 24, "batch": 12}, "log": {"measures_every_steps": 7}}


def members(name: str, n: int = 3, changes: Mapping[str, Any] | None = None) -> list[RunSpec]:
    return staggered(runs(n, changes, base={**SHARED, **WORKLOADS[name]}))


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workloads_runs_are_bitwise_the_same_alone_and_in_company(name):
    for outcome in assert_same_in_company(members(name)).values():
        for values in (*outcome.metrics.values(), *outcome.measures.values()):
            assert np.isfinite(values).all()


def test_members_of_one_cohort_differ_in_what_data_they_see():
    shares = [{"p_bursty": 1.0, "p_novel": 0.0}, {"p_bursty": 0.4, "p_novel": 0.3}, {"zipf": 1.5, "noise": 0.7}]
    given = [resolve({**SHARED, **WORKLOADS["classification"], "task": {**LABELS, **each}}) for each in shares]
    assert len({spec.shape_key for spec in given}) == 1
    found = train(given)
    assert_same(found, alone(given))
    losses = {tuple(found[spec.run_id].metrics["loss"][:3]) for spec in given}
    assert len(losses) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chain", "regression", "curriculum", "classification", "masked"])
def test_a_workload_survives_being_compiled(name, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("EUREKA_CACHE", str(tmp_path_factory.getbasetemp() / "code"))
    given = members(name, 2, {"compute.program": "compiled"})
    found = train(given)
    assert_same(found, alone(given))
    for spec, eager in zip(given, members(name, 2), strict=True):
        [other] = train([eager]).values()
        np.testing.assert_allclose(found[spec.run_id].metrics["loss"][:8], other.metrics["loss"][:8], rtol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_examples_in_docstrings_are_true(task):
    assert doctest.testmod(importlib.import_module(f"workloads.tasks.{task}")).failed == 0


# -- relative positions ----------------------------------------------------------------------------


@pytest.mark.parametrize(("heads", "positions"), [(1, 5), (2, 5), (2, 20)])
def test_a_score_is_the_query_with_its_key_and_the_vector_of_their_distance(heads, positions):
    k, b, width = 3, 4, 8
    rng = torch.Generator().manual_seed(0)
    layer = SelfAttention(width, heads, statistic="none", qkv_bias=False, causal=True, distances=positions)
    layout = Layout(layer)
    rows = torch.randn(k, layout.width, generator=rng)
    layout.bind(rows, trained=False)
    x, c, seen = torch.randn(k, positions, b, width, generator=rng), torch.tensor([0.3, 0.5, 1.0]), Seen()
    layer(x, c, seen=seen)
    q, key, _ = torch.einsum("ktbi,kij->ktbj", x, layer.qkv).unflatten(3, (3, heads, -1)).unbind(3)  # (K, T, B, H, d)
    back = layer.back.unflatten(2, (heads, -1)).flip(1)  # the vector of distance 0 first
    for i in range(positions):
        keys = key[:, : i + 1] + back[:, : i + 1].flip(1)[:, :, None]
        scores = torch.einsum("kbhd,kjbhd->kbhj", q[:, i], keys) * c.view(k, 1, 1, 1)
        torch.testing.assert_close(seen.attention[0][..., i, : i + 1], scores.softmax(-1), rtol=1e-4, atol=1e-5)
        assert (seen.attention[0][..., i, i + 1 :] == 0).all()


def test_relative_positions_need_a_causal_model():
    with pytest.raises(SpecError, match="causal"):
        resolve({**SHARED, **WORKLOADS["chain"], "model": {**RELATIVE, "causal": False}})


def test_relative_positions_change_no_parameter_of_other_models():
    plain = Layout(resolve({**SHARED, **WORKLOADS["regression"]}).model.build(
        resolve({**SHARED, **WORKLOADS["regression"]}).task.shapes()))  # fmt: skip
    assert not any("back" in place.name for place in plain.places)
    spec = resolve({**SHARED, **WORKLOADS["chain"]})
    relative = Layout(spec.model.build(spec.task.shapes()))
    assert sum(place.name.endswith("attention.back") for place in relative.places) == 2
    assert not any(place.name.startswith("positions") for place in relative.places)


# -- what each must show ---------------------------------------------------------------------------


def smoothed(values: np.ndarray, over: int = 25) -> np.ndarray:
    return np.convolve(values, np.ones(over) / over, mode="valid")


def test_a_chains_reader_visits_uniform_unigram_and_bigram_in_order():
    """Section 4.3 in small: KL begins at the first level, waits at the second, and falls near the third.

    The detector of `kl` sees the fall, from a plateau at the unigram level; the levels are those that the ledger keeps.
    """
    spec = resolve({"task": {"name": "markov_chain", "length": 60}, "model": {**RELATIVE, "init_std": 0.02},
                    "optim": {"lr": 1e-3, "beta2": 0.95, "weight_decay": 0.1, "clip_norm": 1.0},
                    "budget": {"steps": 700, "batch": 64}, "log": {"measures_every_steps": 50},
                    "seed": {"init": 1, "data": 1}})  # fmt: skip
    [outcome] = train([spec]).values()
    levels, kl = spec.task.kl_levels(), smoothed(outcome.metrics["kl"])
    assert spec.task.levels().others == {
        "kl_chance": levels["uniform"], "kl_plateau": levels["unigram"], "kl_floor": levels["bigram"]
    }  # fmt: skip
    assert outcome.metrics["kl"][:4].mean() == pytest.approx(levels["uniform"], abs=0.03)
    assert outcome.metrics["loss"][0] == pytest.approx(spec.task.levels().loss_chance, abs=0.01)
    near_unigram = np.abs(kl - levels["unigram"]) < 0.25 * (levels["uniform"] - levels["unigram"])
    assert near_unigram[60:250].all()
    assert kl[-50:].mean() < levels["bigram"] + 0.25 * (levels["unigram"] - levels["bigram"])
    assert outcome.event_step is not None
    assert outcome.event_step > 250
    [event] = judged(outcome, detector="contrast-kl-1").to_dicts()
    assert (event["status"], event["detector"]) == ("eureka", "contrast-kl-1")
    assert event["plateau_level"] == pytest.approx(levels["unigram"], abs=0.02)
    assert event["final_level"] == pytest.approx(levels["bigram"], abs=0.02)
    assert abs(event["eureka_step"] - outcome.event_step) < 100
    measures, early = outcome.measures, (outcome.measured_steps >= 100) & (outcome.measured_steps <= 300)
    assert (measures["kl_unigram"][early] < measures["kl_bigram"][early]).all()
    assert measures["kl_bigram"][-3:].mean() < measures["kl_unigram"][-3:].mean() / 2
    assert measures["attention_on_previous"][-1] > 2 * measures["attention_on_previous"][0]


def judged(outcome: Outcome, *, detector: str) -> pl.DataFrame:
    """EVENTS of one run, from the rows that a worker would commit."""
    runs = pl.from_arrow(runs_rows([ledger_row(outcome)], types=column_types(outcome.spec)))
    curve = pl.from_arrow(outcome_curve(outcome))
    assert isinstance(runs, pl.DataFrame)
    assert isinstance(curve, pl.DataFrame)
    return detect_events(curve.lazy(), runs=runs, detector=detector)


def test_labels_are_first_any_of_the_context_and_then_the_right_one():
    """Section 4.2 in small: context labels come first, attention and accuracy on new classes with the event."""
    task = {"name": "in_context_classification", "pairs": 4, "classes": 128, "labels": 8, "features": 15,
            "burstiness": 2}  # fmt: skip
    spec = resolve({"task": task, "model": {**CAUSAL, "width": 32, "heads": 1}, "optim": ADAM,
                    "budget": {"steps": 900, "batch": 64}, "log": {"measures_every_steps": 50},
                    "stop": {"after_event_steps": 300}})  # fmt: skip
    [outcome] = train([spec]).values()
    measures = outcome.measures
    assert outcome.event_step is not None
    in_context = smoothed(measures["answers_from_context"], 2)
    assert outcome.measured_steps[np.argmax(in_context > 0.9)] < outcome.event_step
    assert measures["in_context_accuracy"][-2:].mean() > 0.75
    assert measures["in_weights_accuracy"][-2:].mean() < 0.4
    assert measures["item_label_attention"][-1] > 2 * measures["item_label_attention"][0]
    assert measures["target_label_attention"][-1] > 2 * measures["target_label_attention"][0]


@pytest.mark.slow
def test_values_are_not_read_and_then_they_are():
    """Garg et al. 2022 in small: the loss of saying 0, then a fall; values look at their points with it."""
    spec = resolve({"task": {"name": "in_context_regression", "dim": 4, "points": 9},
                    "model": {**CAUSAL, "width": 64, "init_std": 0.1}, "optim": {"name": "adam", "lr": 2e-3},
                    "budget": {"steps": 900, "batch": 64}, "log": {"measures_every_steps": 50}})  # fmt: skip
    [outcome] = train([spec]).values()
    loss, measures = smoothed(outcome.metrics["loss"]), outcome.measures
    assert outcome.event_step is not None
    assert outcome.event_step > 200
    assert np.abs(loss[25:125] - 1.0).max() < 0.12
    assert loss[-1] < 0.65
    assert measures["attention_on_point"][-1] > 2 * measures["attention_on_point"][0]
    assert measures["least_squares_gap"][-1] < measures["least_squares_gap"][0] / 2
