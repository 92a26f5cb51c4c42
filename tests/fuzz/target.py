"""What is fuzzed, and what counts as a defect.

An input is *taken* or *refused*. To refuse is to raise one of the project's own errors with a message of one line.
Anything else that leaves a target is a defect: another exception, a message of several lines, a hang, a dead process,
a broken promise that the target itself looks at.
"""

from __future__ import annotations

import hashlib
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

from analysis.errors import AnalysisError
from orchestrator.errors import OrchestratorError
from workloads.errors import WorkloadError

CORPUS = Path(__file__).parent / "corpus"
OURS = (OrchestratorError, WorkloadError, AnalysisError)
MOST_S = 20.0  # processor time of one input


class Hung(BaseException):
    """An input took longer than `MOST_S`; no `except Exception` may swallow it."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One door by which input comes in.

    Attributes:
        name: of it, and of its folder in the corpus.
        seeds: right inputs, from which others are made.
        vary: makes another input from one of the seeds or the corpus.
        run: lets it in; raises one of the project's errors to refuse it.
    """

    name: str
    seeds: Sequence[bytes]
    vary: Callable[[Random, bytes, Sequence[bytes]], bytes]
    run: Callable[[bytes], None]

    def pool(self) -> list[bytes]:
        """Seeds, and what was worth keeping."""
        return [*self.seeds, *(path.read_bytes() for path in kept(self.name))]

    def made(self, number: int, *, seed: int, pool: Sequence[bytes]) -> bytes:
        """Input `number` of a seed: the same on any machine."""
        rng = Random(f"{seed}/{self.name}/{number}")
        return self.vary(rng, rng.choice(pool), pool)


def kept(name: str) -> list[Path]:
    """Inputs of a target's corpus."""
    return sorted(path for path in (CORPUS / name).glob("*") if path.is_file())


@dataclass(frozen=True)
class Defect:
    """What an input did that it must not; `place` tells defects apart."""

    place: str
    text: str


def tried(target: Target, data: bytes) -> bool | Defect:
    """Whether an input is taken; or what went wrong. The main thread alone may call it."""
    before = signal.signal(signal.SIGVTALRM, _hung)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_S)
    try:
        target.run(data)
    except OURS as error:
        said = str(error)
        if said.isprintable() and said:
            return False
        return Defect(f"{type(error).__name__} of several lines", repr(said)[:500])
    except (Exception, Hung, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if not f.filename.startswith((str(Path(__file__).parent), "/usr", "<"))]
        last = next((f for f in reversed(ours) if "site-packages" not in f.filename), frames[-1])
        return Defect(f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}", traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return True


def _hung(number: int, frame: FrameType | None) -> None:
    raise Hung(f"more than {MOST_S:g} s")


def file_name(data: bytes) -> str:
    """What the corpus calls an input."""
    return hashlib.blake2b(data, digest_size=5).hexdigest()
