"""How far one driver reaches, and whether a worker stays as small as it began.

*driver*: a hundred thousand runs of a task that trains nothing, through Ray Tune; half-way the driver is killed, and
the same command goes on. Its memory, processor time and open files are read while it works, so that it shows whether
they grow with the runs that are done. *worker*: one worker in this process takes run after run over a million steps.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.timing import machine, options, table, tell

TITLES = {"driver": "Scale: one driver and many runs", "worker": "Scale: one worker and many steps"}
ROOT = Path(__file__).parents[2]
SWEEP = """\
name: scale
question: How far does one driver reach?
base:
  task: {{name: declared}}
  model: {{name: declared}}
  optim: {{name: sgd, lr: 1.0e-3}}
  budget: {{steps: {steps}, batch: 1}}
axes:
  optim.lr: {{log_range: [1.0e-4, 1.0e-2], points: {configs}}}
replicates: {replicates}
"""
TICK_S = os.sysconf("SC_CLK_TCK")
WAIT_S = 7200.0


def usage(pid: int | str = "self") -> dict[str, float]:
    """A process's processor time [s], memory now and at its peak [MiB], and open files."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = {line.partition(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmHWM", "VmRSS"))}
    cpu = (int(words[11]) + int(words[12])) / TICK_S
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return {"cpu": cpu, "now": kib["VmRSS"] / 1024, "peak": kib["VmHWM"] / 1024, "files": files}


# -- the driver ----------------------------------------------------------------------------------


def word_of(store: Path, pid: int) -> dict[str, Any]:
    """What the command of that process last said of itself."""
    try:
        word: dict[str, Any] = json.loads((store / "sweeps" / "scale" / "progress.json").read_text())
    except (OSError, ValueError):
        return {}
    return word if word.get("pid") == pid else {}


def driven(folder: Path, *, until: int | None) -> dict[str, Any]:
    """One `eureka run`, watched; killed once so many runs are done."""
    command = [sys.executable, "-m", "orchestrator.cli", "run", "scale.yaml", "--store", "store", "--no-report"]
    began = time.monotonic()
    with (folder / "driver.log").open("a") as log:
        process = subprocess.Popen(
            [*command, "--width", "64"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    marks: list[dict[str, float]] = []
    planned: dict[str, float] = {}
    while process.poll() is None and time.monotonic() - began < WAIT_S:
        time.sleep(0.25)
        try:
            found = usage(process.pid)
        except (OSError, KeyError, IndexError):  # it has just ended
            break
        word = word_of(folder / "store", process.pid)
        if word and not planned:
            planned = {"wall": time.monotonic() - began, "cpu": found["cpu"]}
        if word:
            marks.append({"done": word["done"], **found})
        if until is not None and word.get("done", 0) >= until:
            os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    return {"marks": marks, "planned": planned, "wall": time.monotonic() - began, "code": code}


def of_driver(*, runs: int) -> str:
    configs = 25
    with tempfile.TemporaryDirectory(prefix="eureka-bench-") as scratch:
        folder = Path(scratch)
        text = SWEEP.format(steps=16, configs=configs, replicates=runs // configs)
        (folder / "scale.yaml").write_text(text)
        first = driven(folder, until=runs // 2)
        second = driven(folder, until=None)
        rows = list(shown(first, words="first")) + list(shown(second, words="again, after kill -9"))
        from analysis.store import Store

        statuses = Store(folder / "store").statuses()
        log = (folder / "driver.log").read_text()[-2000:]
        size_mib = sum(path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file()) / 2**20
    header = ["command", "runs done by it", "CPU, whole [s]", "CPU since planning, ms a run"]
    header += ["memory now [MiB]", "peak [MiB]", "open files"]
    plans = "; ".join(
        f"{words} {one['planned'].get('cpu', 0):.1f} s of processor time, {one['planned'].get('wall', 0):.1f} s wall"
        for words, one in (("first", first), ("again", second))
    )
    note = (
        f"{runs:,} runs planned, {len(statuses):,} in the ledger, exit code {second['code']}; the first command was "
        f"killed half-way. From the command to the end of planning, start of Ray included: {plans}. Whole: "
        f"{first['wall'] + second['wall']:.0f} s wall; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; the "
        f"store has {size_mib:.0f} MiB."
    )
    if second["code"]:
        note += f"\n\n{log}"
    return f"{note}\n\n{table(header, rows)}"


def shown(found: dict[str, Any], *, words: str) -> Iterator[list[str]]:
    """The driver at a tenth, a quarter, half and all of what it did."""
    marks, planned = found["marks"], found["planned"]
    if not marks:
        return
    last = marks[-1]["done"]
    for share in (0.1, 0.25, 0.5, 1.0):
        mark = next(one for one in marks if one["done"] >= share * last)
        each = 1000 * (mark["cpu"] - planned["cpu"]) / max(1.0, mark["done"])
        memory = [f"{mark[name]:.0f}" for name in ("now", "peak", "files")]
        yield [words, f"{mark['done']:,}", f"{mark['cpu']:.1f}", f"{each:.2f}", *memory]


# -- the worker ----------------------------------------------------------------------------------


def of_worker(*, runs: int, steps: int, width: int) -> str:
    header = ["run-steps", "runs ended", "memory now [MiB]", "open files", "CPU [s]"]
    marks = list(worked(runs=runs, steps=steps, width=width))
    picked = [marks[round(share * (len(marks) - 1))] for share in (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)]
    rows = [
        [f"{one['run_steps']:,}", f"{one['ended']:,}", f"{one['now']:.1f}", f"{one['files']:.0f}", f"{one['cpu']:.0f}"]
        for one in picked
    ]
    refills = max(0, runs - width)
    note = f"{runs:,} runs of {steps:,} steps in {width} slots, {refills:,} refills; checkpoints every second."
    return f"{note}\n\n{table(header, rows)}"


def worked(*, runs: int, steps: int, width: int) -> Iterator[dict[str, float]]:
    """A worker that trains one cohort: its use of the machine after each pulse."""
    from analysis.store import Store
    from orchestrator.packing import cohort_of
    from orchestrator.queue import CohortQueue
    from orchestrator.sweep import sweep_from_text
    from orchestrator.worker import CohortWorker

    with tempfile.TemporaryDirectory(prefix="eureka-bench-") as scratch:
        sweep = sweep_from_text(SWEEP.format(steps=steps, configs=5, replicates=-(-runs // 5)), file="scale.yaml")
        store = Store.create(Path(scratch) / "store")
        settings = {"device": "cpu", "checkpoint_s": 1.0}
        cohort = cohort_of(sweep.runs[:runs], width=width)
        queue = CohortQueue(store=store, sweep="scale", cohorts=[cohort], settings=settings)
        worker = CohortWorker(store=str(store.path), sweep="scale", cohort=str(queue.take()))
        worker.open()
        while True:
            pulse = worker.step()
            yield {"run_steps": pulse.run_steps, "ended": pulse.finished + pulse.diverged, **usage()}
            if pulse.over:
                return


def main(argv: list[str] | None = None) -> None:
    asked = options(__doc__, quick="a hundredth of the runs, and of a worker's steps")
    asked.add_argument("--case", choices=list(TITLES), action="append", help="only this; more than once")
    asked.add_argument("--runs", type=int, default=100_000, help="of the driver's sweep")
    given = asked.parse_args(argv)
    for case in given.case or TITLES:
        if case == "driver":
            text = of_driver(runs=given.runs // (100 if given.quick else 1))
        else:
            text = of_worker(runs=1072, steps=10 if given.quick else 1000, width=64)
        about = f"`python -m tests.benchmarks.bench_scale --case {case}`; {machine()}."
        tell(TITLES[case], f"{about}\n\n{text}", is_kept=given.write)


if __name__ == "__main__":
    main()
