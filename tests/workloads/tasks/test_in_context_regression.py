"""Points, values and maps; least squares against numpy's; measures by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from workloads.seen import Seen
from workloads.streams import generator
from workloads.tasks.in_context_regression import InContextRegression, least_squares

CPU = torch.device("cpu")
TASK = InContextRegression(dim=3, points=6)


def sample_of(task: InContextRegression = TASK, *, steps: int = 16) -> dict[str, torch.Tensor]:
    return task.sample({}, generator(3, "batches", device=CPU), steps=steps, batch=64)


def by_numpy(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """At each point, the value by numpy's shortest solution of those before."""
    found = [0.0]
    for n in range(1, len(points)):
        solution, *_ = np.linalg.lstsq(points[:n], values[:n], rcond=None)
        found.append(points[n] @ solution)
    return np.array(found)


def test_values_are_one_linear_map_of_an_examples_points():
    data = sample_of()
    points, values = data["x"][..., 0::2, :], data["y"][..., 0::2, :]
    assert torch.equal(data["x"][..., 1::2, :1], values[..., :-1, :])
    assert (data["x"][..., 1::2, 1:] == 0).all()
    assert (data["y"][..., 1::2, :] == 0).all()
    solution = torch.linalg.lstsq(points.double(), values.double()).solution
    torch.testing.assert_close(points.double() @ solution, values.double(), atol=1e-4, rtol=0)
    assert solution.std().item() == pytest.approx(1.0, abs=0.05)
    assert points.std().item() == pytest.approx(1.0, abs=0.02)


def test_least_squares_is_numpys_shortest_solution_also_of_points_that_repeat():
    data = sample_of()
    points, values = data["x"][0, :20, 0::2].clone(), data["y"][0, :20, 0::2, 0].clone()
    points[:, 1], values[:, 1] = points[:, 0], values[:, 0]
    found = least_squares(points, values).numpy()
    for mine, p, v in zip(found, points.double().numpy(), values.double().numpy(), strict=True):
        np.testing.assert_allclose(mine, by_numpy(p, v), atol=1e-4)


@pytest.mark.parametrize("task", [TASK, InContextRegression(dim=5, points=4)])
def test_best_errors_are_those_of_the_shortest_map_that_fits(task):
    data = sample_of(task)
    points, values = (data["x"][..., 0::2, :].flatten(0, 1), data["y"][..., 0::2, 0].flatten(0, 1))
    found = np.stack([by_numpy(p, v) for p, v in zip(points.numpy(), values.numpy(), strict=True)])
    squares = (found - values.numpy()) ** 2 / task.dim
    wide = 4 * squares.std(0) / math.sqrt(len(squares)) + 1e-6
    assert (np.abs(squares.mean(0) - np.array(task.best_errors())) <= wide).all()
    levels = task.levels()
    assert levels.loss_floor == pytest.approx(squares.mean(), rel=0.08)
    assert levels.accuracy_ceiling == pytest.approx(min(1.0, (task.points - 1) / task.dim))


def test_the_published_setting_has_a_quarter_of_the_loss_as_its_floor():
    assert InContextRegression().levels().loss_floor == pytest.approx(10.5 / 41)


def test_answers_behind_values_are_not_scored_and_the_last_point_tells_accuracy():
    data = {name: values[:1] for name, values in sample_of().items()}
    output = data["y"].clone()
    output[..., 1::2, :] = 99.0
    found = TASK.objective(output, data)
    assert (found["loss"].item(), found["accuracy"].item()) == (0.0, 1.0)
    output[..., -1, :] = 0.0
    found = TASK.objective(output, data)
    assert found["accuracy"].item() == pytest.approx(0.0, abs=1e-6)
    assert found["loss"].item() == pytest.approx(data["y"][..., -1, 0].square().mean().item() / 6 / 3, rel=1e-5)


TAUGHT = InContextRegression(dim=4, points=9, curriculum_steps=10, first_dim=2, first_points=4)


def taught(*, first_step: int) -> dict[str, torch.Tensor]:
    rng = generator(3, "batches", device=CPU)
    return TAUGHT.sample_from({}, rng, first_step=first_step, steps=16, batch=64)


def test_a_curriculum_gains_a_coordinate_and_two_points_every_so_many_steps():
    data = taught(first_step=5)
    for step in range(16):
        dim, points = [(2, 4), (3, 6), (4, 8)][(5 + step) // 10]
        x, y = data["x"][step], data["y"][step]
        shown = x[:, 0::2].abs().amax(0) > 0  # (points, coordinates)
        assert shown[:points, :dim].all()
        assert not shown[points:].any()
        assert not shown[:, dim:].any()
        assert (data["dims"][step] == dim).all()
        assert data["asked"][step].sum(-1).eq(points).all()
        assert y[:, 0 : 2 * points : 2].abs().min() > 0
        assert (y[:, 2 * points - 1 :] == 0).all()
    last = taught(first_step=1000)
    assert (last["dims"] == 4).all()
    assert last["asked"].all()
    assert torch.equal(last["x"], sample_of(TAUGHT)["x"])  # in the end, what probes are shown


def test_without_a_curriculum_steps_change_nothing():
    rng = generator(3, "batches", device=CPU)
    found, wanted = TASK.sample_from({}, rng, first_step=9, steps=16, batch=64), sample_of()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_curriculums_errors_are_those_of_its_points_and_coordinates_alone():
    data = {name: values[7:8] for name, values in taught(first_step=0).items()}  # two coordinates, four points
    values = data["y"][0, :, 0:7:2, 0]
    output = data["y"].clone()
    output[..., 8:, :] = 99.0  # nothing is asked there
    found = TAUGHT.objective(output, data)
    assert (found["loss"].item(), found["accuracy"].item()) == (0.0, 1.0)
    found = TAUGHT.objective(torch.zeros_like(output), data)
    assert found["loss"].item() == pytest.approx(values.square().mean().item() / 2, rel=1e-5)
    assert found["accuracy"].item() == pytest.approx(0.0, abs=1e-6)
    best = least_squares(data["x"][..., 0::2, :], data["y"][..., 0::2, 0])
    answers = torch.zeros_like(data["y"])
    answers[..., 0::2, 0] = best + 0.3
    gap = TAUGHT.measures(Seen(again=lambda x: answers), data)["least_squares_gap"]
    assert gap.item() == pytest.approx(0.09 / 2, rel=1e-4)


def test_zero_costs_one_throughout_a_curriculum():
    for first_step in (0, 10, 1000):
        data = taught(first_step=first_step)
        squares = [
            TAUGHT.objective(
                torch.zeros_like(data["y"][step : step + 1]), {n: v[step : step + 1] for n, v in data.items()}
            )
            for step in range(16)
        ]
        mean = sum(each["loss"].item() for each in squares) / 16
        assert mean == pytest.approx(TAUGHT.levels().loss_plateau, abs=0.15)


@pytest.mark.parametrize(("first_dim", "first_points"), [(5, 4), (2, 10)])
def test_a_curriculum_that_begins_beyond_its_end_is_refused(first_dim: int, first_points: int):
    with pytest.raises(ValidationError, match="first_dim and first_points of at most dim and points"):
        InContextRegression(dim=4, points=9, curriculum_steps=10, first_dim=first_dim, first_points=first_points)


def test_measures_are_the_distance_from_least_squares_and_attention_on_points():
    data = {name: values[:1, :2] for name, values in sample_of().items()}
    best = least_squares(data["x"][..., 0::2, :], data["y"][..., 0::2, 0])

    def again(x: torch.Tensor) -> torch.Tensor:
        answers = torch.zeros_like(data["y"])
        answers[..., 0::2, 0] = best + 0.3
        return answers

    maps = torch.zeros(1, 2, 2, 11, 11)
    for value, share in zip(range(1, 11, 2), (0.1, 0.2, 0.3, 0.4, 0.5), strict=True):
        maps[:, :, 1, value, value - 1] = share
    maps[:, :, 0, range(2, 11, 2), range(1, 10, 2)] = 1.0  # points that look at values do not count
    found = TASK.measures(Seen(attention=[maps], again=again), data)
    assert found["least_squares_gap"].item() == pytest.approx(0.09 / 3, rel=1e-4)
    assert found["attention_on_point"].item() == pytest.approx(0.3)
