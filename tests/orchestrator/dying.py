"""A sweep in a bucket, killed with -9 after its first change there, then after its second, until one ends by itself.

    python dying.py SWEEP STORE every|fresh STRIDE

`every` goes on in one store, as a user would. `fresh` takes a store of its own for each death (STORE/0001 …) and then
runs the sweep there once more, undisturbed: so it dies between every two requests that change the bucket.
Prints how often it died. The code is imported once, each attempt is a fork.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from analysis.places.bucket import Bucket
from orchestrator.run import run_sweep
from orchestrator.sweep import load_sweep

MOST = 400


def main(sweep: str, store: str, how: str, stride: int) -> int:
    torch.set_num_threads(1)
    deaths = 0
    for changes in range(1, MOST, stride):
        here = f"{store}/{changes:04d}" if how == "fresh" else store
        is_dead = attempt(sweep, here, changes=changes)
        deaths += is_dead
        if not is_dead:
            print(deaths)
            return 0
        if how == "fresh":
            assert not attempt(sweep, here, changes=MOST)
    return 1


def attempt(sweep: str, store: str, *, changes: int) -> bool:
    """Whether a process of its own died of its last change."""
    child = os.fork()
    if child == 0:
        die_after(changes)
        outcome = run_sweep(
            load_sweep(Path(sweep)),
            store_path=store,
            launcher="inline",
            width=2,
            workers=1,
            device="cpu",
            checkpoint_s=0.1,
        )
        os._exit(int(outcome.interrupted))
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), f"left with {status}"
    return bool(status)


def die_after(changes: int) -> None:
    left = [changes]

    def patched(verb: str) -> None:
        real = getattr(Bucket, verb)

        def change(self: Bucket, key: str, *data: bytes) -> object:
            result = real(self, key, *data)
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(Bucket, verb, change)

    for verb in ("put", "put_new", "delete"):
        patched(verb)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
