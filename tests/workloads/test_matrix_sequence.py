"""Sequences written out, levels against answers played out, metrics entry by entry, and bits in company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_runs import assert_same_in_company, runs, staggered

from workloads.seen import Seen
from workloads.spec import resolve
from workloads.streams import generator
from workloads.tasks.matrix_sequence import MatrixSequence

CPU = torch.device("cpu")
SMALL = {"name": "matrix_sequence", "rows": 2, "columns": 3, "rank": 1, "grid": 10, "reach": 1}
GPT = {
    "width": 16, "layers": 2, "heads": 2, "mlp_ratio": 2.0, "causal": True, "init": "scaled", "qkv_bias": True,
}  # fmt: skip
SHARED = {
    "task": SMALL,
    "optim": {"name": "adam", "lr": 1e-3},
    "budget": {"steps": 20, "batch": 8},
    "log": {"measures_every_steps": 7},
}


def drawn(task: MatrixSequence, *, batch: int = 512) -> dict[str, torch.Tensor]:
    return task.sample({}, generator(3, "batches", device=CPU), steps=1, batch=batch)


def small(**changes: Any) -> MatrixSequence:
    return MatrixSequence(**{key: value for key, value in (SMALL | changes).items() if key != "name"})


def test_a_sequence_is_the_matrix_shown_a_separator_and_the_matrix_in_full():
    task = small()
    data = drawn(task)
    x, y, missing = (data[name][0] for name in ("x", "y", "missing"))
    assert torch.equal(x[:, 1:], y[:, :-1])
    words = torch.cat([x, y[:, -1:]], dim=1)
    shown, separator, full = words[:, :6], words[:, 6], words[:, 7:]
    assert (separator == 22).all()
    assert (shown[missing] == 0).all()
    assert torch.equal(shown[~missing], full[~missing])
    numbers = task.word_values(full).view(-1, 2, 3)
    assert (torch.linalg.det(numbers[:, :, :2]).abs() < 0.2).all()  # rank 1, but for rounding
    assert missing.float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_the_papers_words_and_positions():
    shapes = MatrixSequence().shapes()
    assert (shapes.positions, shapes.vocabulary) == (98, 403)


@pytest.mark.parametrize("changes", [{}, {"p_mask": 0.6, "least_size": 0.5}, {"factors": "normal", "scale": 0.2}])
def test_levels_are_those_of_the_answers_that_they_stand_for(changes: dict[str, Any]):
    """Cross-entropy of answering by frequencies counted in other matrices, and of copying besides."""
    task = small(**changes)
    data, other = drawn(task, batch=40_000), task.sample({}, generator(9, "batches", device=CPU), steps=1, batch=40_000)
    counts = other["y"][0, :, 6:].flatten().bincount(minlength=23).float() + 0.1
    logs = (counts / counts.sum()).log()
    p = task.p_mask
    reading = torch.cat([torch.tensor([p]).log(), np.log(1 - p) + logs[1:]])
    output = logs.expand(1, 40_000, 12, 23).clone()
    output[:, :, :5], output[:, :, 5] = reading, torch.nn.functional.one_hot(torch.tensor(22), 23).float() * 1e3
    found = task.objective(output, data)
    levels = task.levels()
    assert found["loss"].item() == pytest.approx(levels.loss_plateau, rel=0.01)
    assert found["accuracy"].item() == pytest.approx(levels.accuracy_plateau, abs=0.01)
    copied = torch.nn.functional.one_hot(data["y"][..., 6:], 23).float() * 1e3
    output[..., 6:, :] = torch.where(data["missing"][..., None], output[..., 6:, :], copied)
    found = task.objective(output, data)
    assert found["loss"].item() == pytest.approx(levels.loss_floor, rel=0.01)
    assert (found["accuracy"].item(), found["loss_observed"].item()) == (1.0, pytest.approx(0, abs=1e-6))


def test_shown_and_missing_entries_are_scored_apart():
    task, data = small(), drawn(small(), batch=4)
    output = torch.randn(1, 4, 12, 23, generator=torch.Generator().manual_seed(1))
    found = task.objective(output, data)
    losses = -output.log_softmax(-1).gather(-1, data["y"][..., None])[0, :, 6:, 0]
    right = (output.argmax(-1) == data["y"])[0, :, 6:].float()
    missing = data["missing"][0]
    assert found["loss_observed"].item() == pytest.approx(losses[~missing].mean().item())
    assert found["loss_masked"].item() == pytest.approx(losses[missing].mean().item())
    assert found["accuracy"].item() == pytest.approx(right[~missing].mean().item())
    assert found["accuracy_masked"].item() == pytest.approx(right[missing].mean().item())


def test_attention_on_sources_is_that_of_the_entry_to_be_written():
    task, data = small(), drawn(small(), batch=2)
    maps = torch.zeros(1, 2, 2, 12, 12)
    for entry in range(6):
        maps[:, :, 0, 6 + entry, entry] = 1.0
        maps[:, :, 1, 6 + entry, 6] = -0.25  # linear attention's weights may be negative
        maps[:, :, 1, 6 + entry, 0] = 0.75
    found = task.measures(Seen(attention=[maps]), data)
    assert found["attention_on_source"].item() == 1.0
    assert found["attention_on_separator"].item() == pytest.approx(0.25)
    assert task.shapes().sources == ((),) * 6 + tuple((entry,) for entry in range(6))


@pytest.mark.parametrize("attention", ["softmax", "linear"])
def test_gpt_runs_are_bitwise_the_same_alone_and_in_company(attention: str):
    base = {**SHARED, "model": {**GPT, "attention": {"name": attention}}}
    for outcome in assert_same_in_company(staggered(runs(3, base=base))).values():
        for values in (*outcome.metrics.values(), *outcome.measures.values()):
            assert np.isfinite(values).all()


# If this fails, ids of stored runs have drifted; see test_spec.py.
def test_ids_are_the_frozen_ones():
    spec = resolve(
        {"task": {"name": "matrix_sequence"}, "model": {"causal": True}, "optim": {"lr": 1e-3}, "budget": {"steps": 9}}
    )
    assert spec.run_id == "375ec7cc30516166"
