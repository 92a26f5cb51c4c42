"""Matrices, words and masks; levels against answers played out; the encoder against Hugging Face's; bits in company."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import alone, assert_same, assert_same_in_company, runs, staggered, train

from workloads.errors import SpecError
from workloads.rows import Layout
from workloads.seen import Seen
from workloads.spec import RunSpec, resolve
from workloads.streams import generator
from workloads.tasks.matrices import MISSING
from workloads.tasks.matrix_completion import MatrixCompletion

CPU = torch.device("cpu")
SMALL = {"name": "matrix_completion", "rows": 4, "columns": 5, "rank": 2, "grid": 10, "reach": 2}
BERT = {"name": "bert", "width": 16, "layers": 2, "heads": 2, "mlp_ratio": 2.0}
SHARED = {
    "optim": {"name": "adam", "lr": 1e-3},
    "budget": {"steps": 20, "batch": 6},
    "log": {"measures_every_steps": 7},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "by_products": {"task": SMALL, "model": BERT},
    "by_lanes": {"task": {**SMALL, "rows": 3, "columns": 3}, "model": BERT},
    "one_head": {"task": SMALL, "model": {**BERT, "heads": 1}},
    "the_papers_words": {
        "task": {"name": "matrix_completion"},
        "model": {**BERT, "attention": {"name": "normsoftmax"}},
    },
    "other_laws": {"task": {**SMALL, "factors": "laplace", "scale": 0.25, "least_rank": 1}, "model": BERT},
    "hidden_rows": {"task": {**SMALL, "hidden_rows": "1:2 3:0", "stand_in": 0.4}, "model": BERT},
    "words_of_a_text": {
        "task": {"name": "masked_language", "words": 64, "length": 14},
        "model": {**BERT, "attention": {"name": "linear"}},
    },
}
LAWS: dict[str, dict[str, Any]] = {
    "the_papers": {},
    "rank_one_of_five": {"rows": 5, "columns": 5, "rank": 1, "p_mask": 0.5},
    "oblong": {"rows": 3, "columns": 8, "rank": 3},
    "normal": {"factors": "normal", "scale": 0.5},
    "laplace": {"factors": "laplace", "scale": 0.25},
    "mixed_ranks": {"rank": 4, "least_rank": 2},
    "sizes_off_zero": {"rank": 1, "least_size": 0.5},
    "signs": {"rank": 1, "least_size": 1.0, "scale": 0.7},
    "half_by_coherence": {"rank": 1, "coherence": 0.5},
    "by_coherence": {"rank": 3, "coherence": 1.0, "factors": "normal", "scale": 0.7},
    "full_rank": {"factors": "entries"},
    "hidden_rows": {"hidden_rows": "3:1 6:5"},
    "mixed_orders": {"rows": 9, "columns": 9, "rank": 1, "orders": "5 7 9"},
}


def sample_of(task: MatrixCompletion, *, steps: int = 16, batch: int = 256) -> dict[str, torch.Tensor]:
    return task.sample({}, generator(3, "batches", device=CPU), steps=steps, batch=batch)


def flat(data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All steps as one batch of a single member."""
    return {name: values.flatten(0, 1)[None] for name, values in data.items()}


# -- the task --------------------------------------------------------------------------------------


def test_every_entry_is_a_word_for_its_number_or_the_one_for_missing():
    data = sample_of(MatrixCompletion())
    numbers, words, missing = data["y"][..., 0], data["x"], data["missing"]
    assert (words[missing] == MISSING).all()
    assert torch.equal(words[~missing], 1 + 1000 + (100 * numbers[~missing].double()).round().long())
    assert MatrixCompletion().shapes().vocabulary == 2002
    torch.testing.assert_close(100 * numbers, (100 * numbers).round(), atol=1e-4, rtol=0)
    assert missing.float().mean().item() == pytest.approx(0.3, abs=0.002)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_matrices_have_the_rank_asked_for(rank):
    numbers = sample_of(MatrixCompletion(rank=rank, grid=100_000), steps=2)["y"].view(-1, 7, 7).double()
    values = torch.linalg.svdvals(numbers)
    assert (values[:, rank - 1] > 1e-3).float().mean() > 0.9
    assert (values[:, rank] < 1e-3).all()


def test_mixed_ranks_are_equally_frequent():
    task = MatrixCompletion(rank=4, least_rank=2, factors="normal", scale=0.7, grid=100_000)
    values = torch.linalg.svdvals(sample_of(task)["y"].view(-1, 7, 7).double())
    ranks = (values > 1e-3).sum(1)
    assert torch.bincount(ranks, minlength=5)[2:].div(len(ranks)).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)


@pytest.mark.parametrize("law", LAWS)
def test_levels_are_those_of_the_answers_that_they_stand_for(law):
    task = MatrixCompletion(**LAWS[law])
    data, levels = flat(sample_of(task, steps=64)), task.levels()
    wanted, missing = data["y"], data["missing"][..., None]
    copied = task.objective(torch.where(missing, 0.0, wanted), data)
    squares = wanted.square().mean((0, 2, 3))  # of each matrix: the independent draws
    wide = 1e-3 + 5 * (squares.std() / math.sqrt(len(squares))).item() / levels.loss_chance
    assert copied["loss"].item() == pytest.approx(levels.loss_plateau, rel=2 * wide)
    of_missing = task.missing_square / task.missing_share
    assert copied["loss_masked"].item() == pytest.approx(of_missing, rel=2 * wide)
    assert task.coherence or of_missing == pytest.approx(task.entry_square)
    assert copied["loss_observed"].item() == 0.0
    assert copied["accuracy"].item() == pytest.approx(levels.accuracy_plateau, abs=1e-6)
    assert task.objective(torch.zeros_like(wanted), data)["loss"].item() == pytest.approx(levels.loss_chance, rel=wide)
    known = task.objective(wanted, data)
    assert (known["loss"].item(), known["accuracy"].item()) == (levels.loss_floor, levels.accuracy_ceiling)


def test_plateaus_of_the_papers_orders_are_those_counted():
    """0.0667 for the defaults; 0.0997 and 0.135, counted in samples, for order 10 rank 3 and order 15 rank 4."""
    assert MatrixCompletion().levels().loss_plateau == pytest.approx(0.3 * 2 / 9)
    assert MatrixCompletion(rows=10, columns=10, rank=3).levels().loss_plateau == pytest.approx(0.0997, rel=0.01)
    assert MatrixCompletion(rows=15, columns=15, rank=4).levels().loss_plateau == pytest.approx(0.135, rel=0.02)


def test_mean_squares_of_small_factors_are_those_of_every_matrix_counted():
    """Factors on a fine lattice in ±1, every pair of them, in place of the continuous law."""
    lattice = (np.arange(200) + 0.5) / 100 - 1
    every = np.array([u * v for u, v in itertools.product(lattice, lattice)])
    assert MatrixCompletion(rank=1).entry_square == pytest.approx(np.square(every).mean(), rel=1e-3)


def test_scores_are_sums_over_entries_written_out():
    task = MatrixCompletion(**{k: v for k, v in SMALL.items() if k != "name"})
    data = flat(sample_of(task, steps=1, batch=3))
    answers = torch.randn(data["y"].shape, generator=torch.Generator().manual_seed(5))
    found = {name: value.item() for name, value in task.objective(answers, data).items()}
    sums = {"loss": [], "loss_observed": [], "loss_masked": [], "mask_value": []}
    squares = []
    for answer, wanted, hidden in zip(answers.flatten(), data["y"].flatten(), data["missing"].flatten(), strict=True):
        error = (answer.item() - wanted.item()) ** 2
        sums["loss"].append(error)
        sums["loss_masked" if hidden else "loss_observed"].append(error)
        if hidden:
            sums["mask_value"].append(abs(answer.item()))
            squares.append(wanted.item() ** 2)
    for name, values in sums.items():
        assert found[name] == pytest.approx(np.mean(values), rel=1e-5), name
    assert found["accuracy"] == pytest.approx(1 - np.mean(sums["loss_masked"]) / np.mean(squares), rel=1e-5)


def test_a_batch_without_missing_entries_has_finite_scores():
    data = flat(sample_of(MatrixCompletion(rows=2, columns=2, p_mask=1e-9), steps=1, batch=4))
    assert not data["missing"].any()
    assert all(torch.isfinite(value).all() for value in MatrixCompletion().objective(data["y"] + 1, data).values())


def test_hidden_rows_show_one_entry_each_and_a_stand_in_takes_the_missing_ones_place():
    data = sample_of(MatrixCompletion(hidden_rows="3:1 6:5", stand_in=0.44), steps=2)
    missing = data["missing"].view(-1, 7, 7)
    for row, column in ((3, 1), (6, 5)):
        assert not missing[:, row, column].any()
        assert missing[:, row].sum(1).eq(6).all()
    assert missing[:, 0].float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert (data["x"][data["missing"]] == 1 + 1000 + 44).all()


def test_factors_follow_the_law_they_are_asked_for():
    """Columns of rank-1 matrices with one row are products of two factors; fourth moments tell the laws apart."""
    kurtosis = {"uniform": 9 / 5, "normal": 3.0, "laplace": 6.0}
    for law, of_a_factor in kurtosis.items():
        task = MatrixCompletion(rows=1, columns=1, rank=1, factors=law, scale=0.25, grid=100_000)
        values = sample_of(task, steps=512)["y"].double()
        ratio = (values**4).mean() / (values**2).mean() ** 2
        assert ratio.item() == pytest.approx(of_a_factor**2, rel=0.15), law


def test_sizes_of_factors_keep_off_zero_and_entries_of_full_rank_are_uniform():
    """A matrix of one row and column is a product of two factors."""
    products = sample_of(MatrixCompletion(rows=1, columns=1, rank=1, least_size=0.5, grid=100_000))["y"].abs()
    assert 0.25 - 1e-4 <= products.min() < 0.26
    assert 0.98 < products.max() <= 1.0
    entries = sample_of(MatrixCompletion(factors="entries", grid=100_000), steps=4)["y"]
    assert torch.linalg.svdvals(entries.view(-1, 7, 7))[:, -1].median() > 0.02
    counts = torch.histc(entries, 10, min=-1, max=1) / entries.numel()
    torch.testing.assert_close(counts, torch.full((10,), 0.1), atol=0.005, rtol=0)


def test_coherent_entries_are_shown_more_often_as_the_formula_says():
    """Of rank 1 with a given U and V: leverages are squares over their mean."""
    task = MatrixCompletion(rows=2, columns=3, rank=1, p_mask=0.2, coherence=0.5)
    left, right = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0, 3.0])
    exact = (left[:, None] * right).expand(1, 200_000, 2, 3)
    missing = task._missing_by_coherence(exact, generator(1, "test", device=CPU)).float().mean((0, 1))
    coherence = (left.square()[:, None] * 2 / 5 + right.square() * 3 / 11) / 2
    shown = 0.8 * (0.5 + 0.5 * coherence)
    torch.testing.assert_close(missing, 1 - shown.clamp(max=1.0), atol=0.005, rtol=0)
    assert shown.max() > 1
    assert coherence.mean().item() == pytest.approx(1.0)


def test_without_coherence_the_mask_draws_are_those_of_before():
    plain, biased = (sample_of(MatrixCompletion(coherence=c), steps=1) for c in (0.0, 1.0))
    assert torch.equal(plain["y"], biased["y"])
    assert not torch.equal(plain["missing"], biased["missing"])
    larger = [data["y"][..., 0][data["missing"]].square().mean() for data in (plain, biased)]
    assert larger[1] < 0.8 * larger[0]  # what is missing is small


def test_matrices_of_a_step_have_one_of_the_orders_and_stand_in_front():
    task = MatrixCompletion(rows=6, columns=6, rank=1, orders="3 5", grid=10, reach=2)
    data = sample_of(task, steps=64, batch=16)
    found = set()
    for x, y, missing, there in zip(data["x"], data["y"][..., 0], data["missing"], data["there"], strict=True):
        order = math.isqrt(int(there[0].sum()))
        found.add(order)
        front = torch.arange(36) < order**2
        assert torch.equal(there, front.expand_as(there))
        assert (x[:, ~front] == task.padding).all()
        assert not y[:, ~front].any()
        assert not missing[:, ~front].any()
        exact = MatrixCompletion(rows=order, columns=order, rank=1, grid=10, reach=2)
        seen = exact.word_values(x[:, front])
        assert torch.equal(seen.isnan(), missing[:, front])
        torch.testing.assert_close(seen[~missing[:, front]].float(), y[:, front][~missing[:, front]])
        matrices = y[:, front].view(16, order, order).double()
        assert (torch.linalg.svdvals(matrices)[:, 1] <= 0.05 * order + 1e-9).all()  # rounding to tenths alone
    assert found == {3, 5}
    assert task.shapes().vocabulary == task.padding + 1
    assert 0.25 < data["missing"].float().sum() / data["there"].float().sum() < 0.35


def test_padding_is_not_scored():
    task = MatrixCompletion(rows=6, columns=6, rank=1, orders="3 5", grid=10, reach=2)
    data = {name: values[:1] for name, values in sample_of(task, steps=1, batch=8).items()}
    there, right = data["there"][..., None], data["y"]
    found = task.objective(torch.where(there, right, 99.0), data)
    assert [found[name].item() for name in ("loss", "loss_observed", "loss_masked")] == [0, 0, 0]
    off = task.objective(torch.where(there, right + 0.5, 99.0), data)
    assert off["loss"].item() == pytest.approx(0.25)
    assert off["loss_observed"].item() == pytest.approx(0.25)
    turned = task.negated(data)["x"]
    assert torch.equal(turned == task.padding, ~data["there"])
    assert torch.equal(task.negated({**data, "x": turned})["x"], data["x"])


def test_attention_by_kind_is_that_counted_entry_by_entry():
    task = MatrixCompletion(rows=2, columns=3, rank=1)
    maps = torch.rand(1, 4, 2, 6, 6, generator=torch.Generator().manual_seed(1)).softmax(-1)
    missing = sample_of(task, steps=1, batch=4)["missing"]
    wanted = {name: torch.zeros(2) for name in task.MEASURES}
    for b, h, q, k in itertools.product(range(4), range(2), range(6), range(6)):
        weight = maps[0, b, h, q, k] / (4 * 6)
        wanted["attention_on_row"][h] += weight * (q // 3 == k // 3 and q != k)
        wanted["attention_on_column"][h] += weight * (q % 3 == k % 3 and q != k)
        wanted["attention_on_observed"][h] += weight * (not missing[0, b, k])
        wanted["attention_on_self"][h] += weight * (q == k)
    for name, values in task.by_kind(maps, missing).items():
        torch.testing.assert_close(values[0], wanted[name])
    found = task.measures(Seen(attention=[maps, maps * 0]), {"missing": missing, "y": missing[..., None].float()})
    for name, values in found.items():
        torch.testing.assert_close(values, wanted[name].amax()[None])


FAULTS = [
    ({"p_mask": 1.0}, r"^task\.p_mask: got 1\.0; expected a number < 1"),
    ({"least_rank": 3}, "expected least_rank of at most rank; got 3, rank 2"),
    ({"hidden_rows": "7:0"}, "expected hidden_rows to name entries of 7 rows and 7 columns, one a row; got '7:0'"),
    ({"hidden_rows": "1:0 1:2"}, "expected hidden_rows to name entries of 7 rows"),
    ({"hidden_rows": "1,2"}, r"got '1,2'; expected text like"),
    ({"stand_in": 10.5}, r"expected stand_in within the reach of ±10; got 10\.5"),
    ({"factors": "normal", "scale": 2.0}, "expected entries with a standard deviation of at most 2, a fifth of reach"),
    ({"factors": "normal", "least_size": 0.5}, "expected least_size to be 0 where factors are normal; got 0.5"),
    ({"factors": "entries", "scale": 11.0}, "expected entries with a standard deviation of at most 2"),
    ({"orders": "5 9"}, "expected rows and columns of 9 or more, both alike; got 7 and 7 for orders '5 9'"),
    ({"orders": "5", "columns": 8}, "both alike; got 7 and 8"),
    ({"orders": "5 7", "hidden_rows": "1:0"}, "expected orders to go without hidden_rows and coherence"),
    ({"orders": "0 7"}, r"got '0 7'; expected text like"),
    ({"factors": "gauss"}, "expected one of entries, laplace, normal, uniform"),
]


@pytest.mark.parametrize(("task", "message"), FAULTS)
def test_a_task_that_cannot_be_is_refused_in_one_line(task, message):
    with pytest.raises(SpecError, match=message) as caught:
        resolve({"task": {"name": "matrix_completion", **task}, **SHARED, "model": BERT})
    assert "\n" not in str(caught.value)


# -- the model -------------------------------------------------------------------------------------


def weights(spec: RunSpec, *, std: float) -> tuple[Layout, torch.Tensor]:
    """A bound model of one run whose every weight, norms and biases too, is drawn at random."""
    layout = Layout(spec.model.build(spec.task.shapes()))
    row = layout.initial_row(3, std=std, device=CPU)
    row += std * torch.randn(row.shape, generator=generator(4, "test", device=CPU))
    layout.bind(row[None], trained=False)
    return layout, row


def hugging_face(spec: RunSpec, named: dict[str, np.ndarray]) -> tuple[Any, torch.nn.Linear]:
    """Their encoder and a read-out, with the engine's weights: every one is used, none is left as drawn."""
    transformers = pytest.importorskip("transformers")
    shapes, model, width = spec.task.shapes(), spec.model, spec.model.width
    config = transformers.BertConfig(
        vocab_size=shapes.vocabulary, hidden_size=width, num_hidden_layers=model.layers,
        num_attention_heads=model.heads, intermediate_size=round(model.mlp_ratio * width), hidden_act="gelu",
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=shapes.positions,
        type_vocab_size=1, layer_norm_eps=model.norm_eps, attn_implementation="eager",
    )  # fmt: skip
    theirs = {"embeddings.token_type_embeddings.weight": torch.zeros(1, width)}
    head = torch.nn.Linear(width, shapes.classes)
    for name, array in named.items():
        part, _, kind = name.rpartition(".")
        kind = {"gain": "weight", "shift": "bias", "table": "weight"}.get(kind, kind)
        is_map = kind == "weight" and part.endswith(("out", "up", "down", "head"))
        value = torch.from_numpy(array.T if is_map else array)
        if part == "head":
            getattr(head, kind).data.copy_(value)
        elif not part.startswith("blocks"):
            table = {"embed": "word_embeddings", "positions": "position_embeddings", "norm": "LayerNorm"}[part]
            theirs[f"embeddings.{table}.{kind}"] = value
        elif kind.startswith("qkv"):
            layer = f"encoder.layer.{part.split('.')[1]}.attention.self"
            end = "bias" if kind == "qkv_bias" else "weight"
            for third, piece in zip(("query", "key", "value"), value.split(width, dim=-1), strict=True):
                theirs[f"{layer}.{third}.{end}"] = piece.T if end == "weight" else piece
        else:
            _, depth, *rest = part.split(".")
            place = {"attention.out": "attention.output.dense", "norm1": "attention.output.LayerNorm",
                     "up": "intermediate.dense", "down": "output.dense", "norm2": "output.LayerNorm"}  # fmt: skip
            theirs[f"encoder.layer.{depth}.{place['.'.join(rest)]}.{kind}"] = value
    encoder = transformers.BertModel(config, add_pooling_layer=False).eval()
    encoder.load_state_dict(theirs)  # strict: every weight, no other
    return encoder, head


@pytest.mark.parametrize(
    ("task", "model"),
    [
        (SMALL, {**BERT, "layers": 3}),
        ({**SMALL, "rows": 3, "columns": 3}, {**BERT, "heads": 4, "mlp_ratio": 4.0}),
        ({"name": "matrix_completion"}, {"name": "bert", "width": 64, "layers": 4, "heads": 8}),
    ],
)
def test_bert_is_hugging_faces_with_the_same_weights(task, model):
    spec = resolve({"task": task, **SHARED, "model": model})
    layout, row = weights(spec, std=0.2)
    x = sample_of(spec.task, steps=1, batch=5)["x"]
    seen = Seen()
    multiplier = spec.model.controls(step=0, budget_steps=1)["multiplier"]
    mine = layout.model(x, seen=seen, multiplier=torch.tensor([multiplier]))[0]
    encoder, head = hugging_face(spec, layout.named(row))
    with torch.no_grad():
        theirs = encoder(x[0], output_hidden_states=True, output_attentions=True)
        torch.testing.assert_close(mine, head(theirs.last_hidden_state), atol=1e-5, rtol=1e-5)
    assert mine.std() > 0.1
    for depth, states in enumerate(theirs.hidden_states):
        torch.testing.assert_close(seen.states[f"layer_{depth}"][0], states, atol=1e-5, rtol=1e-5)
    for maps, attention in zip(seen.attention, theirs.attentions, strict=True):
        torch.testing.assert_close(maps[0], attention, atol=1e-5, rtol=1e-5)


def test_the_papers_model_has_its_thirty_million_weights():
    """30.3 million in Hugging Face's, whose table of positions has 512 rows; here it has 49."""
    spec = resolve({"task": {"name": "matrix_completion"}, **SHARED, "model": {"name": "bert"}})
    weights = Layout(spec.model.build(spec.task.shapes())).parameters
    assert weights + (512 - 49) * 768 == pytest.approx(30.3e6, rel=2e-3)


def test_bert_refuses_what_has_no_words_or_one_answer():
    for task in ({"name": "two_step"}, {"name": "scan_snap"}):
        with pytest.raises(SpecError, match="bert reads words and answers at every position"):
            resolve({"task": task, **SHARED, "model": BERT})


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(SpecError, match="expected heads to divide width; got width 16, heads 3"):
        resolve({"task": SMALL, **SHARED, "model": {**BERT, "heads": 3}})


# -- the engine's promises -------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_runs_are_bitwise_the_same_alone_and_in_company(name):
    for outcome in assert_same_in_company(staggered(runs(3, base={**SHARED, **VARIANTS[name]}))).values():
        for values in (*outcome.metrics.values(), *outcome.measures.values()):
            assert np.isfinite(values).all()


def test_runs_of_mixed_orders_are_bitwise_the_same_in_company():
    task = {**SMALL, "rows": 4, "columns": 4, "orders": "2 4"}
    for outcome in assert_same_in_company(staggered(runs(3, base={**SHARED, "task": task, "model": BERT}))).values():
        assert all(np.isfinite(values).all() for values in outcome.metrics.values())
        assert np.isnan(outcome.measures["attention_on_row"]).all()


def test_members_of_one_cohort_differ_in_law_mask_and_rank():
    changes = [{}, {"p_mask": 0.6}, {"rank": 1}, {"factors": "normal", "scale": 0.5}, {"stand_in": 0.4}]
    given = [resolve({"task": {**SMALL, **change}, **SHARED, "model": BERT}) for change in changes]
    assert len({spec.shape_key for spec in given}) == 1
    found = train(given)
    assert_same(found, alone(given))
    assert len({found[spec.run_id].metrics["loss"][0].item() for spec in given}) == len(changes)


# If these fail, ids of stored runs have drifted; see test_spec.py.
GOLDEN = [({"task": {"name": "matrix_completion"}, "model": {"name": "bert"}}, "61153b2b9bad29c7")]


@pytest.mark.parametrize(("part", "run_id"), GOLDEN)
def test_ids_are_the_frozen_ones(part, run_id):
    assert resolve({**part, "optim": {"lr": 1e-3}, "budget": {"steps": 100}}).run_id == run_id
