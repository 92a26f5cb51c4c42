"""The model `scan_snap`: against a plain one, bit for bit in any company, compiled, and against the paper's numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_runs import alone, assert_same, assert_same_in_company, follow, run, runs, staggered, train
from torch import nn

from workloads.code_files import compiler
from workloads.cohort import Cohort
from workloads.errors import SpecError
from workloads.rows import Layout
from workloads.seen import Seen
from workloads.spec import RunSpec
from workloads.streams import BLOCK_STEPS, generator
from workloads.tasks.scan_snap import ScanSnap

CPU = torch.device("cpu")
BASE: dict[str, Any] = {
    "task": {"name": "scan_snap", "queries": 3, "next_per_query": 2},
    "model": {"name": "scan_snap"},
    "optim": {"name": "sgd_yz", "lr_z": 1.0, "lr_y": 2.0, "momentum": 0.9},
    "budget": {"steps": 40, "batch": 32},
    "log": {"measures_every_steps": 5},
}
SYN_SMALL: dict[str, Any] = {
    "task": {"name": "scan_snap"},
    "model": {"name": "scan_snap", "init": "zeros"},
    "optim": {"name": "sgd_yz", "lr_z": 1.0, "lr_y": 1.0, "momentum": 0.9},
    "budget": {"steps": 11, "batch": 128},
}
VARIANTS: dict[str, Mapping[str, object]] = {
    "uniform": {},
    "zeros": {"model.init": "zeros"},
    "adam": {"optim": {"name": "adam_yz", "lr_z": 0.1, "lr_y": 0.2}},
    "one rate": {"optim": {"name": "sgd", "lr": 0.5}},
    "one query": {"task.queries": 1},
    "many words": {"task.words": 1003, "task.distinct": 7, "budget.batch": 13},
    "clipped, decaying, falling": {
        "optim.clip_norm": 0.05, "optim.weight_decay": 0.01, "optim.schedule": {"name": "cosine", "warmup_steps": 4},
    },
    "maps": {"task.maps": True},
    "residual": {"model.residual": True},
}  # fmt: skip


def members(name: str, n: int = 4) -> list[RunSpec]:
    return staggered(runs(n, VARIANTS[name], base=BASE), by_steps=-6)


# -- bit for bit ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_bitwise_the_same_alone_and_in_company(name):
    found = assert_same_in_company(members(name))
    assert all(np.isfinite(outcome.metrics["loss"]).all() for outcome in found.values())


def test_resuming_changes_no_bit_of_either_table():
    runs = members("uniform")
    wanted, weights = follow(Cohort(runs[:1], width=1), step=35)
    killed = Cohort(runs, width=4)
    killed.advance(ticks=BLOCK_STEPS + 3)
    again, late = follow(Cohort(runs[:1][::-1], width=1, saved=killed.state().get), step=35)
    assert_same(again, wanted)
    np.testing.assert_array_equal(late[runs[0].run_id]["row"], weights[runs[0].run_id]["row"])


@pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler")
def test_compiled_runs_follow_the_eager_ones():
    changes = {"budget.steps": 12, "budget.batch": 16, "task.length": 32}
    eager = alone([run(0, changes, base=BASE)])
    compiled = alone([run(0, {**changes, "compute.program": "compiled"}, base=BASE)])
    [a], [b] = eager.values(), compiled.values()
    np.testing.assert_allclose(a.metrics["loss"], b.metrics["loss"], rtol=1e-4)


# -- against the same thing written plainly --------------------------------------------------------


class Plain(nn.Module):
    """Tokens one-hot, tables M × M, position by position."""

    def __init__(self, m: int, *, residual: bool):
        super().__init__()
        self.residual = residual
        self.y, self.z = nn.Parameter(torch.zeros(m, m)), nn.Parameter(torch.zeros(m, m))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, T) to (B, M)
        onehot = F.one_hot(x, len(self.y)).float()
        context, query = onehot[:, :-1], onehot[:, -1]
        weights = torch.einsum("btl,bl->bt", context, query @ self.z).softmax(1)
        f = torch.einsum("bt,btl->bl", weights, context)
        f = f / f.norm(dim=1, keepdim=True)
        return (f + query if self.residual else f) @ self.y


def plain_of(spec: RunSpec) -> Plain:
    layout = Layout(spec.model.build(spec.task.shapes()))
    row = layout.initial_row(spec.seed.init, std=spec.model.init_std, device=CPU)
    tables = {place.name: place.view(row[None])[0] for place in layout.places}
    task, plain = spec.task, Plain(spec.task.shapes().classes, residual=spec.model.residual)
    with torch.no_grad():
        plain.y[: len(tables["answers"])] = tables["answers"]
        plain.z[task.contextual : task.contextual + task.queries, : task.contextual] = tables["scores"]
    return plain


@pytest.mark.parametrize("name", ["uniform", "zeros", "adam", "one query", "many words", "residual"])
def test_curves_equal_those_of_one_hot_tokens_and_full_tables(name):
    [spec] = members(name, n=1)
    plain, optim = plain_of(spec), spec.optim
    groups = [{"params": [plain.y], "lr": optim.lr_y}, {"params": [plain.z], "lr": optim.lr_z}]
    if optim.name == "sgd_yz":
        stepper: torch.optim.Optimizer = torch.optim.SGD(groups, momentum=optim.momentum)
    else:
        stepper = torch.optim.Adam(groups)
    losses = []
    for block in range(-(-spec.budget.steps // BLOCK_STEPS)):
        rng = generator(spec.seed.data, "batches", block, device=CPU)
        data = spec.task.sample({}, rng, steps=BLOCK_STEPS, batch=spec.budget.batch)
        for x, y in zip(data["x"], data["y"], strict=True):
            loss = F.cross_entropy(plain(x), y)
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            losses.append(loss.item())
    [outcome] = alone([spec]).values()
    np.testing.assert_allclose(outcome.metrics["loss"], losses[: spec.budget.steps], rtol=2e-3, atol=1e-5)


def test_each_table_moves_by_its_own_rate():
    def moved(changes: Mapping[str, object]) -> dict[str, float]:
        spec = run(0, {"budget.steps": 2, **changes}, base=BASE)
        layout = Layout(spec.model.build(spec.task.shapes()))
        first = layout.initial_row(spec.seed.init, std=1.0, device=CPU)
        _, found = follow(Cohort([spec], width=1), step=1)
        change = torch.from_numpy(found[spec.run_id]["row"]) - first
        return {place.name: place.view(change[None]).norm().item() for place in layout.places}

    base, faster = moved({}), moved({"optim.lr_z": 3.0})
    assert faster["answers"] == pytest.approx(base["answers"], rel=1e-5)
    assert faster["scores"] == pytest.approx(3 * base["scores"], rel=1e-3)


def test_first_values_are_uniform_within_one_over_root_m():
    spec = run(1, {"task.words": 400}, base=BASE)
    layout = Layout(spec.model.build(spec.task.shapes()))
    row = layout.initial_row(1, std=spec.model.init_std, device=CPU)
    for place in layout.places:
        values = place.view(row[None]).flatten()
        assert values.abs().max() <= 1 / math.sqrt(400)
        assert values.std().item() == pytest.approx(1 / math.sqrt(1200), rel=0.1)
        assert values.mean().item() == pytest.approx(0.0, abs=5 / math.sqrt(1200 * len(values)))
    assert not torch.equal(row, layout.initial_row(2, std=1.0, device=CPU))
    assert [segment.group for segment in layout.segments] == ["z", "y"]


def test_query_and_absent_words_get_no_attention():
    spec = run(0, {}, base=BASE)
    cohort = Cohort([spec], width=1)
    assert cohort.lanes.layout.parameters == spec.task.contextual * (spec.task.queries + spec.task.occurring)
    seen, model = Seen(), spec.model.build(spec.task.shapes())
    layout = Layout(model)
    layout.bind(cohort.lanes.rows, trained=False)
    x = torch.tensor([[[0, 0, 1, 12, spec.task.contextual]]])
    model(x, seen=seen)
    [weights] = seen.attention
    assert weights.sum().item() == pytest.approx(1.0)
    assert weights[0, 0, 0, 0].nonzero().flatten().tolist() == [0, 1, 12]


def test_the_model_reads_any_words_with_one_answer_and_refuses_the_rest():
    sums = {"task": {"name": "window_sum", "n": 4, "modulus": 7}, "optim": {"name": "sgd", "lr": 0.1}}
    with pytest.raises(SpecError, match="scan_snap reads words and answers once an example"):
        run(0, sums, base=BASE)


def test_rates_of_tables_need_a_model_that_has_them():
    with pytest.raises(SpecError, match="model transformer has no part z, y"):
        run(0, {"model": {"name": "transformer"}}, base=BASE)
    with pytest.raises(SpecError, match=r"optim\.lr: got an unknown key"):
        run(0, {"optim.lr": 1.0}, base=BASE)


# -- the paper's numbers ---------------------------------------------------------------------------

PAPER_LOSSES = {0: 3.526, 2: 2.368, 4: 0.733, 6: 0.161, 8: 0.0444, 10: 0.01295}  # papers.md section 3.2, one seed


def test_syn_small_falls_as_the_authors_log():
    """Mean over 16 seeds; theirs is one, which at step 10 may be 6% off by itself."""
    found = train([run(seed, {}, base=SYN_SMALL) for seed in range(16)], width=8)
    losses = np.mean([outcome.metrics["loss"] for outcome in found.values()], axis=0)
    for step, published in PAPER_LOSSES.items():
        assert losses[step] == pytest.approx(published, rel=0.05), f"step {step}"
    assert losses[0] == pytest.approx(math.log(34), rel=1e-6)


PAPER_ENTROPY = {(1, 0.5, 10): (2.092, 0.016), (1, 2.0, 1): (1.699, 0.101), (3, 0.5, 1): (2.019, 0.010),
                 (3, 3.0, 2): (1.715, 0.038)}  # fmt: skip


@pytest.mark.parametrize("queries", [1, 3])
def test_syn_medium_entropy_is_within_two_published_deviations(queries):
    """Four of the 64 cells, 10 seeds each, as published."""
    cells = {key: value for key, value in PAPER_ENTROPY.items() if key[0] == queries}
    lasting = {"task.queries": queries, "log.measures_every_steps": 100, "budget": {"steps": 101, "batch": 128}}
    specs = {
        (key, seed): run(seed, {**lasting, "optim.lr_z": key[1], "optim.lr_y": key[1] * key[2]}, base=BASE)
        for key in cells
        for seed in range(10)
    }
    found = train(list(specs.values()), width=8)
    for key, (mean, sd) in cells.items():
        ends = [found[spec.run_id].measures["distinct_entropy"][-1] for (cell, _), spec in specs.items() if cell == key]
        assert abs(np.mean(ends) - mean) <= 2 * sd, key


def test_specs_of_scan_snap_keep_their_names():
    """Golden: runs in stores are found by these."""
    spec = run(3, {}, base=BASE)
    again = RunSpec.model_validate(json.loads(spec.model_dump_json()))
    assert again.run_id == spec.run_id
    assert ScanSnap().MEASURES == (
        "distinct_entropy", "attention_on_distinct", "score_dominant", "score_common",
        "recall_90", "recall_100", "recall_110", "recall_120", "recall_130",
    )  # fmt: skip
