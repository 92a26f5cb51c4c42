"""`make fuzz`: makes inputs from a seed, lets them in, counts, and keeps whatever went wrong.

    python -m tests.fuzz --inputs 2000 --seed 1            every target
    python -m tests.fuzz sweep cluster --minutes 5         some, for so long each
    python -m tests.fuzz sweep --seed 1 --only 137         one input again, with its traceback

Inputs are functions of (seed, target, number), so a number is all that a report needs. A target runs in a process of
its own; one that dies (a crash in a library's C code) is noted and begun again behind the input that killed it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import mmap
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.target import Defect, Target, file_name, tried
from tests.fuzz.targets import GROUPS, named

MOST_BYTES = 12 << 30  # of a process's addresses: a bomb must not take the machine along
STILL_S = 180.0  # wall time after which an input that is stuck in C is given up


def main() -> int:
    """Fuzz the chosen targets; 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", help=f"some of {', '.join(GROUPS)}; all unless given")
    parser.add_argument("--inputs", type=int, default=2000, help="of each target")
    parser.add_argument("--minutes", type=float, help="of each target, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--begin", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, help="one input again")
    parser.add_argument("--out", type=Path, default=Path("fuzz-found"), help="where defects are kept")
    parser.add_argument("--json", dest="as_json", action="store_true")
    asked = parser.parse_args()
    asked.out = asked.out.absolute()
    if unknown := [name for name in asked.targets if name not in GROUPS]:
        parser.error(f"got '{unknown[0]}'; expected some of {', '.join(GROUPS)}")
    with tempfile.TemporaryDirectory(prefix="eureka-fuzz-", dir=_memory_folder()) as folder:
        _alone(Path(folder))
        if asked.only is not None:
            return _again(asked, Path(folder))
        rows = [fuzz(name, asked, Path(folder) / name) for name in asked.targets or GROUPS]
    if asked.as_json:
        print(json.dumps(rows))
    print(f"{sum(row['inputs'] for row in rows):,} inputs, {sum(len(row['defects']) for row in rows)} defects")
    return 1 if any(row["defects"] for row in rows) else 0


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _alone(folder: Path) -> None:
    """Nothing of the user's own is read or written."""
    os.environ |= {"EUREKA_CACHE": f"{folder}/cache", "HOME": f"{folder}/home", "OMP_NUM_THREADS": "1"}
    os.environ |= {"POLARS_MAX_THREADS": "1"}
    for name in ("EUREKA_STORE", "EUREKA_DATA", "RAY_ADDRESS"):
        os.environ.pop(name, None)
    (folder / "home").mkdir()
    (folder / "empty").mkdir()
    os.chdir(folder / "empty")
    warnings.simplefilter("ignore")


def fuzz(name: str, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One target, begun again as often as its process dies; gives its row of the table."""
    began, spent = time.monotonic(), collections.Counter[str]()
    defects: dict[str, str] = {}
    with mmap.mmap(-1, 16) as shared:
        at, end = asked.begin, asked.begin + asked.inputs
        until = began + 60 * asked.minutes if asked.minutes else None
        while at < end and not (until and time.monotonic() > until):
            shared[:8] = at.to_bytes(8, "little")
            found = _in_a_process(Work(name, asked, folder, shared, until), range(at, end))
            died = int.from_bytes(shared[:8], "little")
            spent.update(found.pop("counts", {}))
            defects |= found.pop("defects", {})
            if "ended" in found:
                at = found["ended"]
                break
            spent["inputs"] += 1
            defects[f"process died or stood still ({found['how']})"] = _kept(name, asked, folder, died)
            at = died + 1
    row = {"target": name, **{key: spent[key] for key in ("inputs", "taken", "refused")}}
    row |= {"cpu_s": spent["milliseconds"] / 1000, "seed": asked.seed, "begin": asked.begin, "defects": defects}
    print(
        f"{name:<12}{row['inputs']:>10,} inputs {row['taken']:>10,} taken {row['refused']:>10,} refused "
        f"{row['cpu_s']:>8.1f} s  {len(defects)} defects",
        flush=True,
    )
    for place, file in defects.items():
        print(f"    {place}: {file}", flush=True)
    return row


@dataclass(frozen=True)
class Work:
    """One target's: what was asked, where its files are, the number of the input at hand, when to end."""

    name: str
    asked: argparse.Namespace
    folder: Path
    shared: mmap.mmap
    until: float | None

    @property
    def at(self) -> int:
        """Which input its process is at."""
        return int.from_bytes(self.shared[:8], "little")


def _in_a_process(work: Work, numbers: range) -> dict[str, Any]:
    """Inputs in a fork; what it wrote down before it ended, by itself or not."""
    work.folder.mkdir(parents=True, exist_ok=True)
    record = work.folder / "found.json"
    record.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        code = 70
        with contextlib.suppress(KeyboardInterrupt):
            resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
            _work(work, numbers)
            code = 0
        os._exit(code)
    seen, since = -1, time.monotonic()
    while True:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            break
        if work.at != seen:
            seen, since = work.at, time.monotonic()
        elif time.monotonic() - since > STILL_S:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.1)
    found: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
    if os.waitstatus_to_exitcode(status) != 0:
        found.pop("ended", None)
        found["how"] = f"exit {os.waitstatus_to_exitcode(status)}"
    return found


def _work(work: Work, numbers: range) -> None:
    target, asked, folder = named(work.name, work.folder / "work"), work.asked, work.folder
    pool, defects = target.pool(), dict[str, str]()
    counts = collections.Counter[str]()
    cpu, number = time.process_time(), numbers.start

    def note(**more: Any) -> None:
        counts["milliseconds"] = int(1000 * (time.process_time() - cpu))
        draft = folder / "found.part"
        draft.write_text(json.dumps({"counts": counts, "defects": defects, **more}))
        draft.replace(folder / "found.json")

    for number in numbers:
        work.shared[:8] = number.to_bytes(8, "little")
        data = target.made(number, seed=asked.seed, pool=pool)
        found = tried(target, data)
        counts["inputs"] += 1
        if isinstance(found, Defect):
            if found.place not in defects:
                text = f"seed {asked.seed} number {number}\n{found.text}"
                defects[found.place] = _write(asked.out, work.name, data, text)
                note()
        else:
            counts["taken" if found else "refused"] += 1
        if counts["inputs"] % 200 == 0:
            note()
            if work.until and time.monotonic() > work.until:
                break
    note(ended=number + 1)


def _kept(name: str, asked: argparse.Namespace, folder: Path, number: int) -> str:
    """The input that killed a process."""
    target = named(name, folder / "again")
    data = target.made(number, seed=asked.seed, pool=target.pool())
    return _write(asked.out, name, data, f"seed {asked.seed} number {number}: the process died")


def _write(out: Path, name: str, data: bytes, text: str) -> str:
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(data)
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(text)
    return str(path)


def _again(asked: argparse.Namespace, folder: Path) -> int:
    code = 0
    for name in asked.targets or GROUPS:
        target: Target = named(name, folder / name)
        data = target.made(asked.only, seed=asked.seed, pool=target.pool())
        found = tried(target, data)
        sys.stdout.buffer.write(data + b"\n")
        print(f"{name}: {found.text if isinstance(found, Defect) else 'taken' if found else 'refused'}")
        code |= isinstance(found, Defect)
    return code


if __name__ == "__main__":
    sys.exit(main())
