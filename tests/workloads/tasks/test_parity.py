"""Products of hidden coordinates; flat levels by enumeration; measures of networks that know, and that do not."""

from __future__ import annotations

import itertools

import pytest
import torch

from workloads.seen import Seen
from workloads.streams import generator
from workloads.tasks.parity import Parity

CPU = torch.device("cpu")


def world_of(task: Parity, seed: int = 3) -> dict[str, torch.Tensor]:
    return task.world(generator(seed, "world", device=CPU))


def sample_of(task: Parity, seed: int = 3) -> dict[str, torch.Tensor]:
    return task.sample(world_of(task, seed), generator(seed, "batches", device=CPU), steps=16, batch=64)


def test_answers_are_products_of_the_hidden_coordinates():
    task = Parity(n_bits=7, k=3)
    data, hidden = sample_of(task), world_of(task)["hidden"]
    assert len(set(hidden.tolist())) == 3
    assert set(data["x"].flatten().tolist()) == {-1.0, 1.0}
    assert torch.equal(data["x"][..., hidden, 0].prod(-1), data["y"] * 2.0 - 1.0)
    assert torch.equal(data["hidden"], hidden.expand(16, 64, -1))


def test_hidden_coordinates_differ_between_data_seeds():
    assert len({tuple(sorted(world_of(Parity(), seed)["hidden"].tolist())) for seed in range(5)}) == 5


def test_whatever_leaves_out_one_hidden_coordinate_knows_nothing():
    """Every function of two of three signs is right half of the time; so is their majority, or none."""
    everything = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)))
    answers = everything.prod(1)
    for table in itertools.product([-1.0, 1.0], repeat=4):
        guess = torch.tensor(table).view(2, 2)[(everything[:, 0] > 0).long(), (everything[:, 1] > 0).long()]
        assert (guess == answers).float().mean() == 0.5
    levels = Parity(k=3).levels()
    assert levels.accuracy_plateau == levels.accuracy_chance == 0.5
    assert levels.loss_plateau == levels.loss_chance


@pytest.mark.parametrize(("loss", "wanted"), [("hinge", [0.0, 3.0, 0.5]), ("logistic", [0.126928, 2.126928, 0.474077])])
def test_losses_are_those_of_the_margin(loss, wanted):
    logits = torch.tensor([[[0.0, 2.0]], [[1.0, -1.0]], [[0.5, 0.0]]])  # margins 2, -2 and 0.5
    y = torch.tensor([[1], [1], [0]])
    found = Parity(loss=loss).objective(logits, {"y": y})
    assert found["loss"].tolist() == pytest.approx(wanted, abs=1e-6)
    assert found["accuracy"].tolist() == [1.0, 0.0, 1.0]


def test_measures_tell_neurons_that_know_from_those_that_do_not():
    """A neuron on the hidden coordinates alone knows them and no other; one on the rest knows nothing."""
    task = Parity(n_bits=6, k=3)
    data = {name: values[0][None].expand(2, *values.shape[1:]) for name, values in sample_of(task).items()}
    hidden = data["hidden"][0, 0]
    weights = torch.zeros(2, 6, 1)
    weights[0, hidden] = 1.0
    weights[1] = 1.0 - weights[0]
    seen = Seen(states={"first_weights": weights, "first_bias": torch.full((2, 1), 2.0)})
    found = task.measures(seen, data)
    assert found["weight_on_hidden"].tolist() == [1.0, 0.0]
    # silent at (-1, -1, -1): E[y x_1 1(fires)] = -E[x_2 x_3 1(silent)], and E[y x_i 1(fires)] = E[x_i]/8 elsewhere
    elsewhere = data["x"][0, :, [i for i in range(6) if i not in hidden], 0].mean(0).abs().mean().item()
    assert found["fourier_gap"][0].item() == pytest.approx((1 - elsewhere) / 8, abs=1e-6)
    assert found["fourier_gap"][1].item() == pytest.approx(0.0, abs=1e-6)


def test_how_far_weights_have_moved_is_what_the_run_shows():
    data = {name: values[:2] for name, values in sample_of(Parity()).items()}
    found = Parity().measures(Seen(moved=lambda: torch.tensor([0.0, 1.5])), data)
    assert found["moved"].tolist() == [0.0, 1.5]


def test_measures_are_nan_where_a_model_shows_no_first_layer():
    data = {name: values[:2] for name, values in sample_of(Parity()).items()}
    assert all(torch.isnan(values).all() for values in Parity().measures(Seen(), data).values())


def test_every_sign_of_the_hidden_coordinates_is_gone_through():
    task = Parity(n_bits=5, k=2)
    x = torch.ones(1, 3, 5)
    x[0, 1] = -1.0
    found, product = task.every_sign(x, torch.tensor([[1, 3]]))
    assert found.shape == (1, 12, 5)
    assert sorted(map(tuple, found[0, 4:8, [1, 3]].tolist())) == sorted(itertools.product([-1.0, 1.0], repeat=2))
    assert (found[0, 4:8][:, [0, 2, 4]] == -1.0).all()
    assert torch.equal(product, found[..., 1] * found[..., 3])
