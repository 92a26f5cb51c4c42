"""Targets that a user writes: sweep files, overrides, cluster files, probe files. Reading them starts nothing."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

import orchestrator.axes
import orchestrator.grid
import orchestrator.sweep
from orchestrator.clusters.job import Job
from orchestrator.clusters.launcher import launcher_of
from orchestrator.clusters.load import FOLDER as CLUSTERS
from orchestrator.clusters.load import load_cluster
from orchestrator.probe_spec import FOLDER as PROBES
from orchestrator.probe_spec import load_probe
from orchestrator.sweep import load_sweep, sweep_from_text
from orchestrator.yaml_source import parse
from tests.fuzz.mutate import any_bytes, any_text
from tests.fuzz.target import Target

SWEEPS = Path(orchestrator.sweep.__file__).parent / "sweeps"
FEW_RUNS = 300  # what a sweep may have here: more would only take longer
BASE = """\
question: q
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 8}
  model: {width: 8, layers: 1, heads: 2, mlp_ratio: 2.0, attention: {name: softmax}}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 60, batch: 8}
axes: {optim.lr: [1.0e-3, 1.0e-2], "model.width,model.heads": [[8, 2], [16, 4]]}
replicates: 2
"""
OVERRIDES = (
    *("base.optim.eps=1e-9", "replicates=16", "replicates={init: 2, data: 3}", "axes.optim.lr=[1e-3, 3e-3]"),
    *("axes.optim.lr={log_range: [1e-4, 1e-2], points: 3}", "base.model.attention.name=heat", "base.seed.init=3"),
    *("stop={after_event_steps: 20}", "log.snapshots=[0,end]", "name=other", "question=Why?", "base.model={name: mlp}"),
    *("search={name: tpe, configs: 3, space: {optim.lr: [1e-3, 1e-2]}}", "axes={}", "detector=contrast-1"),
    *("base.optim={name: sgd, lr: 0.1}", "base.task={name: parity}", "base.task.n_classes=4"),
    'base.model={name: module, path: "a.b:C", width: 3}',
)


class Paper:
    """A shell that runs nothing."""

    def run(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, stdin: str = "",
        timeout_s: float = 1.0, shows: bool = False,
    ) -> str:  # fmt: skip
        return ""


def targets(folder: Path) -> list[Target]:
    """Those of this file.

    Args:
        folder: where inputs are put that have to be files.
    """
    orchestrator.grid.MOST_RUNS = FEW_RUNS
    sweeps = [path for path in sorted(SWEEPS.glob("*.yaml")) if path.stem.endswith("_small") or "search" in path.stem]
    return [
        Target(name="sweep", seeds=_texts(sweeps), vary=vary, run=_of_a_file(folder / "s.yaml", _sweep)),
        Target(name="override", seeds=[text.encode() for text in OVERRIDES], vary=vary_lines, run=_override),
        Target(
            name="cluster",
            seeds=_texts(CLUSTERS.glob("*.yaml")),
            vary=vary,
            run=_of_a_file(folder / "c.yaml", _cluster),
        ),
        Target(name="probe", seeds=_texts(PROBES.glob("*.yaml")), vary=vary, run=_of_a_file(folder / "p.yaml", _probe)),
    ]


def vary(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Mostly words and lines, sometimes bytes."""
    if rng.random() < 0.1:
        return any_bytes(rng, data, others)
    texts = [other.decode(errors="replace") for other in others]
    return any_text(rng, data.decode(errors="replace"), texts).encode(errors="surrogatepass")


def vary_lines(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to three overrides, a line each."""
    lines = [data, *(rng.choice(others) for _ in range(rng.choice((0, 0, 0, 1, 2))))]
    lines[0] = vary(rng, lines[0], others)
    return b"\n".join(line.replace(b"\n", b" ") for line in lines)


def _texts(paths: Sequence[Path] | object) -> list[bytes]:
    """Files without their comments, which only dilute what is changed."""
    found = [re.sub(r"(?m)(^|\s)#.*$", "", path.read_text()).encode() for path in sorted(paths)]  # type: ignore[arg-type]
    assert found
    return found


def _of_a_file(path: Path, run: Callable[[Path], None]) -> Callable[[bytes], None]:
    def written(data: bytes) -> None:
        path.write_bytes(data)
        run(path)

    return written


def _sweep(path: Path) -> None:
    found = load_sweep(path)
    again = sweep_from_text(found.yaml)  # what the store keeps, and a cluster is sent
    assert [run.run_id for run in again.runs] == [run.run_id for run in found.runs], "its own YAML gives other runs"
    assert "/" not in found.name, "a name that is a path"


@functools.cache
def _base() -> tuple[object, object]:
    return parse(BASE, file="base.yaml")


def _override(data: bytes) -> None:
    overrides = data.decode(errors="replace").split("\n")
    before, orchestrator.sweep.parse = orchestrator.sweep.parse, lambda text, *, file: copy.deepcopy(_base())  # type: ignore[assignment]
    try:  # the file is right, and reading it again and again would be most of the time
        sweep_from_text(BASE, file="base.yaml", overrides=overrides)
    finally:
        orchestrator.sweep.parse = before


def _cluster(path: Path) -> None:
    spec, source = load_cluster(path)
    launcher = launcher_of(spec, source=source, shell=Paper())
    launcher.rendered(Job(sweep="quickstart", text=BASE)).text()


def _probe(path: Path) -> None:
    load_probe(path)
