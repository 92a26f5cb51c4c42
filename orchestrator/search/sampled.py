"""Strategies as the driver sees them: one of Optuna's samplers, or one of our own whose trials the study records.

Both write what they ask into the study before anything is trained, and what came of it behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from orchestrator.errors import OrchestratorError
from orchestrator.search.objectives import Score, scores, unusable
from orchestrator.search.proposal import Answer, Outcome, Proposal, Strategy
from orchestrator.search.samplers import SHARED_SHAPE
from orchestrator.search.settings import Asked
from orchestrator.search.space import Space, Unfit
from orchestrator.search.study import Book
from orchestrator.search.trial import Trial

MOST_MISFITS = 100  # points in a row that make no run


class Recorder:
    """Writes proposals and answers into a study.

    Args:
        book: the study.
        space: of the search.
        asked: what is scored.
    """

    def __init__(self, book: Book, *, space: Space, asked: Asked):
        self.book, self.space, self.asked = book, space, asked

    def next_round(self) -> int:
        """How many times a strategy was asked, and this one."""
        return 1 + max((trial.round for trial in self.book.trials.values()), default=0)

    def propose(
        self, *, round_: int, replicates: range, fixed: Mapping[str, object] | None = None, own: int | None = None
    ) -> Trial | None:
        """A new trial; None where its values make no run, which is told at once."""
        trial = self.book.ask(round_=round_, replicates=replicates, fixed=fixed, own=own)
        try:
            config = self.space.config(trial.params)
        except Unfit as unfit:
            self.book.tell(trial.number, scores={}, reason=f"makes no run: {unfit}")
            return None
        self.book.confirm(trial.number, config_id=config.config_id)
        return trial

    def tell(self, answer: Answer) -> None:
        """Score a proposal's runs and tell them."""
        found = scores(answer.outcomes, objectives=self.asked.scored)
        self.book.tell(
            answer.proposal.trial,
            scores=found,
            constraints=excesses(self.asked, found),
            runs=len(answer.outcomes),
            events=events(answer.outcomes),
            reason=unusable(found, objectives=self.asked.scored),
        )


class Recorded(Protocol):
    """A strategy that may have been at work before."""

    @property
    def revisits(self) -> bool:
        """As a Strategy."""

    def ask(self, *, most_runs: int) -> list[Proposal]:
        """As a Strategy."""

    def tell(self, answer: Answer) -> None:
        """As a Strategy."""

    def recall(self, proposal: Proposal) -> None:
        """A proposal of an earlier process is under way."""

    def remind(self, answer: Answer) -> None:
        """An answer that an earlier process was told, and that the study has."""

    @property
    def is_over(self) -> bool:
        """As a Strategy."""


class Sampled:
    """One of Optuna's samplers.

    Several configs of one shape are asked in a row, so that they can fill a cohort: the first of them is the sampler's
    own choice, the others share those of its values that decide the shape. Samplers whose joint model needs every value
    (a Gaussian process, CMA-ES, a quasi-random sequence) are left alone.

    Args:
        recorder: of the study.
        name: the sampler's.
        together: configs asked in a row of one shape.
    """

    revisits = False

    def __init__(self, recorder: Recorder, *, name: str, together: int):
        self._recorder, self._name = recorder, name
        self._space = recorder.space
        self._together = together if name in SHARED_SHAPE else 1
        self._misfits = 0

    def ask(self, *, most_runs: int) -> list[Proposal]:
        """Configs for so many runs, with all replicates each."""
        n, found = self._space.n_replicates, list[Proposal]()
        round_, shape, of_shape = self._recorder.next_round(), dict[str, object](), 0
        while (len(found) + 1) * n <= most_runs and not self.is_over:
            shape, of_shape = ({}, 0) if of_shape == self._together else (shape, of_shape)
            trial = self._recorder.propose(round_=round_, replicates=range(n), fixed=shape)
            if trial is None:
                self._missed()
                continue
            self._misfits, of_shape = 0, of_shape + 1
            shape = self._space.outer(trial.params)
            found.append(trial.proposal)
        return found

    def tell(self, answer: Answer) -> None:
        """Tell the study."""
        self._recorder.tell(answer)

    def recall(self, proposal: Proposal) -> None:
        """The study knows."""

    def remind(self, answer: Answer) -> None:
        """The study knows."""

    @property
    def is_over(self) -> bool:
        """Brute force ends when every point was asked; so does a search whose budget repeated points do not touch."""
        counts = self._name != "brute_force" and self._recorder.asked.settings.configs is not None
        if counts or self._space.size is None:
            return False
        asked = {self._space.key(one.params) for one in self._recorder.book.trials.values() if _was_asked(one)}
        return len(asked) >= self._space.size

    def _missed(self) -> None:
        self._misfits += 1
        if self._misfits >= MOST_MISFITS:
            last = max(self._recorder.book.trials)
            reason = self._recorder.book.trials[last].reason
            raise OrchestratorError(f"search.space: {MOST_MISFITS} points in a row make no run; the last: {reason}")


class Own:
    """A strategy of our own, which knows nothing of Optuna; its proposals become trials of the study.

    Args:
        inner: the strategy.
        recorder: of the study.
    """

    def __init__(self, inner: Strategy, *, recorder: Recorder):
        self._inner, self._recorder = inner, recorder
        self._proposals: dict[int, Proposal] = {}

    @property
    def revisits(self) -> bool:
        """As the strategy does."""
        return self._inner.revisits

    def ask(self, *, most_runs: int) -> list[Proposal]:
        """What the strategy wants; points that make no run are answered at once, without outcomes."""
        round_, found = self._recorder.next_round(), []
        for wanted in self._inner.ask(most_runs=most_runs):
            trial = self._recorder.propose(
                round_=round_, replicates=wanted.replicates, fixed=wanted.params, own=wanted.trial
            )
            if trial is None:
                self._inner.tell(Answer(proposal=wanted, outcomes=()))
            else:
                self._proposals[trial.number] = wanted
                found.append(trial.proposal)
        return found

    def tell(self, answer: Answer) -> None:
        """Tell the study, then the strategy."""
        self._recorder.tell(answer)
        self._inner.tell(replace(answer, proposal=self._as_own(answer.proposal)))

    def recall(self, proposal: Proposal) -> None:
        """Let the strategy know, where it wants to."""
        if hasattr(self._inner, "recall"):
            self._inner.recall(self._as_own(proposal))

    def remind(self, answer: Answer) -> None:
        """Tell the strategy alone."""
        self._inner.tell(replace(answer, proposal=self._as_own(answer.proposal)))

    @property
    def is_over(self) -> bool:
        """As the strategy says."""
        return self._inner.is_over

    def _as_own(self, proposal: Proposal) -> Proposal:
        """A proposal under the number that the strategy gave it."""
        known = self._proposals.get(proposal.trial)
        if known is None:
            trial = self._recorder.book.trials[proposal.trial]
            own = proposal.trial if trial.own is None else trial.own
            known = replace(proposal, trial=-1 - proposal.trial if trial.is_warm else own)
            self._proposals[proposal.trial] = known
        return known


def excesses(asked: Asked, found: Mapping[str, Score]) -> dict[str, float]:
    """By how much scores break each constraint, by name."""
    told = {}
    for one in asked.constraints:
        if one.objective.label in found:
            name = f"{one.objective.label} {'>=' if one.is_least else '<='} {one.bound:g}"
            told[name] = one.excess(found[one.objective.label].value)
    return told


def events(outcomes: Sequence[Outcome]) -> int:
    """Runs that had their event."""
    return sum(one.event_step is not None for one in outcomes)


def _was_asked(trial: Trial) -> bool:
    return bool(trial.params) and (trial.state != "failed" or bool(trial.reason))
