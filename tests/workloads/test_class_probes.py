"""Probes of classes: the six targets of a mosaic, a planted feature found, and what cannot be probed refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_runs import run
from test_mosaic import labels_of

from workloads.images import images_of
from workloads.models.sensitivity import heads_of, read_by
from workloads.probing import ask
from workloads.probing.bench import CPU, Bench, Subject, Unfit
from workloads.probing.classes import ClassProbe, coded, fitted
from workloads.rows import Layout
from workloads.spec import RunSpec
from workloads.streams import generator
from workloads.tasks import Mosaic
from workloads.tasks.mosaic_draws import ANSWER
from workloads.tasks.mosaic_targets import CELLS, targets
from workloads.tasks.pictures import pool_of

VIT = {"name": "vit", "width": 16, "layers": 2, "heads": 2, "patch": 8}
MOSAIC = {"task": {"name": "mosaic", "channels": 1, "target_classes": 4}, "model": VIT, "optim.weight_decay": 0.0}
TARGETS = {*(f"class_{cell}" for cell in CELLS), "location", "label"}


def subject(seed: int = 0, **changes: object) -> Subject:
    """First weights, as a snapshot has them."""
    spec = run(seed, {**MOSAIC, **changes})
    layout = Layout(spec.model.build(spec.task.shapes()))
    return Subject(spec=spec, step=0, weights=layout.named(layout.initial_row(seed, std=0.2, device=CPU)))


def drawn(task: Mosaic) -> dict[str, torch.Tensor]:
    return task.sample({}, generator(0, "batches", device=CPU), steps=2, batch=64)


@pytest.mark.parametrize("rule", ["same_class", "groups", "no_position", "alignment"])
def test_targets_are_the_classes_in_the_files_where_the_answer_is_and_the_label(rule):
    task = Mosaic(rule=rule, indicator_classes=4)
    data = drawn(task)
    found = targets(task, data, "train")
    assert found.keys() == TARGETS
    shown = labels_of(task, data["image"])
    for cell, name in enumerate(CELLS):
        kind = found[f"class_{name}"]
        assert torch.equal(kind.masked_fill(kind == 10, -1), shown[..., cell])
    there = found["location"][..., None]
    assert (data["role"].gather(-1, there) == ANSWER).all()
    assert torch.equal(shown.gather(-1, there)[..., 0], data["y"])
    assert torch.equal(found["label"], data["y"])


def test_held_out_targets_are_of_the_test_split():
    task = Mosaic(channels=1, colour_noise=0.0)
    pixels, found = task.probe_examples(drawn(task), "test")
    digits = images_of("digits", "test")
    top_left = pixels[0, :5, :, 0].view(5, 16, 16)[:, :8, :8]
    for picture, kind in zip(top_left, found["class_top_left"][0], strict=False):
        shown = picture / picture.max()
        same = [np.allclose(shown, each[..., 0] / each.max(), atol=0.01) for each in digits.pixels]
        assert int(kind) in digits.labels[same]
    black = pool_of(task.parts(), "test", CPU)
    assert black.labels[black.black] == -1
    assert len(black.labels) == len(black.pixels)


def test_heads_answers_are_those_that_the_layer_mixes():
    bench = Bench([subject(0), subject(1)], examples=6, seed=0)
    attention = bench.model.blocks[0].attention
    [read] = read_by(bench.model, [attention], bench.batch["x"], bench.controls)
    z = heads_of(attention, read, bench.controls["multiplier"])["z"]  # (K, B, H, T, d)
    mixed = attention.out(z.permute(0, 3, 1, 2, 4).flatten(3))
    torch.testing.assert_close(mixed, attention(read, bench.controls["multiplier"]), rtol=1e-4, atol=1e-5)


def right(x: torch.Tensor, labels: torch.Tensor, *, fit: int, hidden: int) -> float:
    """Share of right answers beyond the first `fit` examples, of a probe fitted on these."""
    scores = fitted(x[None, :fit], labels[None, None, :fit], classes=int(labels.max()) + 1, hidden=hidden)
    return (scores(x[None, fit:])[0, 0].argmax(1) == labels[fit:]).float().mean().item()


@pytest.mark.parametrize("hidden", [0, 10])
def test_probes_find_what_was_planted_and_nothing_else(hidden):
    rng = torch.Generator().manual_seed(1)
    x, labels = torch.randn(400, 6, generator=rng), torch.randint(3, (400,), generator=rng)
    planted = x.clone()
    planted[:, 4] += 6.0 * labels  # three steps along one of six numbers
    assert right(planted, labels, fit=250, hidden=hidden) > 0.97
    assert right(x, labels, fit=250, hidden=hidden) < 0.5


def test_hidden_neurons_tell_what_no_linear_map_can():
    x = torch.randn(800, 2, generator=torch.Generator().manual_seed(2))
    labels = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).long()
    assert right(x, labels, fit=500, hidden=0) < 0.65
    assert right(x, labels, fit=500, hidden=10) > 0.9


def test_a_linear_probe_is_the_one_of_scikit_learn():
    """The same penalty there: C = 1 / (2 · penalty · examples), on features of mean 0 and variance 1."""
    from sklearn.linear_model import LogisticRegression

    rng = torch.Generator().manual_seed(3)
    x, labels = torch.randn(300, 5, generator=rng), torch.randint(3, (300,), generator=rng)
    x[:, 0] += labels
    x = x * torch.tensor([30.0, 1.0, 0.05, 1.0, 4.0]) + torch.tensor([50.0, 0.0, 0.0, -3.0, 0.0])
    normed = ((x - x.mean(0)) / x.std(0)).numpy()
    theirs = LogisticRegression(C=1 / (2 * 1e-3 * 300), max_iter=1000, tol=1e-8).fit(normed, labels.numpy())
    mine = fitted(x[None], labels[None, None], classes=3, hidden=0)(x[None])[0, 0].softmax(1).numpy()
    np.testing.assert_allclose(mine, theirs.predict_proba(normed), atol=5e-3)


def test_sets_and_items_are_fitted_apart():
    rng = torch.Generator().manual_seed(4)
    x, labels = torch.randn(3, 80, 6, generator=rng), torch.randint(4, (3, 2, 80), generator=rng)
    together = fitted(x, labels, classes=4, hidden=0)(x)
    single = fitted(x[1:2], labels[1:2, 1:], classes=4, hidden=0)(x[1:2])
    torch.testing.assert_close(together[1, 1], single[0, 0], rtol=1e-3, atol=1e-3)


def test_a_code_is_the_sum_of_what_each_portion_costs():
    rng = torch.Generator().manual_seed(5)
    x, labels = torch.randn(64, 2, 3, generator=rng), torch.randint(3, (2, 64), generator=rng)
    labels[1] %= 2
    found = coded(x, labels, ends=[8, 24, 60], hidden=0)
    for head in range(2):
        for item, kinds in enumerate((3, 2)):
            wanted = 8 * math.log(kinds)
            for known, end in ((8, 24), (24, 60)):
                own = labels[item]
                probe = fitted(x[None, :known, head], own[None, None, :known], classes=3, hidden=0)
                scores = probe(x[None, known:end, head])[0, 0]
                wanted += torch.nn.functional.cross_entropy(scores, own[known:end], reduction="sum").item()
            assert found["code_length"][head, item].item() == pytest.approx(wanted / 60, rel=1e-3)
            assert found["even_code"][head, item].item() == pytest.approx(math.log(kinds))


def test_what_is_planted_has_a_short_code():
    rng = torch.Generator().manual_seed(1)
    x, labels = torch.randn(400, 1, 6, generator=rng), torch.randint(3, (1, 400), generator=rng)
    planted = x.clone()
    planted[:, 0, 4] += 6.0 * labels[0]
    known, unknown = (coded(each, labels, ends=[20, 100, 400], hidden=0) for each in (planted, x))
    assert known["code_length"] < 0.5 * known["even_code"] < 0.5 * unknown["code_length"]


def test_codes_are_read_of_each_layer_head_and_target():
    probe = ClassProbe(tokens="read_out", train_examples=32, portions="0.25 0.5 1")
    [rows] = ask.asked(probe, [subject(0)], examples=16, seed=0)
    assert {row["metric"] for row in rows} == {"accuracy", "loss", "guess", "code_length", "even_code"}
    assert len(rows) == 2 * 2 * 6 * 5


@pytest.mark.parametrize("portions", ["0.5 0.25 1", "0.1 1", "0.25 1.5", "0.5", "a b"])
def test_portions_that_do_not_grow_are_refused(portions):
    with pytest.raises(ValidationError, match="portions"):
        ClassProbe(train_examples=32, portions=portions)


@pytest.mark.parametrize(("of", "heads"), [("z", {0, 1}), ("q", {0, 1}), ("x", {None})])
def test_readings_are_of_each_layer_head_and_target(of, heads):
    probe = ClassProbe(of=of, tokens="read_out", train_examples=24)
    [first, second] = ask.asked(probe, [subject(0), subject(1)], examples=16, seed=0)
    assert len(first) == len(second) == 2 * len(heads) * 6 * 3
    assert {row["head"] for row in first} == heads
    assert {row["item"] for row in first} == TARGETS
    assert {row["metric"] for row in first} == {"accuracy", "loss", "guess"}
    assert all(0 <= row["value"] <= 1 for row in first if row["metric"] != "loss")
    assert [row["value"] for row in first] != [row["value"] for row in second]


def test_the_layers_own_input_tells_which_digits_are_shown():
    """With all tokens, one a digit, even first weights tell the class in each cell; not which one is asked."""
    [rows] = ask.asked(ClassProbe(of="x", train_examples=512), [subject()], examples=256, seed=0)
    found = {(row["item"], row["metric"]): row["value"] for row in rows if row["layer"] == 0}
    assert found["class_top_left", "accuracy"] > 0.9
    assert found["class_top_right", "accuracy"] > 0.75
    assert found["location", "accuracy"] < 0.7
    assert found["class_top_left", "guess"] < 0.65


def test_a_probe_is_the_same_twice_and_in_company():
    probe = ClassProbe(train_examples=48, hidden=3, tokens="read_out")
    [alone], [company, _] = (
        ask.asked(probe, [subject(seed) for seed in seeds], examples=24, seed=5) for seeds in ((0,), (0, 1))
    )
    assert alone == company


def refusal(spec: RunSpec) -> str:
    with pytest.raises(Unfit) as caught:
        ask.check(ClassProbe(), spec)
    return str(caught.value)


def test_runs_without_heads_or_with_answers_everywhere_are_refused_in_one_line(tmp_path: Path):
    resnet = refusal(
        run(0, {**MOSAIC, "model": {"name": "resnet", "depth": 9, "width": 8}, "log.measures_every_steps": 0})
    )
    assert "expected a model of blocks with attention; got resnet" in resnet
    chain = refusal(run(0, {"task": {"name": "markov_chain", "length": 8}, "model": {"width": 8}}))
    assert "expected a task that is answered once an example; got markov_chain" in chain
    ask.check(ClassProbe(), run(0))  # two_step is answered by a token, too
