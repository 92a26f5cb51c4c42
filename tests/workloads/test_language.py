"""Texts as words, and what `language` makes of them: stretches of the text, seeds that know different parts of it."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from small_runs import alone, assert_same, run, train

from workloads.errors import SpecError
from workloads.maps import attention_maps
from workloads.spec import resolve
from workloads.streams import generator
from workloads.tasks.language import Language
from workloads.texts import NoText, ids_of, words_of

CPU = torch.device("cpu")
TEXT = "the cat sat on the mat. the dog sat, too: the end. " * 30
BASE = {
    "task": {"name": "language", "text": "cats", "words": 8, "length": 16},
    "model": {"name": "transformer", "width": 12, "heads": 1, "layers": 1, "mlp_ratio": 1.0, "causal": True,
              "positions": "sinusoidal", "activation": "relu", "init_std": 0.2},
    "optim": {"name": "sgd", "lr": 2.0, "clip_norm": 0.5},
    "budget": {"steps": 20, "batch": 4},
    "log": {"measures_every_steps": 6},
}  # fmt: skip


@pytest.fixture(autouse=True)
def cats(tmp_path, monkeypatch):
    folder = tmp_path / "texts with spaces"
    folder.mkdir()
    (folder / "cats.txt").write_text(TEXT, encoding="utf-8")
    monkeypatch.setenv("EUREKA_DATA", str(folder))
    return folder


def test_words_are_lower_case_with_marks_apart():
    assert words_of('He said: "Don\'t (ever)!"\nWhy?') == [
        "he", "said", "don", "'", "t", "(", "ever", ")", "!", "why", "?",
    ]  # fmt: skip


def test_ids_go_by_frequency_and_the_rest_is_zero():
    words = words_of(TEXT)
    ids = ids_of("cats", words=4)
    order = [word for word, _ in Counter(words).most_common()]
    assert [order.index(word) + 1 if order.index(word) < 3 else 0 for word in words] == ids.tolist()
    assert ids_of("cats", words=1000).max() == len(order)


def test_an_unknown_marker_of_the_text_is_the_unknown_word(cats):
    (cats / "marked.txt").write_text("<unk> a <unk> <unk> b", encoding="utf-8")
    assert ids_of("marked", words=3).tolist() == [0, 1, 0, 0, 2]


def test_examples_are_stretches_of_the_known_text():
    task = Language(text="cats", words=8, length=5, share=0.5)
    world = task.world(generator(3, "world", device=CPU))
    stream = world["stream"].tolist()
    whole = ids_of("cats", words=8).tolist()
    assert len(stream) == len(whole) // 2
    assert any(stream == (whole * 2)[i : i + len(stream)] for i in range(len(whole)))
    data = task.sample(world, generator(3, "batches", device=CPU), steps=4, batch=50)
    there = {tuple(stream[i : i + 6]) for i in range(len(stream) - 5)}
    assert torch.equal(data["x"][..., 1:], data["y"][..., :-1])
    for x, y in zip(data["x"].flatten(0, 1).tolist(), data["y"].flatten(0, 1).tolist(), strict=True):
        assert (*x, y[-1]) in there


def test_data_seeds_know_different_parts():
    task = Language(text="cats", words=8, length=5, share=0.5)
    one, other = (task.world(generator(seed, "world", device=CPU))["stream"] for seed in (1, 2))
    assert not torch.equal(one, other)


def test_levels_are_those_of_every_word_counted():
    """Of all places of the text, one by one: the best answer without the word read, and with it."""
    levels = Language(text="cats", words=8).levels()
    ids = ids_of("cats", words=8).tolist()
    counts = Counter(ids)
    assert levels.loss_plateau == pytest.approx(-sum(math.log(counts[word] / len(ids)) for word in ids) / len(ids))
    assert levels.accuracy_plateau == pytest.approx(max(counts.values()) / len(ids))
    places = list(itertools.pairwise(ids))
    pairs, read = Counter(places), Counter(ids[:-1])
    losses = [-math.log(pairs[place] / read[place[0]]) for place in places]
    assert levels.loss_floor == pytest.approx(sum(losses) / len(losses))
    best = {word: max(pairs[word, after] for after in set(ids)) for word in read}
    assert levels.accuracy_ceiling == pytest.approx(sum(best.values()) / len(places))
    assert 0 < levels.loss_floor < levels.loss_plateau < levels.loss_chance


def test_a_text_of_one_word_has_no_levels(cats):
    (cats / "one.txt").write_text("word", encoding="utf-8")
    with pytest.raises(NoText, match=r"'one' has 1 words; expected two at least"):
        Language(text="one", words=8).levels()


def test_ids_are_the_frozen_ones():
    """If it fails, stored runs would be trained again: raise the task's version where its meaning has changed."""
    spec = resolve(
        {"task": {"name": "language"}, "model": {"causal": True}, "optim": {"lr": 1e-3}, "budget": {"steps": 10}}
    )
    assert spec.run_id == "399b598a27888b33"


def test_missing_texts_and_names_that_are_paths_are_refused(monkeypatch):
    with pytest.raises(NoText, match=r"dogs\.txt: cannot be read"):
        ids_of("dogs", words=8)
    monkeypatch.delenv("EUREKA_DATA")
    with pytest.raises(NoText, match="EUREKA_DATA is not set"):
        ids_of("dogs", words=8)
    with pytest.raises(SpecError, match="text"):
        resolve({**BASE, "task": {"name": "language", "text": "../secrets"}})


def test_the_embedded_text_needs_no_data(monkeypatch):
    monkeypatch.delenv("EUREKA_DATA")
    ids = ids_of("pydoc", words=2048)
    assert len(ids) > 50_000
    assert (ids == 0).mean() < 0.2


def test_runs_are_bitwise_the_same_in_company_and_learn():
    members = [run(seed, {"budget.steps": 20 + 7 * seed}, base=BASE) for seed in range(3)]
    wanted = alone(members)
    assert_same(train(members), wanted)
    assert_same(train(members[::-1], width=2), wanted)
    [long] = alone([run(0, {"budget.steps": 200}, base=BASE)]).values()
    assert long.metrics["loss"][-20:].mean() < 0.6 * Language(text="cats", words=8).levels().loss_plateau


def test_entropy_is_recorded_layer_by_layer():
    [outcome] = alone([run(0, {"task.entropy_layers": 3, "model.layers": 2}, base=BASE)]).values()
    first, second, third = (outcome.measures[f"attention_entropy_{i}"] for i in (1, 2, 3))
    np.testing.assert_allclose((first + second) / 2, outcome.measures["attention_entropy"], rtol=1e-6)
    assert not np.array_equal(first, second)
    assert np.isnan(third).all()


def test_maps_are_those_of_the_run_itself():
    spec = run(0, {"model.layers": 2, "budget.steps": 40, "log": {"measures_every_steps": 0}}, base=BASE)
    maps = attention_maps(spec, at_steps=[0, 30], examples=4)
    assert list(maps) == [0, 30]
    [outcome] = alone(
        [run(0, {"model.layers": 2, "budget.steps": 40, "log": {"measures_every_steps": 1}}, base=BASE)]
    ).values()
    for layers in maps.values():
        assert [m.shape for m in layers] == [(4, 1, 16, 16)] * 2
        assert all(np.allclose(m.sum(-1), 1, atol=1e-5) and (np.triu(m, 1) == 0).all() for m in layers)
    entropies = [-(m * np.log(m, where=m > 0, out=np.zeros_like(m))).sum(-1).mean() for m in maps[0]]
    assert np.mean(entropies) == pytest.approx(outcome.measures["attention_entropy"][0], rel=1e-4)  # the same batch
    assert not np.allclose(maps[0][0], maps[30][0], atol=1e-3)
