"""What a strategy and the driver of a search say to each other.

    strategy.ask(most_runs=…) ─▶ Proposals ─▶ runs are trained ─▶ strategy.tell(Answer)

A strategy keeps nothing that could not be built again from the store: its study, the ledger, and where
needed a file of its own beside them. So a killed search goes on by asking the study what was under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What a strategy wants trained.

    Attributes:
        trial: its number in the study; one config may be asked in several trials (more seeds).
        params: dotted field -> value.
        replicates: replicate numbers; their seeds are those of a grid sweep.
    """

    trial: int
    params: Mapping[str, Any]
    replicates: range


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run of a proposal, ended.

    Attributes:
        replicate: its number.
        status: `finished`, `diverged` or `failed`.
        event_step: where the online rule saw the event; None if it saw none [optimiser steps].
        steps: trained [optimiser steps].
        budget: that it might have trained [optimiser steps].
        final_loss: mean loss at its end; None where it has none [nats].
    """

    replicate: int
    status: str
    event_step: int | None
    steps: int
    budget: int
    final_loss: float | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A proposal with the outcome of each of its runs, in the order of the replicates."""

    proposal: Proposal
    outcomes: tuple[Outcome, ...]


class BadOption(Exception):
    """What a strategy is asked for, and cannot do: the text says what was got and what is expected.

    Args:
        message: such as `got 3 settings; expected 1 or 2 continuous ones`.
        path: the key below `search` that is at fault.
    """

    def __init__(self, message: str, *, path: tuple[str, ...] = ("options",)):
        super().__init__(message)
        self.path = path


class Strategy(Protocol):
    """Decides what to train next.

    **One thread.** The driver calls all three from the same thread, never at once.

    **Told once.** Each proposal is told exactly once, in any order, also after a restart.

    **After a restart.** The driver first tells it every answer that an earlier process was told, in the order of the
    trials (those of a warm start first, under numbers below zero), then calls `recall(proposal)`, where there is such
    a method, for each proposal that is still under way.

    **Nothing now.** An empty list from `ask` means that answers are awaited, or, where `is_over`, that
    nothing will be asked any more.

    **A budget of configs** counts trials, or, where the strategy `revisits`, distinct configs: more seeds of one are
    not another.
    """

    @property
    def revisits(self) -> bool:
        """Whether a config is asked for again, with more seeds."""

    def ask(self, *, most_runs: int) -> list[Proposal]:
        """What to train next: about so many runs together [runs]."""

    def tell(self, answer: Answer) -> None:
        """What came of a proposal."""

    @property
    def is_over(self) -> bool:
        """Nothing more is asked, whatever is told."""
