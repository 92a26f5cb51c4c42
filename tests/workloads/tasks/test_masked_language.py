"""Which words are covered, replaced and left; the plateau by counting all cases; measures by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from workloads.errors import SpecError
from workloads.seen import Seen
from workloads.spec import resolve
from workloads.streams import generator
from workloads.tasks.masked_language import MaskedLanguage, own_place_levels
from workloads.texts import NoText, ids_of

CPU = torch.device("cpu")
TASK = MaskedLanguage(words=64, length=20)


@pytest.fixture(scope="module")
def data() -> dict[str, torch.Tensor]:
    world = TASK.world(generator(3, "world", device=CPU))
    drawn = TASK.sample(world, generator(3, "batches", device=CPU), steps=16, batch=300)
    return {name: values.flatten(0, 1) for name, values in drawn.items()}


def test_words_that_are_not_chosen_are_the_texts(data):
    assert data["chosen"].shape[1] == 3
    assert (data["chosen"].sort(1).values.diff(dim=1) > 0).all()
    spared = torch.ones_like(data["x"], dtype=torch.bool).scatter(1, data["chosen"], False)
    assert torch.equal(data["x"][spared], data["y"][spared])
    text = "".join(chr(i) for i in ids_of("pydoc", words=64)) * 2
    assert all("".join(map(chr, row)) in text for row in data["y"][:50].tolist())


def test_of_ten_chosen_words_eight_are_covered_one_replaced_and_one_left(data):
    shown, own = data["x"].gather(1, data["chosen"]), data["y"].gather(1, data["chosen"])
    shares = torch.bincount(data["case"].flatten()) / data["case"].numel()
    assert shares.tolist() == pytest.approx([0.8, 0.1, 0.1], abs=0.015)
    assert torch.equal(shown == 64, data["case"] == 0)
    assert (shown == own)[data["case"] == 2].all()
    replaced = shown[data["case"] == 1]
    assert (torch.bincount(replaced, minlength=64) / len(replaced)).max() < 0.04  # any word alike
    places = torch.bincount(data["chosen"].flatten(), minlength=20) / data["chosen"].numel()
    assert places.tolist() == pytest.approx([1 / 20] * 20, abs=0.01)


def test_plateau_is_that_of_every_case_counted_one_by_one():
    shares = np.array([0.6, 0.3, 0.1, 0.0])
    together = np.zeros((5, 4))  # what is seen, what is right; 4 is the cover
    for right, p in enumerate(shares):
        together[4, right] += 0.8 * p
        together[right, right] += 0.1 * p
        for other in range(4):
            together[other, right] += 0.1 * p / 4
    loss = right_share = 0.0
    for row in together:
        loss -= sum(p * math.log(p / row.sum()) for p in row if p)
        right_share += row.max()
    assert own_place_levels(shares) == (pytest.approx(loss), pytest.approx(right_share))


def test_floor_is_that_of_every_pair_counted_one_by_one(tmp_path, monkeypatch):
    """Who reads the word before, and what stands in the place itself, by going through all that can be seen."""
    (tmp_path / "tiny.txt").write_text("a b a b a c a b c a a b")
    monkeypatch.setenv("EUREKA_DATA", str(tmp_path))
    task = MaskedLanguage(text="tiny", words=5, length=2)
    ids = ids_of("tiny", words=5).tolist()
    together: dict[tuple[int, int], list[float]] = {}  # (the word before, what is seen): how often each word is right
    for before, right in itertools.pairwise(ids):
        share = 1 / (len(ids) - 1)
        for seen, p in [(5, 0.8), (right, 0.1), *((other, 0.1 / 5) for other in range(5))]:
            together.setdefault((before, seen), [0.0] * 5)[right] += share * p
    loss = -sum(p * math.log(p / sum(row)) for row in together.values() for p in row if p)
    levels = task.levels()
    assert levels.loss_floor == pytest.approx(loss)
    assert levels.accuracy_ceiling == pytest.approx(sum(max(row) for row in together.values()))
    assert levels.loss_floor < levels.loss_plateau


def test_a_text_of_one_word_is_refused(tmp_path, monkeypatch):
    (tmp_path / "short.txt").write_text("word")
    monkeypatch.setenv("EUREKA_DATA", str(tmp_path))
    with pytest.raises(NoText, match=r"'short' has 1 words; expected two at least"):
        MaskedLanguage(text="short").levels()


def test_levels_are_counted_in_the_text():
    counts = np.bincount(ids_of("pydoc", words=64), minlength=64) / len(ids_of("pydoc", words=64))
    levels = TASK.levels()
    assert (levels.loss_plateau, levels.accuracy_plateau) == pytest.approx(own_place_levels(counts))
    assert 0.8 * -(counts * np.log(counts)).sum() < levels.loss_plateau < -(counts * np.log(counts)).sum()


def test_only_chosen_places_are_scored():
    y = torch.tensor([[[5, 6, 7]]])
    output = torch.zeros(1, 1, 3, 64)
    output[0, 0, 1, 6] = 50.0
    found = TASK.objective(output, {"y": y, "chosen": torch.tensor([[[1]]])})
    assert (found["loss"].item(), found["accuracy"].item()) == (pytest.approx(0.0, abs=1e-6), 1.0)
    found = TASK.objective(output, {"y": y, "chosen": torch.tensor([[[1, 2]]])})
    assert (found["loss"].item(), found["accuracy"].item()) == (pytest.approx(math.log(64) / 2, rel=1e-5), 0.5)


def test_measures_are_accuracies_case_by_case_and_attention_on_neighbours():
    task = MaskedLanguage(words=8, length=4)
    y = torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 1]]])
    batch = {
        "x": y,
        "y": y,
        "chosen": torch.tensor([[[0, 1, 2], [3, 2, 1]]]),
        "case": torch.tensor([[[0, 0, 1], [0, 2, 2]]]),
    }
    answers = torch.tensor([[[1, 0, 3, 0], [0, 6, 0, 0]]])
    again = lambda x: torch.nn.functional.one_hot(answers, 8).float()  # noqa: E731
    maps = torch.zeros(1, 2, 2, 4, 4)
    maps[0, :, 0, 0, 1] = maps[0, :, 0, 3, 2] = 0.6
    maps[0, :, 0, 1, 0] = maps[0, :, 0, 1, 2] = 0.3
    found = task.measures(Seen(attention=[maps], again=again), batch)
    assert {name: value.item() for name, value in found.items()} == {
        "accuracy_covered": pytest.approx(1 / 3),
        "accuracy_replaced": 1.0,
        "accuracy_left": 0.5,
        "attention_on_neighbours": pytest.approx((0.6 + 0.6 + 0.6) / 4),
    }


@pytest.mark.parametrize("changes", [{"masked": 0.0}, {"masked": 1.0}, {"text": "../secrets"}, {"words": 2}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(SpecError, match=next(iter(changes))):
        resolve({"task": {"name": "masked_language", **changes}, "model": {}, "optim": {"lr": 1e-3},
                 "budget": {"steps": 1}})  # fmt: skip
