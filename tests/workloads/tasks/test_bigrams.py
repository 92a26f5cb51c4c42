"""Letters that follow as in a text, triggers that follow the example; levels against every example of a tiny text."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from workloads.errors import SpecError
from workloads.seen import Seen
from workloads.spec import resolve
from workloads.streams import generator
from workloads.tasks.bigrams import Bigrams, example_levels
from workloads.texts import NoText

CPU = torch.device("cpu")
TASK = Bigrams(length=40, triggers=3)


def sample_of(task: Bigrams, seed: int = 3, *, steps: int = 16, batch: int = 64) -> dict[str, torch.Tensor]:
    world = task.world(generator(seed, "world", device=CPU))
    data = task.sample(world, generator(seed, "batches", device=CPU), steps=steps, batch=batch)
    return {name: values.flatten(0, 1) for name, values in data.items()}


def test_each_position_is_followed_by_what_is_written():
    data = sample_of(TASK)
    assert torch.equal(data["x"][:, 1:], data["y"][:, :-1])


def test_a_trigger_has_one_output_in_an_example_and_others_in_others():
    data, found = sample_of(TASK), defaultdict(set)
    for example, (x, y) in enumerate(zip(data["x"].tolist(), data["y"].tolist(), strict=True)):
        for letter, output in zip(x, y, strict=True):
            if letter < TASK.triggers:
                found[example, letter].add(output)
    assert all(len(outputs) == 1 for outputs in found.values())
    counts = np.bincount([output for (output,) in found.values()], minlength=65)
    assert (counts[: TASK.triggers] == 0).all()  # never a trigger
    assert (counts[TASK.triggers :] > 0).all()


def test_recalled_are_triggers_that_stood_earlier_in_the_example():
    data = sample_of(TASK)
    for x, recalled in zip(data["x"].tolist(), data["recalled"].tolist(), strict=True):
        assert recalled == [letter < 3 and letter in x[:at] for at, letter in enumerate(x)]


def test_ordinary_letters_follow_each_other_as_in_the_text():
    task = Bigrams(length=64, letters=20, triggers=1)
    data = sample_of(task, batch=200)
    first, following = task.laws
    begun = np.bincount(data["x"][:, 0], minlength=20) / len(data["x"])
    assert np.abs(begun - first).max() < 0.03
    pairs = np.zeros((20, 20))
    np.add.at(pairs, (data["x"].flatten().numpy(), data["y"].flatten().numpy()), 1.0)
    shares = pairs[1:] / pairs[1:].sum(1, keepdims=True)
    assert np.abs(shares - following[1:]).max() < 0.05


def test_letters_go_by_frequency_and_rare_ones_are_taken_out(tmp_path, monkeypatch):
    (tmp_path / "abc.txt").write_text("aZabaYbcca", encoding="utf-8")
    monkeypatch.setenv("EUREKA_DATA", str(tmp_path))
    first, following = Bigrams(text="abc", letters=3, triggers=1).laws  # a a b a b c c a, and round
    assert first.tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert following.tolist() == [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.5, 0.0, 0.5]]


def counted(first: np.ndarray, following: np.ndarray, *, triggers: int, length: int) -> tuple[float, float, float]:
    """Every example with every output: best answers to the letter, to all that was read, and to triggers once known."""
    n = len(first)
    chances: dict[tuple[int, ...], float] = defaultdict(float)
    drawn = list(itertools.product(range(triggers, n), repeat=triggers))
    for outputs in drawn:
        for words in itertools.product(range(n), repeat=length + 1):
            chance = first[words[0]] / len(drawn)
            for a, b in itertools.pairwise(words):
                chance *= (outputs[a] == b) if a < triggers else following[a, b]
            chances[words] += chance
    to_letter, to_all, recalled = defaultdict(float), defaultdict(float), defaultdict(float)
    for words, chance in chances.items():
        for at in range(length):
            to_letter[words[at], words[at + 1]] += chance
            to_all[words[: at + 1], words[at + 1]] += chance
            if words[at] < triggers and words[at] in words[:at]:
                recalled[words[at], words[at + 1]] += chance

    def loss(pairs: dict) -> float:
        given: dict = defaultdict(float)
        for (known, _), chance in pairs.items():
            given[known] += chance
        return -sum(p * math.log(p / given[known]) for (known, _), p in pairs.items() if p > 0) / length

    best = sum(max(p for (letter, _), p in recalled.items() if letter == t) for t in range(triggers))
    return loss(to_letter), loss(to_all), best / sum(recalled.values())


LAW = np.array([0.4, 0.3, 0.2, 0.1])
FOLLOWING = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.1, 0.1, 0.3], [0.6, 0.2, 0.1, 0.1], [0.3, 0.3, 0.2, 0.2]])


@pytest.mark.parametrize(("triggers", "length", "off"), [(1, 3, 1e-9), (1, 6, 1e-9), (2, 5, 0.02)])
def test_levels_are_those_of_all_examples_counted_one_by_one(triggers, length, off):
    """With one trigger to the last digit; with two, outputs are averaged over a few rounds."""
    found = example_levels((LAW, FOLLOWING), triggers=triggers, length=length)
    wanted = counted(LAW, FOLLOWING, triggers=triggers, length=length)
    assert found == pytest.approx(wanted, rel=off)


def test_plateau_is_what_a_table_of_pairs_reaches_on_drawn_examples():
    data = sample_of(TASK, batch=400)
    pairs = torch.zeros(65, 65, dtype=torch.float64)
    pairs.index_put_((data["x"].flatten(), data["y"].flatten()), torch.ones((), dtype=torch.float64), accumulate=True)
    logits = (pairs / pairs.sum(1, keepdim=True)).log().clamp_min(-50.0).float()[data["x"]]
    scores = TASK.objective(logits[None], {name: values[None] for name, values in data.items()})
    levels = TASK.levels()
    assert scores["loss"].item() == pytest.approx(levels.loss_plateau, rel=0.02)
    assert scores["accuracy"].item() == pytest.approx(levels.accuracy_plateau, abs=0.02)


def test_measures_find_a_hand_built_induction_head():
    task = Bigrams(length=6, letters=8, triggers=2)
    x = torch.tensor([[[0, 5, 1, 0, 5, 1]]])  # 0 is followed by 5; recalled at positions 3 and 5
    recalled = torch.tensor([[[False, False, False, True, False, True]]])
    back, head = torch.zeros(1, 1, 1, 6, 6), torch.zeros(1, 1, 1, 6, 6)
    for at in range(6):
        back[..., at, max(0, at - 1)] = 1.0
    head[..., 3, 1], head[..., 3, 0] = 0.75, 0.25
    head[..., 5, 3] = 0.5  # behind the trigger 1 of position 2
    perfect = {"previous": torch.eye(6).roll(1, 0)[None], "match": torch.eye(8)[None], "output": torch.eye(8)[None]}
    seen = Seen(attention=[back, head], states=perfect)
    found = {name: value.item() for name, value in task.measures(seen, {"x": x, "y": x, "recalled": recalled}).items()}
    assert found == {"attention_on_previous": 1.0, "attention_on_output": 0.625, "recall_previous": 1.0,
                     "recall_match": 1.0, "recall_output": 1.0}  # fmt: skip
    seen.states["match"] = torch.eye(8).roll(1, 0)[None]
    seen.states["output"] = torch.cat([torch.eye(8)[:2], torch.zeros(6, 8)])[None]
    seen.states["previous"] = torch.eye(6)[None]
    worse = task.measures(seen, {"x": x, "y": x, "recalled": recalled})
    assert [worse[f"recall_{name}"].item() for name in ("previous", "match", "output")] == [0.0, 0.0, 0.25]


def test_measures_are_nan_of_models_that_show_nothing():
    data = {name: values[None] for name, values in sample_of(TASK).items()}
    assert all(torch.isnan(values).all() for values in TASK.measures(Seen(), data).values())


def test_a_text_of_too_few_letters_and_too_many_triggers_are_refused(tmp_path, monkeypatch):
    (tmp_path / "short.txt").write_text("abab", encoding="utf-8")
    monkeypatch.setenv("EUREKA_DATA", str(tmp_path))
    with pytest.raises(NoText, match=r"'short' has 2 different characters; expected task\.letters, 65"):
        Bigrams(text="short").levels()
    with pytest.raises(SpecError, match="triggers of at most letters - 2"):
        resolve({"task": {"name": "bigrams", "letters": 5, "triggers": 4}, "model": {"name": "memories"},
                 "optim": {"name": "sgd", "lr": 1.0}, "budget": {"steps": 1}})  # fmt: skip
