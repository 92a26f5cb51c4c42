"""Readings of accelerators, from a management library that is compiled here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.accelerators import Accelerators, Reading, together
from orchestrator.pulse import Pulse
from orchestrator.run import accelerators_note
from orchestrator.worker import CohortWorker

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("a driver") / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("pretended_nvml.c")
    subprocess.run(["gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", path, source], check=True)
    return str(path)


FIRST = Reading(name="Pretended H100", busy=0.25, used_gib=10.0, total_gib=80.0, watts=100.0, celsius=41)
SECOND = Reading(name="Pretended H100", busy=0.5, used_gib=20.0, total_gib=80.0, watts=200.0, celsius=42)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [FIRST, SECOND]),
        ("1", [SECOND]),
        ("0,1", [FIRST, SECOND]),
        ("GPU-00000002-pretended", [SECOND]),
        ("GPU-00000001", [FIRST]),
        ("", []),
        ("7", []),
    ],
)
def test_only_the_accelerators_of_this_process_are_read(
    library: str, visible: str | None, expected: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert Accelerators(library=library, visible=visible).readings() == expected


def test_a_cpu_worker_reads_none(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Accelerators(library=library).readings() == []


def test_a_slice_that_does_not_tell_how_busy_it_is_tells_the_rest(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETENDED_SLICE", "1")
    [reading] = Accelerators(library=library, visible="0").readings()
    assert (reading.busy, reading.used_gib) == (0.0, 10.0)


def test_no_driver_or_another_library_is_no_reading(tmp_path: Path) -> None:
    assert Accelerators(library="libno-such-driver.so.1").readings() == []
    assert Accelerators(library="libm.so.6").readings() == []
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"not a library")
    assert Accelerators(library=str(tmp_path / "libnvidia-ml.so.1")).readings() == []


def test_several_together_are_a_mean_share_and_sums() -> None:
    assert together([FIRST, SECOND]) == Reading(
        name="Pretended H100", busy=0.375, used_gib=30.0, total_gib=160.0, watts=300.0, celsius=42
    )
    assert together([]) is None


def test_progress_says_what_accelerators_do_and_nothing_of_workers_without(library: str) -> None:
    first = Pulse(cohort="a", gpu_busy=0.25, gpu_gib=10.0, gpu_total_gib=80.0)
    second = Pulse(cohort="b", gpu_busy=0.5, gpu_gib=20.0, gpu_total_gib=80.0)
    over = Pulse(cohort="c", gpu_busy=1.0, gpu_gib=80.0, gpu_total_gib=80.0, over=True)
    assert accelerators_note([first, second, over]) == ["accelerators 38% busy, 15.0 of 80 GiB used"]
    assert accelerators_note([Pulse(cohort="d"), over]) == []


def test_a_workers_pulse_and_its_runs_provenance_carry_the_readings(library: str, tmp_path: Path) -> None:
    worker = CohortWorker(store=str(tmp_path), sweep="s", cohort="c")
    assert worker._pulse().gpu_total_gib == 0.0
    worker.device, worker.accelerators = "cpu", Accelerators(library=library, visible="1")
    pulse = worker._pulse()
    assert (pulse.gpu_busy, pulse.gpu_gib, pulse.gpu_total_gib, pulse.gpu_watts) == (0.5, 20.0, 80.0, 200.0)
    provenance = json.loads(worker._versions()["versions"])
    assert provenance["accelerators"] == {
        "gpu_gib": 20.0, "gpu_total_gib": 80.0, "gpu_busy": 0.5, "gpu_watts": 200.0,
    }  # fmt: skip
