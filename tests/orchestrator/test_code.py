"""Which shapes need code made, and what is said where it cannot be."""

from __future__ import annotations

import shutil

import pytest

from orchestrator.code import make_code, shapes_to_compile
from orchestrator.errors import BadRequest
from workloads import compiled
from workloads.code_files import code_file
from workloads.errors import NoCompiler
from workloads.spec import RunSpec, resolve


def run(*, width: int = 8, seed: int = 0, program: str = "compiled") -> RunSpec:
    return resolve(
        {
            "task": {"name": "two_step"},
            "model": {"width": width},
            "optim": {"lr": 1e-3},
            "budget": {"steps": 10},
            "seed": {"init": seed},
            "compute": {"program": program},
        }
    )


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EUREKA_CACHE", str(tmp_path))


def test_each_shape_without_code_is_named_once():
    runs = [run(), run(seed=1), run(width=16), run(width=32, program="eager")]
    assert [spec.model.width for spec in shapes_to_compile(runs, device="cpu")] == [8, 16]
    code_file(runs[0]).parent.mkdir()
    code_file(runs[0]).touch()
    assert [spec.model.width for spec in shapes_to_compile(runs, device="cpu")] == [16]


def test_nothing_is_made_for_eager_runs_or_gpus():
    assert shapes_to_compile([run(program="eager")], device="cpu") == []
    assert shapes_to_compile([run()], device="cuda") == []


def test_a_missing_compiler_is_said_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    assert shapes_to_compile([run(program="eager")], device="cpu") == []
    with pytest.raises(BadRequest, match=r"needs a C\+\+ compiler; install g\+\+, or set it to eager"):
        shapes_to_compile([run()], device="cpu")


def test_code_is_made_in_the_order_given_and_faults_are_left_to_workers(monkeypatch):
    made = []

    def prepare(spec: RunSpec) -> None:
        made.append(spec.model.width)
        if spec.model.width == 8:
            raise NoCompiler("gone")

    monkeypatch.setattr(compiled, "prepare", prepare)
    make_code([run(), run(width=16)])
    for thread in compiled_threads():
        thread.join(timeout=10)
    assert made == [8, 16]


def compiled_threads():
    import threading

    return [thread for thread in threading.enumerate() if thread.name == "make-code"]
