"""Compiled runs: the eager numbers up to rounding, the same bits in any company, code made once."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from small_runs import alone, assert_same, run, train

from workloads import code_files, compiled
from workloads.code_files import code_key
from workloads.compiled import prepare
from workloads.errors import NoCompiler, WorkloadError
from workloads.spec import RunSpec

WORDS = {"name": "window_sum", "n": 4, "modulus": 7}
COMPILED = {"compute.program": "compiled", "budget.steps": 70}
SHAPES = {
    "two_step": {},
    "causal_words": {"task": WORDS, "model.causal": True},
    "user_module": {
        "model": {"name": "module", "path": "user_models:Mixer", "width": 24},
        "log.measures_every_steps": 0,
    },
}


def members(name: str, n: int = 3) -> list[RunSpec]:
    rates = [1e-3, 3e-3, 1e-2]
    return [run(k, {**SHAPES[name], **COMPILED, "optim.lr": rates[k], "budget.steps": 70 + k}) for k in range(n)]


@pytest.mark.parametrize("name", SHAPES)
def test_company_changes_no_bit_of_a_compiled_run(name):
    given = members(name)
    wild = run(9, {**SHAPES[name], **COMPILED, "optim.lr": 1e30})
    found = train([wild, *given[::-1]], width=2)
    assert_same({spec.run_id: found[spec.run_id] for spec in given}, alone(given))


@pytest.mark.parametrize("name", SHAPES)
def test_compiled_curves_are_the_eager_ones_up_to_rounding(name):
    [spec] = members(name, 1)
    eager = run(0, {**SHAPES[name], "optim.lr": spec.optim.lr, "budget.steps": 70})
    [mine], [other] = train([spec]).values(), train([eager]).values()
    for metric in ("loss", "grad_norm"):
        np.testing.assert_allclose(mine.metrics[metric][:16], other.metrics[metric][:16], rtol=1e-4)
    assert not np.array_equal(mine.metrics["loss"], other.metrics["loss"])  # or nothing was compiled


def test_resume_changes_no_bit_of_a_compiled_run():
    from workloads.cohort import Cohort

    given = members("two_step")
    killed = Cohort(given, width=3)
    killed.advance(ticks=37)
    assert_same(train(given[::-1], width=2, saved=killed.state().get), alone(given))


def test_code_is_made_once_for_a_shape(monkeypatch):
    [spec, other, _] = members("two_step")
    path = prepare(spec)
    monkeypatch.setattr(compiled, "_make_in_a_process_of_its_own", lambda *_: pytest.fail("made again"))
    assert prepare(other) == path


def test_key_depends_on_shape_and_source(monkeypatch):
    [spec, other, _] = members("two_step")
    [another, *_] = members("causal_words")
    key = code_key(spec)
    assert code_key(other) == key != code_key(another)
    monkeypatch.setattr(code_files, "source_digest", lambda: "changed")
    assert code_key(spec) != key


def test_without_a_compiler_the_way_out_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("EUREKA_CACHE", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    with pytest.raises(NoCompiler, match=r"needs a C\+\+ compiler; install g\+\+, or set it to eager"):
        prepare(members("two_step")[0])


def test_a_model_that_cannot_be_traced_is_named_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("EUREKA_CACHE", str(tmp_path))
    model = {"name": "module", "path": "user_models:Choosing"}
    spec = run(0, {"model": model, "log.measures_every_steps": 0, **COMPILED})
    with pytest.raises(
        WorkloadError, match=r"compute.program: this model could not be compiled \(.*\); set it to eager"
    ):
        prepare(spec)
    assert not list(tmp_path.rglob("*.pt2"))
