"""The model `memories`: against the same thing written plainly, frozen where it should be, learning its three pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_runs import assert_same_in_company, follow, run, runs, staggered, train

from workloads.cohort import Cohort
from workloads.errors import SpecError
from workloads.rows import Layout
from workloads.seen import Seen
from workloads.spec import RunSpec

CPU = torch.device("cpu")
LEARNT = ("keys_0", "keys_1", "out_1", "feed")
BASE: dict[str, Any] = {
    "task": {"name": "bigrams", "letters": 20, "triggers": 2, "length": 14},
    "model": {"name": "memories", "width": 24},
    "optim": {"name": "sgd", "lr": 1.0, "momentum": 0.9},
    "trainable": {"only": " ".join(LEARNT)},
    "budget": {"steps": 24, "batch": 9},
    "log": {"measures_every_steps": 7},
}


def tables_of(spec: RunSpec) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    model = spec.model.build(spec.task.shapes())
    layout = Layout(model)
    row = layout.initial_row(spec.seed.init, std=spec.model.init_std, device=CPU)[None]
    layout.bind(row, trained=False)
    return model, {place.name.partition(".")[0]: place.view(row)[0] for place in layout.places}


def plain(x: torch.Tensor, m: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """One example, position by position: `(T,)` to logits `(T, N)`."""
    h = [m["words"][word] + m["places"][at] for at, word in enumerate(x.tolist())]
    for keys, out in ((m["keys_0"], m["copy_0"]), (m["keys_1"], m["value_1"] @ m["out_1"])):
        mixed = []
        for at, asking in enumerate(h):
            weights = torch.stack([asking @ keys @ h[s] for s in range(at + 1)]).softmax(0)
            mixed.append(asking + sum(w * (h[s] @ out) for s, w in enumerate(weights)))
        h = mixed
    return torch.stack([(each + each @ m["feed"]) @ m["answers"].T for each in h])


def test_logits_equal_those_of_the_formulas_position_by_position():
    spec = run(1, {"model.init_std": 0.3}, base=BASE)
    model, tables = tables_of(spec)
    x = torch.randint(20, (1, 3, 14), generator=torch.Generator().manual_seed(0))
    seen = Seen()
    found = model(x, seen=seen)
    for example, logits in zip(x[0], found[0], strict=True):
        torch.testing.assert_close(logits, plain(example, tables), rtol=1e-4, atol=1e-4)
    assert [weights.shape for weights in seen.attention] == [(1, 3, 1, 14, 14)] * 2
    words, copied = tables["words"], tables["words"] @ tables["copy_0"]
    wanted = {
        "previous": tables["places"] @ tables["keys_0"] @ tables["places"].T,
        "match": words @ tables["keys_1"] @ copied.T,
        "output": words @ tables["value_1"] @ tables["out_1"] @ tables["answers"].T,
    }
    for name, values in wanted.items():
        torch.testing.assert_close(seen.states[name][0], values, rtol=1e-4, atol=1e-5)


def test_a_sum_of_pairs_is_recalled_by_the_states_a_task_probes():
    """Keys that pair each place with the one before, as in the paper's construction, are found by `recall_previous`."""
    spec = run(1, {"model.width": 256}, base=BASE)
    model, tables = tables_of(spec)
    places, words = tables["places"], tables["words"]
    paired = {
        "keys_0": places[1:].T @ places[:-1],
        "keys_1": words.T @ words @ tables["copy_0"],
        "out_1": (words @ tables["value_1"]).T @ tables["answers"],
    }
    for name, pairs in paired.items():
        model.get_parameter(f"{name}.weight").copy_(pairs[None])
    rng = torch.Generator().manual_seed(1)
    data = {name: v[None, 0] for name, v in spec.task.sample(spec.task.world(rng), rng, steps=1, batch=4).items()}
    seen = Seen()
    model(data["x"], seen=seen)
    found = spec.task.measures(seen, data)
    assert [found[f"recall_{name}"].item() for name in ("previous", "match", "output")] == [1.0, 1.0, 1.0]


def test_random_tables_are_of_unit_length_and_differ_between_seeds():
    (_, one), (_, other) = tables_of(run(1, base=BASE)), tables_of(run(2, base=BASE))
    for name in ("words", "places", "answers", "copy_0", "value_1"):
        assert one[name].square().sum(1).mean().item() == pytest.approx(1.0, abs=0.2)
        assert not torch.equal(one[name], other[name])
    assert one["keys_0"].std().item() == pytest.approx(0.01, rel=0.2)


def test_what_is_not_trained_stays_where_it_began():
    [spec] = runs(1, base=BASE)
    _, late = follow(Cohort([spec], width=1), step=23)
    layout = Layout(spec.model.build(spec.task.shapes()), is_split=True)
    first = layout.named(layout.initial_row(spec.seed.init, std=spec.model.init_std, device=CPU))
    for name, values in layout.named(torch.from_numpy(late[spec.run_id]["row"])).items():
        assert np.array_equal(values, first[name]) == (name.partition(".")[0] not in LEARNT), name


@pytest.mark.parametrize("letters", [20, 33])
def test_runs_are_bitwise_the_same_alone_and_in_company(letters):
    found = assert_same_in_company(staggered(runs(3, {"task.letters": letters}, base=BASE)))
    assert all(np.isfinite(values).all() for outcome in found.values() for values in outcome.measures.values())


def test_an_induction_head_forms_out_of_three_memories():
    """Bietti et al., section 5, in small: recalled answers wait, then come, and the three matrices hold their pairs."""
    changes = {"task.length": 32, "model.width": 64, "optim.lr": 2.0, "budget": {"steps": 500, "batch": 32},
               "log.measures_every_steps": 499}  # fmt: skip
    whole = run(0, changes, base=BASE)
    blind = run(0, {**changes, "trainable.only": "keys_1 out_1 feed"}, base=BASE)
    found = train([whole, blind])
    outcome = found[whole.run_id]
    assert outcome.metrics["accuracy"][:20].mean() < 0.2
    assert outcome.metrics["accuracy"][-20:].mean() > 0.85
    assert outcome.measures["recall_previous"][-1] > 0.5
    assert outcome.measures["recall_match"][-1] == 1.0
    assert outcome.measures["attention_on_output"][-1] > 0.6
    without = found[blind.run_id]  # its first layer never learns to look back: a mean of all before must do
    assert without.measures["recall_previous"][-1] < 0.3
    assert without.metrics["accuracy"][-20:].mean() < outcome.metrics["accuracy"][-20:].mean() - 0.1


def test_words_at_every_position_are_read_and_the_rest_is_refused():
    for task in ({"name": "parity", "n_bits": 5}, {"name": "modular_addition", "modulus": 7}):
        with pytest.raises(SpecError, match="memories reads words and answers at every position"):
            run(0, {"task": task, "trainable": None}, base=BASE)


def test_scores_do_not_see_what_comes_later():
    model, _ = tables_of(run(1, {"model.init_std": 0.3}, base=BASE))
    x = torch.randint(20, (1, 2, 14), generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[..., 9:] = 0
    torch.testing.assert_close(model(x)[..., :9, :], model(other)[..., :9, :])
    assert F.cosine_similarity(model(x)[..., 9:, :].flatten(), model(other)[..., 9:, :].flatten(), dim=0) < 0.99
