"""Where memory does not suffice for all slots a worker goes on with fewer; where not for one, runs fail as rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tables import as_bytes, values

from analysis.store import Store
from orchestrator.run import run_sweep
from orchestrator.sweep import load_sweep

WIDE = """
base:
  task: {name: two_step, n_targets: 3, n_classes: 3, features: 8}
  model: {width: 512, layers: 1, heads: 2, mlp_ratio: 8.0}
  optim: {name: adamw, lr: 1.0e-3}
  budget: {steps: 3, batch: 2}
axes:
  optim.lr: [1.0e-3, 3.0e-3]
replicates: 8
"""  # 5.3 million weights: each slot takes 84 MB for rows, gradients and moments
WORKER = """
import json, resource, sys
import torch
from analysis.store import Store
from orchestrator.packing import cohort_of
from orchestrator.queue import CohortQueue
from orchestrator.sweep import load_sweep
from orchestrator.worker import CohortWorker, pulse_or_error
from workloads.process import keep_freed_memory

path, folder, spare = sys.argv[1], sys.argv[2], int(sys.argv[3])
sweep = load_sweep(path)
settings = {"device": "cpu", "checkpoint_s": 100.0}
queue = CohortQueue(
    store=Store.create(folder), sweep=sweep.name, cohorts=[cohort_of(sweep.runs, width=16)], settings=settings
)
torch.randn(64, 64) @ torch.randn(64, 64)  # libraries take their own memory before the limit is set
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + spare, used + spare))
worker = CohortWorker(store=queue.store, sweep=sweep.name, cohort=queue.take())
while not (pulse := pulse_or_error(worker)).over:
    pass
print(json.dumps({"width": worker.width, "error": pulse.error, "finished": pulse.finished}))
"""


def trained(folder: Path, *, spare_mb: int) -> dict[str, Any]:
    """What became of 16 runs in 16 slots, in a process that may take so much more memory."""
    sweep = folder / "wide.yaml"
    sweep.write_text(WIDE)
    command = [sys.executable, "-c", WORKER, str(sweep), str(folder / "store"), str(spare_mb * 2**20)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_slots_are_halved_until_they_fit_and_no_bit_changes(tmp_path: Path):
    found = trained(tmp_path, spare_mb=900)
    assert (found["error"], found["finished"]) == ("", 16)
    assert 1 <= found["width"] < 16
    run_sweep(load_sweep(tmp_path / "wide.yaml"), store_path=tmp_path / "calm", launcher="inline")
    for one, other in zip(values(tmp_path / "store"), values(tmp_path / "calm"), strict=True):
        assert as_bytes(one) == as_bytes(other)


def test_where_one_slot_does_not_fit_the_fault_is_told(tmp_path: Path):
    found = trained(tmp_path, spare_mb=40)
    assert found["width"] == 1
    assert "memory" in found["error"]
    assert Store(tmp_path / "store").statuses() == {}


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"])
def test_lack_of_memory_is_known_behind_what_it_led_to(message: str):
    from workloads.process import is_out_of_memory

    outer = RuntimeError("capture failed")
    outer.__context__ = RuntimeError(message)
    assert is_out_of_memory(outer)
    assert not is_out_of_memory(RuntimeError("capture failed"))
