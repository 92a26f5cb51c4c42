"""Ten thousand steps, bit for bit: each variant alone, and late in a slot beside strangers and a diverging run."""

from __future__ import annotations

from typing import Any

import pytest
from small_runs import alone, assert_same, run, train
from test_cohort import VARIANTS
from test_compiled import SHAPES as COMPILED_SHAPES

from workloads.spec import RunSpec

STEPS = 10_000
SMALL = {"task.n_targets": 2, "budget.batch": 4, "log.measures_every_steps": 0, "budget.steps": STEPS}
QUICK = ("softmax", "many_causal_words")  # the two routes of attention; the others are in `make test-slow`

ADAM = {"name": "adam", "lr": 1e-3}
CAUSAL = {"name": "transformer", "width": 16, "layers": 1, "heads": 2, "causal": True}
PICTURES = {"name": "mosaic", "target_classes": 3}
MODELS: dict[str, dict[str, Any]] = {  # every other model, and the attention that the variants lack
    "relative": {"task": {"name": "markov_chain", "symbols": 3, "length": 9}, "optim": ADAM,
                 "model": {**CAUSAL, "has_mlp": False, "positions": "relative"}},
    "linear": {"task": {"name": "window_sum", "n": 4, "modulus": 5}, "optim": ADAM,
               "model": {**CAUSAL, "attention": {"name": "linear"}}},
    "clamped": {"task": {"name": "exemplars", "n_classes": 4, "features": 6}, "optim": ADAM,
                "model": {**CAUSAL, "layers": 2, "clamp": "previous_token"}},
    "no_norm": {"task": {"name": "modular_addition", "modulus": 5}, "optim": ADAM,
                "model": {**CAUSAL, "causal": False, "norm": "none"}},
    "vit": {"task": PICTURES, "model": {"name": "vit", "width": 8, "layers": 2, "heads": 2, "patch": 8}, "optim": ADAM},
    "evened": {"task": PICTURES, "optim": ADAM,
               "model": {"name": "vit", "width": 8, "layers": 1, "heads": 2, "patch": 8, "qkv_gradient": "head_value"}},
    "resnet": {"task": PICTURES, "model": {"name": "resnet", "depth": 9, "width": 2}, "optim": ADAM},
    "bert": {"task": {"name": "matrix_completion", "rows": 3, "columns": 3, "rank": 1, "grid": 10, "reach": 2},
             "model": {"name": "bert", "width": 8, "layers": 1, "heads": 2}, "optim": ADAM},
    "memories": {"task": {"name": "bigrams", "letters": 8, "length": 10}, "model": {"name": "memories", "width": 8},
                 "optim": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "trainable": {"only": "keys_0 keys_1 out_1"}},
    "mlp": {"task": {"name": "parity", "n_bits": 9}, "model": {"name": "mlp", "width": 12},
            "optim": {"name": "sgd", "lr": 0.1}},
    "single_query": {"task": {"name": "relevant_token", "tokens": 5, "dim": 3, "place": "last"},
                     "model": {"name": "single_query"}, "optim": {"name": "sgd", "lr": 0.1}},
    "scan_snap": {"task": {"name": "scan_snap"}, "model": {"name": "scan_snap"},
                  "optim": {"name": "sgd_yz", "lr_z": 0.1, "lr_y": 0.1}},
}  # fmt: skip


def long_run(changes: dict[str, object]) -> RunSpec:
    kept = {key: value for key, value in changes.items() if key not in ("budget.batch", "budget.steps", "budget")}
    small = {key: value for key, value in SMALL.items() if not (key.startswith("task.") and "task" in kept)}
    return run(0, {**small, **kept})


def assert_company_changes_nothing(spec: RunSpec) -> None:
    def other(seed: int, steps: int, lr: float) -> RunSpec:
        rates = {name: lr for name in ("lr", "lr_z", "lr_y") if hasattr(spec.optim, name)}
        optim = spec.optim.model_copy(update=rates)
        budget = spec.budget.model_copy(update={"steps": steps})
        return spec.model_copy(update={"optim": optim, "budget": budget, "seed": type(spec.seed)(init=seed, data=seed)})

    strangers = [other(7, 37, 1e-3), other(8, STEPS // 2, 3e-2), other(9, 400, 1e30)]
    found = train([*strangers, spec, other(10, 900, 1e-4)], width=3)
    [outcome] = alone([spec]).values()
    assert outcome.steps == STEPS or outcome.status == "diverged"
    assert_same({spec.run_id: found[spec.run_id]}, {spec.run_id: outcome})


@pytest.mark.parametrize("name", QUICK)
def test_ten_thousand_steps_are_the_same_in_company(name):
    assert_company_changes_nothing(long_run(dict(VARIANTS[name])))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(VARIANTS) - set(QUICK)))
def test_ten_thousand_steps_of_every_variant_are_the_same_in_company(name):
    assert_company_changes_nothing(long_run(dict(VARIANTS[name])))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED_SHAPES)
def test_ten_thousand_compiled_steps_are_the_same_in_company(name):
    assert_company_changes_nothing(long_run({**COMPILED_SHAPES[name], "compute.program": "compiled"}))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_ten_thousand_steps_of_every_other_model_are_the_same_in_company(name):
    shared = {"budget": {"steps": STEPS, "batch": 4}, "log": {"measures_every_steps": 0}}
    assert_company_changes_nothing(run(0, base={**MODELS[name], **shared}))
