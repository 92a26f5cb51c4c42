"""The engine against a plain single-run module trained with torch's own optimisers, and against torch.func."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain import PlainEncoder, train_plainly
from small_runs import QUICKSTART, run, runs
from torch import Tensor
from torch.func import functional_call, grad, vmap

from workloads import layers
from workloads.cohort import Cohort
from workloads.functions import Mix, Scores
from workloads.rows import Layout
from workloads.seen import Seen
from workloads.spec import RunSpec
from workloads.streams import BLOCK_STEPS, generator

CPU = torch.device("cpu")
STEPS = 2 * BLOCK_STEPS

WORDS = {"name": "window_sum", "n": 4, "modulus": 7}
NORMED = {"name": "normsoftmax", "statistic": "var"}
CASES: dict[str, dict[str, object]] = {
    "quickstart": {},
    "temperature": {"model.attention": {"name": "softmax", "temperature": 2.0}},
    "normsoftmax_var": {"model.attention": {"name": "normsoftmax", "statistic": "var"}, "model.init_std": 0.3},
    "normsoftmax_std": {"model.attention": {"name": "normsoftmax", "statistic": "std"}, "model.init_std": 0.3},
    "heat": {"model.attention": {"name": "heat", "over_steps": 30}},
    "heat_var": {"model.attention": {"name": "heat", "statistic": "var", "over_steps": 30}, "model.init_std": 0.3},
    "adam": {"optim": {"name": "adam", "lr": 1e-3, "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6}},
    "sgd": {"optim": {"name": "sgd", "lr": 0.1, "weight_decay": 0.01}},
    "sgd_momentum": {"optim": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}},
    "decay_and_clip": {"optim": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.3, "clip_norm": 0.2}},
    "cosine": {"optim": {"lr": 3e-3, "schedule": {"name": "cosine", "warmup_steps": 5, "end_factor": 0.1}}},
    "bias_relu_sinusoids": {"model.qkv_bias": True, "model.activation": "relu", "model.positions": "sinusoidal"},
    "no_positions": {"model.positions": "none", "model.layers": 1},
    "many_positions": {"task.n_targets": 40, "budget.batch": 8},
    "words": {"task": WORDS},
    "causal_words": {"task": WORDS, "model.causal": True},
    "many_causal_words": {"task": {**WORDS, "n": 10}, "model.causal": True, "budget.batch": 8},
    "causal_var": {"task": WORDS, "model.causal": True, "model.attention": NORMED, "model.init_std": 0.3},
    "causal_std": {
        "task": WORDS,
        "model.causal": True,
        "model.attention": {**NORMED, "statistic": "std"},
        "model.init_std": 0.3,
    },
}
ROUGH = {"causal_var": 100.0, "causal_std": 100.0}  # the spread of two scores may be tiny, and is divided by


def specs(name: str, n: int = 2) -> list[RunSpec]:
    return [run(seed, {"budget.steps": STEPS, **CASES[name]}, base=QUICKSTART) for seed in range(n)]


def weights(spec: RunSpec) -> dict[str, Tensor]:
    """A run's first weights, by the engine's names."""
    layout = Layout(spec.model.build(spec.task.shapes()))
    row = layout.initial_row(spec.seed.init, std=spec.model.init_std, device=CPU)
    return {place.name: place.view(row[None])[0] for place in layout.places}


def batches(spec: RunSpec) -> dict[str, Tensor]:
    """The first data of a run."""
    world = spec.task.world(generator(spec.seed.data, "world", device=CPU))
    blocks = [
        spec.task.sample(
            world, generator(spec.seed.data, "batches", i, device=CPU), steps=BLOCK_STEPS, batch=spec.budget.batch
        )
        for i in range(STEPS // BLOCK_STEPS)
    ]
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


@pytest.mark.parametrize("name", CASES)
def test_curves_equal_those_of_a_plain_module(name):
    members = specs(name)
    cohort = Cohort(members, width=2)
    outcomes = {outcome.spec.run_id: outcome for outcome in cohort.advance()}
    for spec in members:
        wanted = train_plainly(spec, PlainEncoder(spec).load(weights(spec)), batches=batches(spec))
        found = outcomes[spec.run_id].metrics
        for steps, share in ((1, 2e-6), (BLOCK_STEPS, 5e-5), (STEPS, 5e-3)):  # rounding grows as training goes on
            rtol = share * ROUGH.get(name, 1.0)
            np.testing.assert_allclose(found["loss"][:steps], wanted["loss"][:steps], rtol=rtol)
            np.testing.assert_allclose(found["grad_norm"][:steps], wanted["grad_norm"][:steps], rtol=4 * rtol)
        np.testing.assert_allclose(found["accuracy"], wanted["accuracy"], atol=1.01 / spec.budget.batch)


def test_gradients_equal_those_of_torch_func():
    members = specs("normsoftmax_var", 3)
    cohort = Cohort(members, width=3)
    cohort.advance(ticks=1)
    layout, found = cohort.lanes.layout, cohort.lanes.grads
    plain = PlainEncoder(members[0])
    stacked = {name: torch.stack(values) for name, values in _by_name(members).items()}
    first = [batches(spec) for spec in members]
    x, y = (torch.stack([block[name][0] for block in first]) for name in ("x", "y"))
    c = members[0].model.controls(step=0, budget_steps=STEPS)["multiplier"]

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(functional_call(plain, parameters, (x, c)), y)

    wanted = grad(lambda parameters: vmap(loss)(parameters, x, y).sum())(stacked)
    engine = [{place.name: place.view(found)[k] for place in layout.places} for k in range(3)]
    for k, spec in enumerate(members):
        renamed = dict(PlainEncoder(spec).load(engine[k]).named_parameters())
        for name, value in renamed.items():
            torch.testing.assert_close(value, wanted[name][k], rtol=1e-4, atol=1e-6)


def _by_name(members: list[RunSpec]) -> dict[str, list[Tensor]]:
    each = [dict(PlainEncoder(spec).load(weights(spec)).named_parameters()) for spec in members]
    return {name: [one[name].detach() for one in each] for name in each[0]}


@pytest.mark.parametrize("queries", [1, 3])
def test_scores_and_mix_have_the_derivatives_of_their_sums(queries):
    rng = torch.Generator().manual_seed(0)
    q, key, pairs = (
        torch.randn(*shape, generator=rng, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 1, 4, queries, 2), (2, 1, 4, 3, 2), (2, 1, queries, 3, 2))
    )
    assert torch.autograd.gradcheck(Scores.apply, (q, key))
    assert torch.autograd.gradcheck(Mix.apply, (pairs, key))
    torch.testing.assert_close(Scores.apply(q, key), torch.einsum("khdqb,khdtb->khqtb", q, key))
    torch.testing.assert_close(Mix.apply(pairs, key), torch.einsum("khqtb,khdtb->khdqb", pairs, key))


@pytest.mark.parametrize("name", ["temperature", "normsoftmax_var", "normsoftmax_std"])
def test_products_and_lanes_are_the_same_attention(name, monkeypatch):
    members = specs(name)
    routes = []
    for lanes_up_to in (0, 64):
        monkeypatch.setattr(layers, "LANES_UP_TO", lanes_up_to)
        cohort = Cohort(members, width=2)
        cohort.advance(ticks=1)
        seen = Seen()
        lanes = cohort.lanes
        logits = lanes.model(lanes.batch()["x"], seen=seen, **lanes.controls())
        routes.append([logits, lanes.grads, *seen.attention])
    for long, short in zip(*routes, strict=True):
        torch.testing.assert_close(long, short, rtol=1e-4, atol=1e-6)


def test_measures_equal_those_of_the_plain_attention():
    [spec] = runs(1, {"model.layers": 2, "budget.steps": 1, "log.measures_every_steps": 1})
    [outcome] = Cohort([spec], width=1).advance()
    plain, batch = PlainEncoder(spec).load(weights(spec)), batches(spec)
    maps = []
    for block in plain.blocks:
        block.attend = _recording(block, maps)
    plain(batch["x"][0], spec.model.controls(step=0, budget_steps=1)["multiplier"])
    last = maps[-1][:, :, 0].mean(1)  # (B, T), from the read-out token
    on_target = last.gather(1, batch["where"][0][:, None] + 2).mean()
    rows = [maps[0], maps[1][:, :, :1]]  # the last layer's other queries are never asked
    entropy = torch.stack([-(a * a.log()).sum(-1).mean() for a in rows]).mean()
    np.testing.assert_allclose(outcome.measures["attention_on_target"], [on_target.item()], rtol=1e-5)
    np.testing.assert_allclose(outcome.measures["attention_entropy"], [entropy.item()], rtol=1e-5)


def _recording(block, maps):
    def attend(q: Tensor, k: Tensor, v: Tensor, c: float) -> Tensor:
        split = [z.unflatten(-1, (block.heads, -1)).transpose(1, 2) for z in (q, k, v)]
        maps.append((c * split[0] @ split[1].mT).softmax(-1))
        return (maps[-1] @ split[2]).transpose(1, 2).flatten(2)

    return attend
