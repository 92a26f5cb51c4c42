"""Sums by hand, splits that do not overlap, the whole table at every step, waves that stand out and their losses."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from workloads.errors import SpecError
from workloads.seen import Seen
from workloads.spec import resolve
from workloads.streams import generator
from workloads.tasks.modular_addition import ModularAddition

CPU = torch.device("cpu")


def sample_of(task: ModularAddition, *, batch: int, seed: int = 3) -> dict[str, torch.Tensor]:
    world = task.world(generator(seed, "world", device=CPU))
    return task.sample(world, generator(seed, "batches", device=CPU), steps=16, batch=batch)


def pairs(x: torch.Tensor) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in x.flatten(0, -2).tolist()}


@pytest.mark.parametrize("batch", [10, 64, 121])
def test_answers_are_sums_and_trained_pairs_are_never_held_out(batch):
    task = ModularAddition(modulus=11)
    data = sample_of(task, batch=batch)
    assert torch.equal(data["x"].sum(-1) % 11, data["y"])
    n = task.train_rows(batch)
    trained, held_out = pairs(data["x"][:, :n]), pairs(data["x"][:, n:])
    assert not trained & held_out
    assert len(trained) <= task.train_pairs == 36


def test_a_batch_of_the_whole_table_is_the_whole_table_at_every_step():
    task = ModularAddition(modulus=11)
    data = sample_of(task, batch=121)
    assert len(pairs(data["x"][0])) == 121
    assert all(torch.equal(data["x"][0], step) for step in data["x"])
    assert task.train_rows(121) == task.train_pairs


def test_the_papers_table_is_split_as_the_paper_has_it():
    task = ModularAddition()
    assert (task.train_pairs, task.train_rows(113**2)) == (3831, 3831)  # 3830 there: it rounds down


def test_loss_is_of_trained_rows_and_accuracy_of_held_out_ones():
    task = ModularAddition(modulus=4, held_out_share=0.5)
    y = torch.tensor([[0, 1, 2, 3]])
    logits = 50.0 * F.one_hot(torch.tensor([[0, 1, 2, 2]]), 4).float()
    found = {name: value.item() for name, value in task.objective(logits, {"y": y}).items()}
    assert found["loss"] == pytest.approx(0.0, abs=1e-6)
    assert (found["accuracy"], found["train_accuracy"]) == (0.5, 1.0)
    assert found["held_out_loss"] == pytest.approx(25.0)


def test_held_out_rows_move_no_weight():
    task = ModularAddition(modulus=4, held_out_share=0.5)
    logits = torch.zeros(1, 4, 4, requires_grad=True)
    [grad] = torch.autograd.grad(sum(task.objective(logits, {"y": torch.tensor([[0, 1, 2, 3]])}).values()), logits)
    assert grad[0, :2].abs().sum() > 0
    assert grad[0, 2:].abs().sum() == 0


def test_a_table_of_five_waves_lives_on_five_frequencies():
    task = ModularAddition(modulus=23)
    numbers = torch.arange(23.0)
    waves = torch.stack([torch.cos(2 * math.pi * f * numbers / 23 + f) for f in (1, 3, 4, 8, 11)], dim=1) + 5.0
    even = torch.eye(23)  # the same power in each of eleven frequencies
    seen = Seen(states={"words": torch.stack([F.pad(waves, (0, 18)), even])})
    found = task.measures(seen, {"y": torch.zeros(2, 1)})
    assert found["key_frequency_share"].tolist() == pytest.approx([1.0, 5 / 11], rel=1e-5)


def answering(*tables: torch.Tensor) -> Seen:
    """Models whose answer to (a, b) is table[a, b]."""
    stacked = torch.stack(tables)
    return Seen(again=lambda x: stacked[torch.arange(len(x))[:, None], x[..., 0], x[..., 1]])


def rule(p: int, *frequencies: int) -> torch.Tensor:
    """The hand-built solution: answers that are waves of a + b - c."""
    a, b, c = torch.meshgrid(*[torch.arange(float(p))] * 3, indexing="ij")
    return sum(4.0 * torch.cos(2 * math.pi * f * (a + b - c) / p) for f in frequencies)


def batch_of(task: ModularAddition, k: int, batch: int = 40) -> dict[str, torch.Tensor]:
    return {name: values[0].expand(k, *values.shape[1:]) for name, values in sample_of(task, batch=batch).items()}


def loss_of(table: torch.Tensor, x: torch.Tensor) -> float:
    p = len(table)
    return F.cross_entropy(table[x[:, 0], x[:, 1]], (x[:, 0] + x[:, 1]) % p).item()


def test_a_hand_built_solution_is_all_restricted_and_excluded_it_knows_nothing():
    task = ModularAddition(modulus=13)
    table, every = rule(13, 2, 3, 6), torch.cartesian_prod(torch.arange(13), torch.arange(13))
    found = task.measures(answering(table), batch_of(task, 1))
    assert found["restricted_loss"].item() == pytest.approx(loss_of(table, every), rel=1e-4)
    assert found["excluded_loss"].item() == pytest.approx(math.log(13), rel=1e-5)
    assert {found[f"key_frequency_{i}"].item() for i in (1, 2, 3)} == {2.0, 3.0, 6.0}


def test_answers_known_by_heart_do_without_the_key_frequencies():
    """A table of single pairs is spread over all waves, so it loses nothing with ten of them."""
    task = ModularAddition(modulus=13)
    data = batch_of(task, 1, batch=169)
    table = torch.zeros(13, 13, 13)
    x = data["x"][0, : task.train_pairs]
    table[x[:, 0], x[:, 1], (x[:, 0] + x[:, 1]) % 13] = 12.0
    found = task.measures(answering(table), data)
    assert found["excluded_loss"].item() < 0.1 < loss_of(torch.zeros_like(table), x)


@pytest.mark.parametrize("keys", ["", "1 5"])
@pytest.mark.parametrize("p", [11, 12])
def test_restricted_and_excluded_loss_equal_those_of_the_transformed_table(p, keys):
    """Oracle: both axes transformed whole, all but the keys' two entries and the constant put out, and back."""
    task = ModularAddition(modulus=p, key_frequencies=keys)
    rng = generator(1, "tables", device=CPU)
    tables = [torch.randn(p, p, p, generator=rng) + rule(p, *some) for some in ((1, 4), (2, 3, 5))]
    data = batch_of(task, 2)
    found = task.measures(answering(*tables), data)
    every = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    for k, table in enumerate(tables):
        spectrum = torch.fft.fft2(table.double(), dim=(0, 1))
        chosen = [int(f) for f in keys.split()] or [int(found[f"key_frequency_{i}"][k]) for i in range(1, 6)]
        kept = torch.zeros(p, p, 1, dtype=torch.bool)
        for f in chosen:
            kept[f, f] = kept[-f, -f] = True
        excluded = torch.fft.ifft2(spectrum * ~kept, dim=(0, 1)).real
        kept[0, 0] = True
        restricted = torch.fft.ifft2(spectrum * kept, dim=(0, 1)).real
        assert found["restricted_loss"][k].item() == pytest.approx(loss_of(restricted, every), rel=1e-4)
        trained = data["x"][k, : task.train_rows(40)]
        assert found["excluded_loss"][k].item() == pytest.approx(loss_of(excluded, trained), rel=1e-4)


def test_strongest_frequencies_come_in_order_of_their_power():
    table = rule(23, 7) + 2.0 * rule(23, 4) + 0.5 * rule(23, 9)
    found = ModularAddition(modulus=23).measures(answering(table), batch_of(ModularAddition(modulus=23), 1))
    assert [found[f"key_frequency_{i}"].item() for i in (1, 2, 3)] == [4.0, 7.0, 9.0]


def test_measures_are_nan_where_a_model_shows_nothing():
    found = ModularAddition(modulus=7).measures(Seen(), {"y": torch.zeros(2, 1)})
    assert found.keys() == set(ModularAddition(modulus=7).MEASURES)
    assert all(torch.isnan(values).all() for values in found.values())


@pytest.mark.parametrize("keys", ["0", "3 6", "3,4", "a"])
def test_key_frequencies_that_do_not_exist_are_refused(keys):
    with pytest.raises(SpecError, match="key_frequencies"):
        resolve({"task": {"name": "modular_addition", "modulus": 11, "key_frequencies": keys}, "model": {},
                 "optim": {"lr": 1e-3}, "budget": {"steps": 1}})  # fmt: skip
