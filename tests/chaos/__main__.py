"""`python -m tests.chaos --faults 500 --seed 7`: the bench of faults; RESULTS.md says what was survived."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.chaos import results
from tests.chaos.bench import run, schedule
from tests.chaos.families import CHEAP, DEAR
from tests.chaos.scene import Fault, Suffered

DEAR_SHARE = 15  # one fault in so many plays a sweep of its own: with others that share it, Ray, or a gateway


def main(arguments: Sequence[str]) -> int:
    """Suffer, show how it goes, and write what it came to."""
    parser = argparse.ArgumentParser(prog="make chaos ARGS=…", description=__doc__)
    parser.add_argument("--faults", type=int, default=60, help="how many (60)")
    parser.add_argument("--seed", type=int, default=7, help="of everything that is drawn (7)")
    parser.add_argument("--dear", type=int, help="how many of them play a sweep of their own; one in 15 unless given")
    parser.add_argument("--only", default="", help="kinds that have this in their family or name")
    parser.add_argument("--notes", type=Path, help="a JSON line a fault; where the file exists, go on from it")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md, after every fault")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the disk is taken down
    cheap, out = _possible(CHEAP, asked.only)
    dear, more_out = _possible(DEAR, asked.only)
    n_dear = min(asked.faults, asked.faults // DEAR_SHARE if asked.dear is None else asked.dear) if dear else 0
    n_dear = n_dear if cheap else asked.faults
    faults = schedule(cheap, n=asked.faults - n_dear, seed=asked.seed) + schedule(dear, n=n_dear, seed=asked.seed)
    left_out = [*out, *more_out]
    for why in left_out:
        print(f"left out: {why}")
    done: dict[int, Suffered] = {}

    def tell(at: int, one: Suffered) -> None:
        done[at] = one
        recovery = "" if one.recovery_s is None else f"{one.recovery_s:.2f} s"
        found = "; ".join(one.problems)[:800] or "survived"
        name = f"{one.fault.family}: {one.fault.kind}"
        cost = f"{recovery:>8s} {one.repeated_steps:5d} steps"
        print(f"{at + 1:4d}/{len(faults)}  {name:75s} {cost}  {found}", flush=True)
        if asked.write:
            sofar = [done[at] for at in sorted(done)]
            results.write(results.page(sofar, seed=asked.seed, asked=len(faults), dear=n_dear, left_out=left_out))

    suffered = run(faults, seed=asked.seed, notes=asked.notes, tell=tell)
    survived = sum(not one.problems for one in suffered)
    print(f"{len(suffered)} faults, {survived} survived; seed {asked.seed}")
    return 0 if survived == len(suffered) else 1


def _possible(faults: Sequence[Fault], only: str) -> tuple[list[Fault], list[str]]:
    """Those that can be had here, and why others cannot."""
    wanted = [fault for fault in faults if only in f"{fault.family}: {fault.kind}"]
    out = [f"{fault.family}, {fault.kind}: {why}" for fault in wanted if (why := fault.needs())]
    return [fault for fault in wanted if not fault.needs()], out


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
