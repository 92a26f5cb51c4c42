"""Interventions against what they must give: nothing changed, the same by hand, a planted feature; bits in company."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from workloads.probing import (
    INTERVENTIONS,
    AblateHeads,
    Alter,
    Attention,
    ClassProbe,
    Embedding,
    Intervention,
    LinearProbe,
    Patch,
    PermutePositions,
    Plain,
    Stitch,
    Substitute,
)
from workloads.probing.ask import asked, check
from workloads.probing.bench import Bench, Subject, Unfit
from workloads.probing.examples import slope
from workloads.probing.linear import judged
from workloads.probing.parts import principal
from workloads.probing.taps import attentions, states_read
from workloads.rows import Layout
from workloads.spec import RunSpec, resolve

MATRICES = {"name": "matrix_completion", "rows": 3, "columns": 4, "rank": 2, "grid": 10, "reach": 2}
BERT = {"name": "bert", "width": 16, "layers": 2, "heads": 2, "mlp_ratio": 2.0}
ENCODER = {"width": 16, "layers": 2, "heads": 2, "mlp_ratio": 2.0}
BASES: dict[str, dict[str, Any]] = {
    "bert": {"task": MATRICES, "model": BERT},
    "bert_by_products": {"task": {**MATRICES, "columns": 5}, "model": BERT},
    "transformer": {"task": {"name": "two_step", "features": 8}, "model": ENCODER},
    "causal": {"task": {"name": "window_sum", "n": 4, "modulus": 5}, "model": {**ENCODER, "causal": True}},
}
EVERY: dict[str, list[Intervention]] = {
    "bert": [
        Plain(),
        Attention(),
        AblateHeads(),
        Patch(corrupted="negated"),
        Stitch(with_step=7, parts="attention"),
        LinearProbe(train_examples=32),
        Substitute(numbers="0.4 -1.2"),
        Substitute(numbers="0.4 -1.2", blend=0.5),
        Alter(),
        PermutePositions(repeats=2),
        Embedding(),
    ],
    "transformer": [
        Plain(),
        Attention(),
        AblateHeads(how="uniform"),
        Patch(),
        Stitch(with_step=7),
        PermutePositions(),
        ClassProbe(train_examples=24),
        ClassProbe(of="x", hidden=3, train_examples=24),
    ],
    "causal": [Plain(), Attention(), AblateHeads(how="uniform"), Patch(), LinearProbe(train_examples=32), Embedding()],
}
EVERY["bert_by_products"] = [Plain(), AblateHeads(heads="0.1, 1.0"), Patch(layers="0"), LinearProbe(train_examples=16)]


SEQUENCE = {"task": {**MATRICES, "name": "matrix_sequence"}, "model": {**ENCODER, "causal": True}}
ORDERS = {"task": {**MATRICES, "columns": 3, "orders": "2 3"}, "model": BERT}


def spec_of(name: str, *, seed: int = 0, **model: Any) -> RunSpec:
    base = {"sequence": SEQUENCE, "orders": ORDERS}.get(name) or BASES[name]
    shared = {"optim": {"name": "adam", "lr": 1e-3}, "budget": {"steps": 20, "batch": 6}}
    return resolve({**base, **shared, "model": {**base["model"], **model}, "seed": {"init": seed}})


def subject(name: str, *, seed: int = 0, other: int | None = None, **model: Any) -> Subject:
    """A snapshot whose every weight is drawn at random, and another of the same run if asked for."""
    spec = spec_of(name, seed=seed, **model)
    others = {} if other is None else {"other_step": 7, "other": weights(spec, seed=other)}
    return Subject(spec=spec, step=3, weights=weights(spec, seed=10 + seed), **others)


def weights(spec: RunSpec, *, seed: int) -> dict[str, np.ndarray]:
    layout = Layout(spec.model.build(spec.task.shapes()))
    return layout.named(0.3 * torch.randn(layout.width, generator=torch.Generator().manual_seed(seed)))


def changed(given: Subject, **arrays: Any) -> Subject:
    """A subject some of whose weights are functions of what they were."""
    new = {name: arrays[name](array.copy()) if name in arrays else array for name, array in given.weights.items()}
    return Subject(spec=given.spec, step=given.step, weights=new, other_step=given.other_step, other=given.other)


def found(intervention: Intervention, given: Subject, *, examples: int = 8, **where: Any) -> dict[str, float]:
    """Readings at one place, by metric."""
    [rows] = asked(intervention, [given], examples=examples, seed=5)
    wanted = {"layer": None, "head": None, "item": "", **where}
    return {row["metric"]: row["value"] for row in rows if all(row[key] == value for key, value in wanted.items())}


def assert_close(left: dict[str, float], right: dict[str, float]) -> None:
    assert left
    for name, value in left.items():
        assert value == pytest.approx(right[name], rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("name", BASES)
def test_readings_are_bitwise_the_same_alone_and_in_company(name: str):
    subjects = [subject(name, seed=seed, other=30 + seed) for seed in range(3)]
    for intervention in EVERY[name]:
        together = asked(intervention, subjects, examples=16, seed=5)
        for one, rows in zip(subjects, together, strict=True):
            assert rows
            [alone] = asked(intervention, [one], examples=16, seed=5)
            np.testing.assert_equal(rows, alone, err_msg=intervention.name)  # NaN equals itself


def test_every_intervention_is_tried():
    assert {type(one) for group in EVERY.values() for one in group} == set(INTERVENTIONS)


def test_examples_depend_on_the_probes_seed_and_not_on_the_runs():
    first, second = (Bench([subject("bert", seed=seed)], examples=4, seed=5).batch["x"] for seed in (0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, Bench([subject("bert")], examples=4, seed=6).batch["x"])


@pytest.mark.parametrize("name", ["bert", "transformer", "causal"])
def test_the_mean_map_of_one_example_changes_nothing(name: str):
    given = subject(name)
    ablated = found(AblateHeads(heads="all"), given, examples=1, item="0.0 0.1 1.0 1.1")
    assert_close(found(Plain(), given, examples=1), ablated)


@pytest.mark.parametrize("name", BASES)
def test_heads_without_scores_attend_evenly_already(name: str):
    def without_queries(qkv: np.ndarray) -> np.ndarray:
        qkv[:, : qkv.shape[0]] = 0.0
        return qkv

    parts = [f"blocks.{layer}.attention.qkv" for layer in (0, 1)]
    given = changed(subject(name), **dict.fromkeys(parts, without_queries))
    given = changed(given, **{f"{part}_bias": lambda bias: 0 * bias for part in parts})
    for layer, head in ((0, 1), (1, 0)):
        assert_close(found(Plain(), given), found(AblateHeads(how="uniform"), given, layer=layer, head=head))


def test_ablating_one_head_leaves_the_others_as_they_are():
    """A head whose outputs the map behind it ignores can be ablated for nothing; its neighbour cannot."""

    def deaf_to_the_second(weight: np.ndarray) -> np.ndarray:
        weight[8:] = 0.0
        return weight

    deaf = {"blocks.0.attention.out.weight": deaf_to_the_second}
    given = changed(subject("bert"), **deaf, **{"blocks.0.attention.qkv": lambda qkv: 5 * qkv})
    plain = found(Plain(), given)
    assert_close(plain, found(AblateHeads(), given, layer=0, head=1))
    assert found(AblateHeads(), given, layer=0, head=0)["loss"] != pytest.approx(plain["loss"], rel=4e-4)


def test_groups_of_heads_are_ablated_together():
    given = subject("bert")
    everything = found(AblateHeads(heads="all"), given, item="0.0 0.1 1.0 1.1")
    assert_close(everything, found(AblateHeads(heads="0.0, 0.0 0.1 1.0 1.1"), given, item="0.0 0.1 1.0 1.1"))


def test_patching_is_what_it_is_by_hand():
    given = subject("bert", layers=1)
    bench = Bench([given], examples=5, seed=5)
    corrupted = bench.spec.task.negated(bench.batch)
    block, model = bench.model.blocks[0], bench.model
    clean, other = (model.norm(model.embed(x["x"].mT) + model.positions(5)) for x in (bench.batch, corrupted))
    written = block.attention(clean, **bench.controls)
    h = block.norm1(other + written)
    h = block.norm2(h + block.down(F.gelu(block.up(h))))
    by_hand = bench.scores(model.head(h).transpose(-3, -2), corrupted)
    readings = found(Patch(corrupted="negated", layers="last"), given, examples=5, layer=0, item="corrupted")
    assert_close(readings, {name: values.item() for name, values in by_hand.items()})
    unpatched = found(Patch(corrupted="negated"), given, examples=5, item="corrupted")
    assert unpatched["loss"] != pytest.approx(readings["loss"], rel=1e-3)


@pytest.mark.parametrize("name", ["bert", "transformer", "causal"])
def test_patching_an_example_into_itself_changes_nothing(name: str):
    given = subject(name)
    assert_close(found(Plain(), given, examples=1), found(Patch(), given, examples=1, layer=1, item="clean"))


def test_negated_matrices_show_the_other_sign_and_hide_the_same():
    bench = Bench([subject("bert")], examples=16, seed=5)
    task, batch = bench.spec.task, bench.batch
    turned = task.negated(batch)
    before, after = task.word_values(batch["x"]), task.word_values(turned["x"])
    torch.testing.assert_close(after, -before, equal_nan=True)
    assert torch.equal(before.isnan(), batch["missing"])
    assert torch.equal(turned["y"], -batch["y"])
    assert all(torch.equal(batch[name], values) for name, values in task.negated(turned).items())


@pytest.mark.parametrize("name", ["bert", "transformer"])
def test_stitching_a_snapshot_with_itself_changes_nothing(name: str):
    one = subject(name)
    given = Subject(spec=one.spec, step=3, weights=one.weights, other_step=3, other=one.weights)
    for item in ("parts of other", "parts of own"):
        assert_close(found(Plain(), one), found(Stitch(with_step=3), given, item=item))


def test_stitching_every_part_gives_the_other_snapshot():
    given = subject("bert", other=40)
    other = Subject(spec=given.spec, step=7, weights=given.other or {})
    every = Stitch(with_step=7, parts="embed positions norm blocks head")
    assert_close(found(Plain(), other), found(every, given, item="parts of other"))
    assert_close(found(Plain(), given), found(every, given, item="parts of own"))


def test_stitching_takes_the_named_parts_alone():
    given = subject("bert", other=40)
    assert given.other is not None
    mixed = {name: given.other[name] if "qkv" in name else array for name, array in given.weights.items()}
    by_hand = found(Plain(), Subject(spec=given.spec, step=3, weights=mixed))
    assert_close(by_hand, found(Stitch(with_step=7), given, item="parts of other"))


def test_a_linear_probe_finds_a_planted_feature():
    rng = torch.Generator().manual_seed(2)
    states, other = torch.randn(2, 400, 12, generator=rng, dtype=torch.float64)
    planted = torch.randn(12, 3, generator=rng, dtype=torch.float64)
    noise, unseen = torch.randn(2, 400, 3, generator=rng, dtype=torch.float64)
    there = judged((states, states @ planted), (other, other @ planted))
    assert there["mse"] == pytest.approx(0, abs=1e-20)
    assert (there["explained"], there["cosine"]) == (pytest.approx(1.0), pytest.approx(1.0))
    absent = judged((states, noise), (other, unseen))
    assert absent["explained"] < 0.05
    assert absent["cosine"] == pytest.approx(0.5, abs=0.1)  # of vectors in space, any direction: 1/2 in the mean


def test_before_any_block_a_missing_entry_is_not_known_and_one_shown_is():
    probe = LinearProbe(train_examples=300)
    given = subject("bert", width=32)
    missing = found(probe, given, examples=100, layer=0, item="missing element")
    assert missing["explained"] < 0.05
    assert found(probe, given, examples=100, layer=0, item="element")["explained"] > 0.4


def test_probe_targets_are_those_written_out():
    bench = Bench([subject("bert")], examples=6, seed=5)
    targets = bench.spec.task.probe_targets(bench.batch)
    y, missing = bench.batch["y"][0, ..., 0], bench.batch["missing"][0]
    rows, vectors = targets["row"][0][0], targets["singular vector"][0][0]
    for b in range(6):
        matrix = y[b].view(3, 4).double().numpy()
        left = np.linalg.svd(matrix)[0][:, 0]
        left *= np.sign(left[np.abs(left).argmax()])
        for t in range(12):
            shown = [0.0 if missing[b, 4 * (t // 4) + c] else matrix[t // 4, c] for c in range(4)]
            np.testing.assert_allclose(rows[b, t], shown, atol=1e-6)
            np.testing.assert_allclose(vectors[b, t], left, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "transformer"])
def test_states_begin_before_the_first_block_and_end_at_the_read_out(name: str):
    bench = Bench([subject(name)], examples=4, seed=5)
    with states_read(bench.model) as states:
        answers = bench.answers()
    assert len(states) == len(attentions(bench.model)) + 1
    last = bench.model.head(states[-1] if name == "bert" else bench.model.norm(states[-1])).transpose(-3, -2)
    torch.testing.assert_close(answers, last if name == "bert" else last[..., 0, :])


def test_substituting_is_what_the_task_shows_with_a_stand_in():
    given = subject("bert")
    readings = found(Substitute(numbers="0.4 -1.2"), given, item="-1.2")
    assert_close(found(Plain(task={"stand_in": -1.2}), given), readings)
    assert_close(found(Plain(), given), found(Substitute(), given, item="missing"))


def test_a_model_that_says_the_number_shown_has_no_distance_to_it():
    """All weights 0 but the read-out's bias: it says 0.4 whatever it sees."""
    base = changed(subject("bert"), **{name: lambda array: 0 * array for name in subject("bert").weights})
    given = changed(base, **{"head.bias": lambda array: array + 0.4})
    readings = found(Substitute(numbers="0.4 -0.6"), given, item="0.4")
    assert readings["squares_to_shown"] == pytest.approx(0, abs=1e-12)
    assert readings["answer_at_missing"] == pytest.approx(0.4)
    assert found(Substitute(numbers="0.4 -0.6"), given, item="-0.6")["squares_to_shown"] == pytest.approx(1.0)


def test_a_blend_is_the_model_whose_word_for_missing_has_moved():
    given, number = subject("bert"), 1 + 20 - 12

    def moved(table: np.ndarray) -> np.ndarray:
        table[0] += 0.25 * (table[number] - table[0])
        return table

    blended = found(Substitute(numbers="0.4 -1.2", blend=0.25), given, item="-1.2")
    assert_close(found(Plain(), changed(given, **{"embed.table": moved})), blended)
    assert blended["loss"] != found(Plain(), given)["loss"]


def test_slopes_are_numpys():
    rng = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 3, 4, 5, generator=rng)
    where = torch.rand(3, 4, 5, generator=rng) < 0.4
    for k, value in enumerate(slope(x, y, where)):
        fitted = np.polyfit(x[k][where[k]].numpy(), y[k][where[k]].numpy(), 1)
        assert float(value) == pytest.approx(fitted[0], rel=1e-4)
    assert slope(torch.ones(1, 3), torch.rand(1, 3)).isnan().all()


def says(monkeypatch: pytest.MonkeyPatch, answer: Callable[[Bench, torch.Tensor], torch.Tensor]) -> None:
    """In place of models: numbers shown `(K, B, T)`, 0 where they are missing, to answers."""

    def answers(bench: Bench, batch: dict[str, torch.Tensor] | None = None, **_: Any) -> torch.Tensor:
        words = (batch or bench.batch)["x"]
        shown = bench.spec.task.word_values(words).nan_to_num(0.0).float()
        return answer(bench, shown)[..., None]

    monkeypatch.setattr(Bench, "answers", answers)


def test_what_copies_follows_numbers_that_are_shown_and_changes_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch):
    says(monkeypatch, lambda _, shown: shown)
    given = subject("bert")
    assert found(Substitute(numbers="0.4 -1.2 0.3"), given)["follows_shown"] == pytest.approx(1)
    for item in ("missing", "-1.2"):
        assert found(Substitute(numbers="0.4 -1.2"), given, item=item)["follows_right"] == pytest.approx(0, abs=1e-6)
    still = {"change_at_missing": 0.0, "change_at_shown": 0.0, "share_at_missing": 0.0}
    assert found(Alter(), given, item="hidden") == {"answer_size": 0.0, "follows_right": 0.0, **still}
    turned = found(Alter(), given, item="turned")
    assert turned.pop("answer_size") > 0.1
    assert turned == {"follows_right": pytest.approx(-1), **still}


def test_what_completes_follows_right_numbers_whatever_is_shown(monkeypatch: pytest.MonkeyPatch):
    says(monkeypatch, lambda bench, _: bench.batch["y"][..., 0])
    given = subject("bert")
    assert found(Substitute(numbers="0.4 -1.2"), given)["follows_shown"] == pytest.approx(0, abs=1e-6)
    assert found(Substitute(numbers="0.4 -1.2"), given, item="-1.2")["follows_right"] == pytest.approx(1)
    assert found(Alter(), given, item="hidden")["follows_right"] == pytest.approx(1)


def test_changes_elsewhere_are_those_counted_example_by_example(monkeypatch: pytest.MonkeyPatch):
    """Answers are sums of all that is shown, which one turned entry moves by twice its size, everywhere."""
    says(monkeypatch, lambda _, shown: shown.sum(-1, keepdim=True).expand_as(shown))
    given = subject("bert")
    hidden, turned = (found(Alter(), given, examples=1, item=item) for item in ("hidden", "turned"))
    bench = Bench([given], examples=1, seed=5)
    missing, right = bench.batch["missing"][0, 0], bench.batch["y"][0, 0, :, 0]
    sizes = [float(value) for value in right[~missing].abs()]
    assert any(hidden["change_at_missing"] == pytest.approx(size, abs=1e-5) for size in sizes)
    assert hidden["change_at_shown"] == pytest.approx(hidden["change_at_missing"], rel=1e-4)
    assert turned["change_at_missing"] == pytest.approx(2 * hidden["change_at_missing"], rel=1e-4)
    share = hidden["change_at_missing"] / float(right[missing].abs().mean())
    assert hidden["share_at_missing"] == pytest.approx(share, rel=1e-4)


def test_positions_that_are_alike_may_change_places():
    given = changed(subject("bert"), **{"positions.table": lambda table: 0 * table + table[:1]})
    assert_close(found(Plain(), given), found(PermutePositions(), given, item="0"))
    readings = [found(PermutePositions(repeats=2), subject("bert"), item=item)["loss"] for item in ("0", "1")]
    assert readings[0] != readings[1] != found(Plain(), subject("bert"))["loss"]


def test_a_bench_has_its_own_weights_back_after_every_intervention():
    bench = Bench([subject("bert", other=40)], examples=3, seed=5)
    before = bench.answers()
    for intervention in EVERY["bert"]:
        list(intervention.readings(bench))
        assert torch.equal(bench.answers(), before), intervention.name


def test_components_are_scikit_learns():
    decomposition = pytest.importorskip("sklearn.decomposition")
    vectors = torch.randn(2, 30, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for mine, table in zip(principal(vectors, components=3), vectors, strict=True):
        theirs = decomposition.PCA(3).fit_transform(table.numpy())
        np.testing.assert_allclose(np.abs(mine.numpy()), np.abs(theirs), atol=1e-9)
        largest = mine.gather(0, mine.abs().argmax(0, keepdim=True))
        assert (largest > 0).all()


def test_an_embedding_of_size_and_sign_is_seen_as_such():
    def planted(table: np.ndarray) -> np.ndarray:
        numbers = (np.arange(len(table)) - 21) / 10
        table[:] = 0.0
        table[:, 0], table[:, 1], table[:, 2] = 9 * np.abs(numbers), np.sign(numbers), 1.0
        return table

    readings = found(Embedding(), changed(subject("bert"), **{"embed.table": planted}), examples=256)
    assert readings["norm_symmetry"] == pytest.approx(1.0)
    assert readings["component_1_on_size"] == pytest.approx(1.0, abs=1e-4)
    assert readings["component_2_on_sign"] > 0.99
    item = found(Embedding(), changed(subject("bert"), **{"embed.table": planted}), examples=256, item="-0.4")
    assert item["norm"] == pytest.approx(math.hypot(9 * 0.4, 1.0, 1.0))


def test_attention_by_kind_is_the_tasks_head_by_head():
    given = subject("bert")
    bench = Bench([given], examples=8, seed=5)
    for layer, maps in enumerate(bench.attention()):
        for name, values in bench.spec.task.by_kind(maps, bench.batch["missing"]).items():
            for head in (0, 1):
                reading = found(Attention(), given, layer=layer, head=head)[name.removeprefix("attention_")]
                assert reading == pytest.approx(values[0, head].item())


def test_nuclear_norms_are_sums_of_singular_values():
    bench = Bench([subject("bert")], examples=5, seed=5)
    right = found(Plain(), subject("bert"), examples=5)["nuclear_norm_right"]
    norms = [np.linalg.norm(matrix.numpy(), "nuc") for matrix in bench.batch["y"][0, ..., 0].view(5, 3, 4)]
    assert right == pytest.approx(np.mean(norms), rel=1e-5)


REFUSED = [
    ("bert", AblateHeads(heads="0.0, 2.0"), r"expected heads from 0\.0 to 1\.1; got '2\.0'"),
    ("bert", AblateHeads(heads="1.2"), r"got '1\.2'"),
    ("bert", Patch(layers="0 4"), "expected layers from 0 to 1; got 4"),
    ("transformer", Patch(corrupted="negated"), "examples of two_step cannot be negated"),
    ("transformer", LinearProbe(), "a task that is answered at every position; got two_step"),
    ("transformer", Substitute(), "a task with missing entries; got two_step"),
    ("sequence", Substitute(), "a task with missing entries; got matrix_sequence"),
    ("transformer", Alter(), "a task with missing entries; got two_step"),
    ("orders", Alter(), "a task of one order; got orders '2 3'"),
    ("transformer", Embedding(), "a model that reads words"),
    ("bert", Substitute(numbers="2.5"), r"numbers within the reach of ±2; got 2\.5"),
    ("bert", Stitch(with_step=1, parts="atention"), "parts of the model .*; got 'atention'. Did you mean 'attention'"),
    (
        "bert",
        Plain(task={"p_msk": 0.2}),
        r"task\.p_msk: got an unknown key; expected one of rows, .* Did you mean 'p_mask'",
    ),
    ("bert", Plain(task={"p_mask": 2.0}), r"task\.p_mask: got 2\.0; expected less than 1"),
    ("bert", Plain(task={"least_rank": 4}), "task: expected least_rank of at most rank; got 4, rank 2"),
    ("bert", Plain(task={"rows": 4}), "task: got rows; expected settings that leave the shape"),
]


@pytest.mark.parametrize(("name", "intervention", "message"), REFUSED)
def test_what_a_run_cannot_take_is_refused_in_one_line(name: str, intervention: Intervention, message: str):
    with pytest.raises(Unfit, match=message) as caught:
        check(intervention, spec_of(name))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{intervention.name}: run ")


def test_positions_that_are_not_learned_and_models_without_attention_are_refused():
    with pytest.raises(Unfit, match="a table of learned positions"):
        check(PermutePositions(), spec_of("transformer", positions="sinusoidal"))
    mlp = resolve(
        {
            "task": {"name": "parity"},
            "model": {"name": "mlp"},
            "optim": {"name": "sgd", "lr": 0.1},
            "budget": {"steps": 5},
        }
    )
    for intervention in (Attention(), AblateHeads(), Patch()):
        with pytest.raises(Unfit, match="a model with attention layers"):
            check(intervention, mlp)
