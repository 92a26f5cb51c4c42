"""A worker stays as small as it was: over a million steps and a thousand refills, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CODE = """
import json
from tests.benchmarks.bench_scale import worked
for mark in worked(runs={runs}, steps={steps}, width={width}):
    print(json.dumps(mark))
"""


def marks(*, runs: int, steps: int, width: int) -> list[dict[str, float]]:
    command = [sys.executable, "-c", CODE.format(runs=runs, steps=steps, width=width)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_workers_memory_and_files_are_flat_over_a_million_steps_and_a_thousand_refills() -> None:
    found = marks(runs=1072, steps=1000, width=64)
    assert found[-1]["ended"] == 1072
    assert found[-1]["run_steps"] == 1_072_000
    warm = [one for one in found if one["run_steps"] >= 200_000]
    quarter = len(warm) // 4
    early, late = warm[:quarter], warm[-quarter:]
    assert max(one["now"] for one in late) <= max(one["now"] for one in early) + 16.0  # MiB; a leak of a run is 15
    assert max(one["files"] for one in late) <= max(one["files"] for one in early) + 2
