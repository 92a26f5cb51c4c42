"""What every task promises: data from the seed and the block alone, in the shapes it declares, with ordered levels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from workloads.streams import generator
from workloads.tasks import TASKS
from workloads.tasks.task import composed

CPU = torch.device("cpu")
# Who knows the very answer does better than the best that can be known.
LUCKY = {"language", "markov_chain", "masked_language"}
UNANSWERED = {"declared"}  # its curve is drawn, whatever is answered


def sample_of(task, seed: int = 3, *, block: int = 0, steps: int = 16, batch: int = 64) -> dict[str, Tensor]:
    world = task.world(generator(seed, "world", device=CPU))
    drawn = task.sample(world, generator(seed, "batches", block, device=CPU), steps=steps, batch=batch)
    return composed(task, drawn)


@pytest.mark.parametrize("kind", TASKS)
def test_samples_are_a_function_of_seed_and_block(kind):
    task = kind()
    first, again = sample_of(task), sample_of(task)
    assert all(torch.equal(first[name], again[name]) for name in first)
    for other in (sample_of(task, seed=4), sample_of(task, block=1)):
        assert not torch.equal(first["x"], other["x"])
        assert not torch.equal(first["y"], other["y"])


@pytest.mark.parametrize("kind", TASKS)
def test_samples_have_the_declared_shapes(kind):
    task = kind()
    shapes, data = task.shapes(), sample_of(task, steps=2, batch=3)
    assert all(values.shape[:2] == (2, 3) for values in data.values())
    if shapes.vocabulary is None:
        assert data["x"].shape == (2, 3, shapes.positions, shapes.features)
        assert data["x"].dtype == torch.float32
    else:
        assert data["x"].shape == (2, 3, shapes.positions)
        assert 0 <= data["x"].min() <= data["x"].max() < shapes.vocabulary
    answers = (2, 3) if shapes.answers == "example" else (2, 3, shapes.positions)
    if data["y"].is_floating_point():
        assert data["y"].shape == (*answers, shapes.classes)
        return
    assert data["y"].shape == answers
    assert 0 <= data["y"].min() <= data["y"].max() < shapes.classes


@pytest.mark.parametrize("kind", TASKS)
def test_perfect_and_ignorant_answers_score_at_ceiling_and_chance(kind):
    task = kind()
    shapes, data = task.shapes(), sample_of(task, batch=256)
    if task.name in UNANSWERED:
        pytest.skip("nothing to answer")
    levels, batch = task.levels(), {name: values[:1].flatten(1, 1) for name, values in data.items()}
    if batch["y"].is_floating_point():
        sure, tolerance = batch["y"], 0.1  # the loss of knowing nothing is a mean over the data
    else:
        sure, tolerance = 100.0 * torch.nn.functional.one_hot(batch["y"], shapes.classes).float(), 1e-5
    ceiling = 1.0 if task.name in LUCKY else levels.accuracy_ceiling
    assert task.objective(sure, batch)["accuracy"].item() == pytest.approx(ceiling)
    blind = task.objective(torch.zeros_like(sure), batch)
    assert blind["loss"].item() == pytest.approx(levels.loss_chance, rel=tolerance)


@pytest.mark.parametrize("kind", TASKS)
def test_levels_are_finite_and_in_order(kind):
    levels = kind().levels()
    assert levels.loss_floor < levels.loss_plateau <= levels.loss_chance < math.inf
    assert 0.0 <= levels.accuracy_chance <= levels.accuracy_plateau < levels.accuracy_ceiling <= 1.0
