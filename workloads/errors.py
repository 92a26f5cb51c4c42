"""What can be wrong with the description of a run."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class WorkloadError(Exception):
    """Base of every error that this folder raises on purpose; its text is one line."""

    def __init__(self, message: str = ""):
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


@dataclass(frozen=True)
class Problem:
    """One fault of one field.

    Args:
        path: the field, from the root of the run's spec (`("model", "attention", "name")`).
        got: the value found, as a user would type it; None where nothing was given.
        expected: what would have been right.
        hint: the way out, as a sentence; empty where `expected` says it all.
    """

    path: tuple[str, ...]
    got: str | None
    expected: str
    hint: str = ""

    def __str__(self) -> str:
        got = "" if self.got is None else f"got {self.got}; "
        hint = f". {self.hint}" if self.hint else ""
        where = f"{'.'.join(self.path)}: " if self.path else ""
        return f"{where}{got}expected {self.expected}{hint}"


class SpecError(WorkloadError):
    """A run's description breaks its schema; `problems` lists every fault found."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


class UnreadableState(WorkloadError):
    """A saved row does not fit the run that asks for it (another version, another layout)."""


class UnfitWeights(WorkloadError):
    """Weights to start from are not there, or are of another model."""


class UnfitModule(WorkloadError):
    """A user's own module cannot be imported, built, or trained."""


class NoCompiler(WorkloadError):
    """A compiled program was asked for where no C++ compiler is."""


class UnfitDevice(WorkloadError):
    """The device cannot do what the spec asks for."""


def near_miss(word: object, words: Iterable[str]) -> str:
    """`Did you mean 'softmax'?`, or nothing where no listed word is close."""
    close = difflib.get_close_matches(str(word), list(words), n=1, cutoff=0.6)
    return f"Did you mean '{close[0]}'?" if close else ""
