"""Contexts, bursts, new classes; the plateau by counting contexts; measures by hand."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch

from workloads.errors import SpecError
from workloads.seen import Seen
from workloads.spec import resolve
from workloads.streams import generator
from workloads.tasks.in_context_classification import InContextClassification

CPU = torch.device("cpu")
SMALL = {"pairs": 4, "classes": 6, "labels": 3, "features": 8, "burstiness": 2, "noise": 0.0}


def sample_of(**changes: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    task = InContextClassification(**{**SMALL, **changes})
    world = task.world(generator(3, "world", device=CPU))
    data = task.sample(world, generator(3, "batches", device=CPU), steps=16, batch=64)
    return world, {name: values.flatten(0, 1) for name, values in data.items()}


def index_of(vectors: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Rows of a table that vectors `(…, D)` equal; -1 where there is none."""
    there = (vectors[..., None, :] == table).all(-1)
    return torch.where(there.any(-1), there.int().argmax(-1), -1)


def test_items_bear_the_label_of_their_class_in_context_and_answer():
    world, data = sample_of(p_bursty=0.5)
    item = index_of(data["x"][:, 0::2], world["items"])
    label = index_of(data["x"][:, 1::2], world["labels"])
    assert (item >= 0).all()
    assert torch.equal(world["label_of"][item[:, :-1]], label)
    assert torch.equal(label, data["labels"])
    assert torch.equal(world["label_of"][item[:, -1]], data["y"][:, -1])
    assert torch.equal(item[:, :-1] == item[:, -1:], data["same"])
    assert sorted(Counter(world["label_of"].tolist()).values()) == [2, 2, 2]


def test_bursty_contexts_show_each_class_so_often_and_ask_for_one():
    world, data = sample_of()
    item = index_of(data["x"][:, 0::2], world["items"])
    for context, query in zip(item[:, :-1].tolist(), item[:, -1].tolist(), strict=True):
        assert sorted(Counter(context).values()) == [2, 2]
        assert query in context
    places = data["same"].float().mean(0)
    assert places.tolist() == pytest.approx([0.5] * 4, abs=0.08)  # anywhere in the context


def test_other_contexts_have_nothing_to_do_with_the_query():
    world, data = sample_of(p_bursty=0.0)
    item = index_of(data["x"][:, 0::2], world["items"])
    assert data["same"].float().mean().item() == pytest.approx(1 / 6, abs=0.02)
    assert (torch.bincount(item.flatten(), minlength=6) / item.numel()).tolist() == pytest.approx([1 / 6] * 6, abs=0.02)


def test_new_classes_are_new_in_every_example_and_have_labels_of_their_own():
    world, data = sample_of(p_novel=0.4)
    novel = data["novel"]
    assert novel.float().mean().item() == pytest.approx(0.4, abs=0.06)
    item = index_of(data["x"][:, 0::2], world["items"])
    assert torch.equal((item < 0).all(1), novel)
    for x, labels, same, y in zip(*(data[name][novel] for name in ("x", "labels", "same", "y")), strict=True):
        items = [tuple(row) for row in x[0::2].tolist()]
        assert sorted(Counter(items[:-1]).values()) == [2, 2]
        assert len(set(labels.tolist())) == 2
        assert same.tolist() == [each == items[-1] for each in items[:-1]]
        assert set(labels[same].tolist()) == {int(y[-1])}


@pytest.mark.parametrize("p_bursty", [0.0, 1.0])
def test_frequent_classes_come_first_under_zipfs_law(p_bursty):
    world, data = sample_of(zipf=2.0, p_bursty=p_bursty)
    item = index_of(data["x"][:, 0::2], world["items"])
    shares = torch.bincount(item.flatten(), minlength=6) / item.numel()
    assert (shares.diff() < 0).all()
    if p_bursty == 0.0:
        wanted = torch.arange(1, 7).float() ** -2
        assert shares.tolist() == pytest.approx((wanted / wanted.sum()).tolist(), abs=0.02)


def test_items_scatter_around_their_class_and_keep_their_length():
    _, data = sample_of(noise=0.5, features=400)
    first, again = data["x"][:, 0], data["x"][:, -1]
    same = data["same"][:, 0]
    lengths = first.square().sum(-1)
    assert lengths.mean().item() == pytest.approx(1.0, abs=0.05)
    assert (first[same] * again[same]).sum(-1).mean().item() == pytest.approx(1 / 1.25, abs=0.05)


def contexts(classes: int, labels: int, shown: int) -> list[tuple[int, ...]]:
    """Labels of all sets of so many different classes."""
    return [tuple(c % labels for c in some) for some in itertools.permutations(range(classes), shown)]


@pytest.mark.parametrize("p_bursty", [1.0, 0.6])
def test_plateau_is_that_of_all_contexts_counted_one_by_one(p_bursty):
    classes, labels, shown, pairs = 6, 3, 2, 4
    loss = right = 0.0
    iid = [tuple(c % labels for c in some) for some in itertools.product(range(classes), repeat=pairs)]
    for weight, given, holds in ((p_bursty, contexts(classes, labels, shown), True), (1 - p_bursty, iid, False)):
        for context in given:
            shares = [context.count(label) / len(context) for label in range(labels)]
            answer = [p_bursty * share + (1 - p_bursty) / labels for share in shares]
            truth = shares if holds else [1 / labels] * labels
            if weight:
                loss -= weight / len(given) * sum(t * math.log(a) for t, a in zip(truth, answer, strict=True) if t)
                right += weight / len(given) * truth[answer.index(max(answer))]
    levels = InContextClassification(**{**SMALL, "p_bursty": p_bursty}).levels()
    assert levels.loss_plateau == pytest.approx(loss, rel=0.01)
    assert levels.accuracy_plateau == pytest.approx(right, rel=0.01)
    assert levels.loss_chance == math.log(3)


def test_new_classes_alone_wait_at_one_of_their_labels():
    levels = InContextClassification(burstiness=2, p_novel=1.0).levels()
    assert levels.loss_plateau == pytest.approx(math.log(4))
    assert levels.accuracy_plateau == pytest.approx(1 / 4)


def test_without_bursts_there_is_nothing_between_chance_and_knowing_by_heart():
    levels = InContextClassification(p_bursty=0.0).levels()
    assert levels.loss_plateau == pytest.approx(math.log(32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"burstiness": 3}, "burstiness to divide pairs"),
        ({"burstiness": 4}, "burstiness to divide pairs"),
        ({"burstiness": 1}, "labels between"),
        ({"classes": 2, "labels": 3}, "labels between"),
        ({"p_novel": 1.5}, "p_novel"),
    ],
)
def test_impossible_contexts_are_refused(changes, message):
    with pytest.raises(SpecError, match=message):
        resolve({"task": {"name": "in_context_classification", **SMALL, **changes},
                 "model": {"causal": True}, "optim": {"lr": 1e-3}, "budget": {"steps": 1}})  # fmt: skip


def test_measures_tell_the_context_from_the_weights():
    """Three examples; a model that finds the query's own item, or else says 2."""
    task = InContextClassification(pairs=2, classes=4, labels=3, features=2, burstiness=1)
    a, b, c = torch.tensor([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])
    labels = torch.tensor([[[0, 1], [1, 2], [0, 2]]])
    items = torch.stack([torch.stack(row) for row in ([a, b, b], [b, c, b], [a, c, b])])
    x = torch.zeros(1, 3, 5, 2)
    x[0, :, 0::2], x[0, :, 1::2, 0] = items, labels.float()[0]
    batch = {
        "x": x,
        "y": torch.tensor([[1, 1, 1]])[..., None].expand(-1, -1, 5),
        "labels": labels,
        "same": torch.tensor([[[False, True], [True, False], [False, False]]]),
        "novel": torch.tensor([[False, True, False]]),
    }

    def again(tokens: torch.Tensor) -> torch.Tensor:
        found = (tokens[..., 0:4:2, :] == tokens[..., -1:, :]).all(-1)
        held = torch.where(found, tokens[..., 1::2, 0].long(), 0).amax(-1)
        answer = torch.where(found.any(-1), held, 2)
        return torch.nn.functional.one_hot(answer, 3).float()[:, :, None].expand(-1, -1, 5, -1)

    maps = torch.zeros(1, 3, 1, 5, 5)
    maps[0, :, 0, 1, 0], maps[0, :, 0, 3, 2] = 0.8, 0.4
    maps[0, 0, 0, 4, 2], maps[0, 1, 0, 4, 0] = 0.5, 0.1
    maps[0, 0, 0, 4, 3], maps[0, 1, 0, 4, 1], maps[0, 2, 0, 4, 3] = 0.2, 0.6, 0.9
    found = task.measures(Seen(attention=[maps], again=again), batch)
    assert {name: round(value.item(), 6) for name, value in found.items()} == {
        "answers_from_context": 1.0,
        "in_context_accuracy": 1.0,
        "in_weights_accuracy": 0.5,  # b stands in the second's context with label 1, in the third's not at all
        "item_label_attention": 0.6,
        "target_item_attention": 0.3,
        "target_label_attention": 0.4,
    }
