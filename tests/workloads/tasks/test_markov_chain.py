"""Chains and their laws; levels against the published numbers and counting by hand; measures by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from workloads.seen import Seen
from workloads.streams import generator
from workloads.tasks.markov_chain import MarkovChain, chains, counted, stationary

CPU = torch.device("cpu")


def sample_of(task: MarkovChain, *, blocks: int = 1, steps: int = 16, batch: int = 64) -> dict[str, torch.Tensor]:
    found = [task.sample({}, generator(3, "batches", b, device=CPU), steps=steps, batch=batch) for b in range(blocks)]
    return {name: torch.cat([data[name] for data in found]).flatten(0, 1) for name in found[0]}


def kl(law: np.ndarray, answer: np.ndarray) -> np.ndarray:
    return (law * np.log(law / answer)).sum(-1)


@pytest.mark.parametrize("prior", ["dirichlet", "doubly_stochastic"])
def test_chains_are_laws_of_their_prior(prior):
    laws = chains(3, generator(0, "world", device=CPU), size=(4000,), prior=prior)
    torch.testing.assert_close(laws.sum(-1), torch.ones(4000, 3, dtype=torch.float64))
    assert (laws > 0).all()
    if prior == "dirichlet":
        assert laws.var(0).numpy() == pytest.approx(2 / 36, rel=0.15)  # of Dirichlet(1, 1, 1): a (A-a) / A² (A+1)
    else:
        torch.testing.assert_close(laws.sum(-2), torch.ones(4000, 3, dtype=torch.float64), atol=1e-3, rtol=0)


def test_the_stationary_law_stays():
    laws = chains(5, generator(0, "world", device=CPU), size=(100,), prior="dirichlet")
    settled = stationary(laws)
    torch.testing.assert_close((settled[:, None] @ laws)[:, 0], settled)
    torch.testing.assert_close(settled.sum(-1), torch.ones(100, dtype=torch.float64))


def test_the_law_is_that_of_what_follows_the_last_symbol():
    data = sample_of(MarkovChain(symbols=3, length=4000), steps=1, batch=20)
    for x, y, law in zip(data["x"], data["y"], data["law"], strict=True):
        assert torch.equal(x[1:], y[:-1])
        after = y[x == x[-1]]
        shares = torch.bincount(after, minlength=3) / len(after)
        torch.testing.assert_close(shares, law, atol=5 * 0.5 / math.sqrt(len(after)), rtol=0)


def test_chains_begin_where_they_settle():
    """A first symbol is as frequent later as one from the middle is; one drawn at random would be rarer."""
    x = sample_of(MarkovChain(symbols=3, length=120), blocks=4)["x"]
    late = x[:, 80:]
    first, middle, anything = ((late == x[:, [at]]).float().mean().item() for at in (0, 40, 40))
    anything = (late == torch.arange(len(x))[:, None] % 3).float().mean().item()
    assert first == pytest.approx(middle, abs=0.015)
    assert first > anything + 0.04


def test_kl_levels_are_the_published_ones():
    """Edelman et al. 2024, two symbols, 100 read: 0.211, 0.087, 0.0093 nats, recomputed elsewhere."""
    levels = MarkovChain().kl_levels()
    assert levels["uniform"] == pytest.approx(0.211, abs=0.002)
    assert levels["unigram"] == pytest.approx(0.087, abs=0.002)
    assert levels["bigram"] == pytest.approx(0.0093, abs=0.0003)


@pytest.mark.parametrize("k", [2, 4])
def test_kl_levels_are_those_of_counting_in_examples(k):
    task = MarkovChain(symbols=k, length=30)
    data = {name: values.numpy() for name, values in sample_of(task, blocks=8).items()}
    law = data["law"].astype(np.float64)
    alone, pairs = np.ones((len(law), k)), np.ones((len(law), k))
    for row, x in enumerate(data["x"]):
        for a, b in zip(x, [*x[1:], None], strict=True):
            alone[row, a] += 1
            if b is not None and a == x[-1]:
                pairs[row, b] += 1
    answers = {
        "uniform": np.full_like(law, 1 / k),
        "unigram": alone / alone.sum(1, keepdims=True),
        "bigram": pairs / pairs.sum(1, keepdims=True),
    }
    for name, level in task.kl_levels().items():
        each = kl(law, answers[name])
        assert level == pytest.approx(each.mean(), abs=4 * each.std() / math.sqrt(len(each))), name


def test_uniform_level_of_two_symbols_is_its_integral():
    """Chains (a, b) of leaving 0 and 1: the stationary mean of ln 2 - H, over the unit square."""
    grid = (np.arange(2000) + 0.5) / 2000
    entropy = -grid * np.log(grid) - (1 - grid) * np.log(1 - grid)
    a, b = grid[:, None], grid[None]
    mean = math.log(2) - ((b * entropy[:, None] + a * entropy[None]) / (a + b)).mean()
    assert MarkovChain().kl_levels()["uniform"] == pytest.approx(mean, rel=0.01)


def test_loss_levels_are_those_of_counting_at_every_position():
    task = MarkovChain(symbols=2, length=12)
    data = sample_of(task, blocks=8)
    unigram, bigram = [], []
    for at in range(task.length):
        for found, answer in zip((unigram, bigram), counted(data["x"][:, : at + 1], symbols=2), strict=True):
            right = answer.gather(1, data["y"][:, at : at + 1])[:, 0]
            found.append((-right.log(), answer.argmax(1) == data["y"][:, at]))
    levels = task.levels()
    for found, loss in ((unigram, levels.loss_plateau), (bigram, levels.loss_floor)):
        each = torch.stack([losses for losses, _ in found]).mean(0)
        assert loss == pytest.approx(each.mean().item(), abs=4 * each.std().item() / math.sqrt(len(each)))
    for found, share in ((unigram, levels.accuracy_plateau), (bigram, levels.accuracy_ceiling)):
        each = torch.stack([right.float() for _, right in found]).mean(0)
        assert share == pytest.approx(each.mean().item(), abs=4 * each.std().item() / math.sqrt(len(each)) + 0.02)


def test_counting_symbols_is_worth_nothing_where_all_are_equally_frequent():
    task = MarkovChain(prior="doubly_stochastic")
    levels, kls = task.levels(), task.kl_levels()
    assert kls["unigram"] > kls["uniform"] > 5 * kls["bigram"]
    assert levels.loss_plateau == levels.loss_chance == pytest.approx(math.log(2))


def test_kl_is_read_at_the_last_position():
    law = torch.tensor([[[0.25, 0.75], [0.5, 0.5]]])
    output = torch.zeros(1, 2, 3, 2)
    output[0, 0, -1] = torch.tensor([0.25, 0.75]).log()
    output[0, 1, -1] = torch.tensor([0.25, 0.75]).log()
    found = MarkovChain(length=3).objective(output, {"y": torch.zeros(1, 2, 3, dtype=torch.int64), "law": law})
    assert found["kl"].item() == pytest.approx(0.5 * (math.log(2) + 0.5 * math.log(1 / 3)), rel=1e-5)


def test_measures_are_distances_from_counting_and_attention():
    x = torch.tensor([[[0, 1, 1, 0]]])
    unigram, bigram = torch.tensor([0.5, 0.5]), torch.tensor([1 / 3, 2 / 3])
    maps = torch.zeros(1, 1, 2, 4, 4)
    maps[0, 0, 0, [1, 2, 3], [0, 1, 2]] = torch.tensor([0.9, 0.6, 0.3])
    maps[0, 0, 1, 3] = torch.tensor([0.1, 0.7, 0.1, 0.1])
    again = lambda x: unigram.log().expand(*x.shape, 2)  # noqa: E731
    found = MarkovChain(length=4).measures(Seen(attention=[maps], again=again), {"x": x, "y": x})
    assert {name: value.item() for name, value in found.items()} == {
        "kl_unigram": pytest.approx(0.0, abs=1e-6),
        "kl_bigram": pytest.approx(kl(bigram.numpy(), unigram.numpy()), rel=1e-5),
        "attention_on_previous": pytest.approx(0.6),
        "attention_on_followers": pytest.approx(0.7),
    }
    closed = MarkovChain(length=4).measures(Seen(), {"x": x, "y": x})
    assert all(math.isnan(value.item()) for value in closed.values())
