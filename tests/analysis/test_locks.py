"""A lock is had by one at a time, is free when its process ends, and is not waited for without end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from analysis.errors import StoreError
from analysis.places.locks import held

HOLDS = """
import sys, time
from pathlib import Path
from analysis.places.locks import held
with held(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path: Path):
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "lock")]
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in\n"
        yield process
        process.kill()


def test_who_has_waited_too_long_is_told_who_has_it(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    words = rf"locked for 0 s by process {other.pid} on .+; if it hangs, end it, and run"
    with pytest.raises(StoreError, match=words), held(tmp_path / "lock", patience_s=0.0):
        pass


def test_a_killed_process_holds_nothing(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    with held(tmp_path / "lock", patience_s=0.0):
        pass


def test_a_lock_is_had_by_one_thread_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, []

    def enter() -> None:
        nonlocal inside
        for _ in range(5):
            with held(tmp_path / "lock"):
                inside += 1
                most.append(inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


def test_a_lock_where_there_is_no_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), held(tmp_path / "none" / "lock"):
        pass
