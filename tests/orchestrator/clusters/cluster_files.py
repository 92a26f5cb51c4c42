"""Cluster files as text, a sweep to send, and a shell that only writes down what it is asked."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.clusters.job import Job
from orchestrator.clusters.load import load_cluster
from orchestrator.clusters.spec import ClusterSpec
from orchestrator.yaml_source import Source

SWEEP = """\
name: small
question: Does it train?
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 8}
  model: {width: 8, layers: 1, heads: 2, mlp_ratio: 2.0}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 60, batch: 8}
axes:
  optim.lr: [1.0e-3, 1.0e-2]
replicates: 3
"""


def load_text(text: str) -> tuple[ClusterSpec, Source]:
    """A cluster file that exists only here."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cluster.yaml"
        path.write_text(text)
        return load_cluster(path)


def job() -> Job:
    return Job(sweep="small", text=SWEEP)


class FakeShell:
    """Answers by the words of a command; everything else succeeds in silence."""

    def __init__(self, answers: Mapping[str, str]):
        self.answers = answers
        self.calls: list[str] = []
        self.stdin: list[str] = []

    def run(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, stdin: str = "",
        timeout_s: float = 0.0, shows: bool = False,
    ) -> str:  # fmt: skip
        called = " ".join(command)
        self.calls.append(called)
        self.stdin.append(stdin)
        return next((answer for words, answer in self.answers.items() if words in called), "")
