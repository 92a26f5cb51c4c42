"""`replicates`: seeds go where they are still needed, over a fixed set of configs.

    search:
      name: replicates
      space: {…}                                   # finite: every config of it is looked at
      objective: {p_eureka: {by_step: 800}}
      options: {until: narrow, width: 0.3, most: 64}         # every config's interval of P at most so wide; or
      options: {until: compared, by: chance, margin: 0.2, reference: {optim.lr: 1.0e-3}}

A config is looked at after `first` runs and then after every `each` more. *narrow* ends when its interval is narrow
enough; *compared* when its interval of the difference to the reference config leaves out 0, or lies within the margin
(by: chance), or when the log-rank statistic passes its bound (by: time), or after `most` runs. Intervals and bounds
are those of `analysis/sequential.py`, which hold although one looks again and again.

All there is to know is in the answers, so a search that goes on is told them again and stands where it stood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import Field

from analysis.sequential import WidthRule, difference_interval, log_rank_z, look_sizes, spending_bounds, width_rule
from orchestrator.search.options import read_options
from orchestrator.search.proposal import Answer, BadOption, Outcome, Proposal
from orchestrator.search.settings import Asked
from orchestrator.search.space import Space
from workloads.fields import Frozen

Run = tuple[float, bool] | None  # (step, whether the event came then); None is a run that failed and says nothing
Config = Mapping[str, Any]


class Options(Frozen):
    """What `options:` of this search may hold.

    Attributes:
        until: every interval is narrow, or every config is compared with the reference.
        width: narrow: of an interval, at most [fraction].
        by: compared: chance of an event, or its time.
        margin: compared by chance: a difference that would not matter [fraction]; None asks for a difference alone.
        reference: compared: the config to compare with; None is the first.
        level: coverage of all looks together; of all comparisons together [fraction].
        first, each, most: runs of a config before the first look, between looks, and in all [runs].
    """

    until: Literal["narrow", "compared"] = "narrow"
    width: float = Field(0.3, gt=0.0, lt=1.0)
    by: Literal["chance", "time"] = "chance"
    margin: float | None = Field(None, gt=0.0, lt=1.0)
    reference: dict[str, Any] | None = None
    level: float = Field(0.95, gt=0.0, lt=1.0)
    first: int = Field(8, ge=1)
    each: int = Field(4, ge=1)
    most: int = Field(64, ge=1)


class Goal(Protocol):
    """What the runs so far say, and how many more it takes; a function of these runs alone."""

    def wanted(self, seen: Sequence[Sequence[Run]]) -> list[int]:
        """Runs that each config should have; no more than it has, where it is done with."""

    def verdicts(self, seen: Sequence[Sequence[Run]]) -> list[str]:
        """What is known of each config, in a word or two."""


@dataclass(frozen=True, kw_only=True)
class Narrow:
    """Every config's interval of P is at most so wide.

    Attributes:
        rule: when it is, and how it is made.
        by_step: T of P [steps].
        most: runs of a config, at most [runs].
    """

    rule: WidthRule
    by_step: float
    most: int

    def interval(self, runs: Sequence[Run]) -> tuple[float, float]:
        """Interval of a config's P [fraction]."""
        events, told = _counts(runs, by_step=self.by_step)
        return self.rule.interval(events, runs=told)

    def wanted(self, seen: Sequence[Sequence[Run]]) -> list[int]:
        """One look more where the interval is too wide."""
        return [self._wanted(runs) for runs in seen]

    def _wanted(self, runs: Sequence[Run]) -> int:
        if self._is_narrow(runs):
            return len(runs)
        return min(self.most, self.rule.first if not runs else len(runs) + self.rule.each)

    def _is_narrow(self, runs: Sequence[Run]) -> bool:
        events, told = _counts(runs, by_step=self.by_step)
        return self.rule.is_narrow(events, runs=told)

    def verdicts(self, seen: Sequence[Sequence[Run]]) -> list[str]:
        """`narrow`, `most runs` or `open`."""
        return ["narrow" if self._is_narrow(r) else "most runs" if len(r) >= self.most else "open" for r in seen]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Every config but the reference is told apart from it, or found to be much the same, or has had its runs.

    Attributes:
        reference: index of the config to compare with.
        sizes: runs of each of the two at each look, ascending [runs].
        bounds: critical value at each look [standard errors].
        by: `chance` or `time`.
        by_step: T of P; times beyond it count as none [steps].
        margin: of a difference in P that would not matter; None is none [fraction].
    """

    reference: int
    sizes: tuple[int, ...]
    bounds: tuple[float, ...]
    by: str
    by_step: float
    margin: float | None

    def wanted(self, seen: Sequence[Sequence[Run]]) -> list[int]:
        """The next look of every comparison that is open; the reference keeps up with the furthest."""
        verdicts, found = self.verdicts(seen), [len(runs) for runs in seen]
        for index, verdict in enumerate(verdicts):
            if verdict == "open":
                shared = min(len(seen[index]), len(seen[self.reference]))
                size = next(size for size in self.sizes if size > shared)
                for each in (index, self.reference):
                    found[each] = max(found[each], size)
        return found

    def verdicts(self, seen: Sequence[Sequence[Run]]) -> list[str]:
        """`higher`, `lower` (`sooner`, `later`), `much the same`, `undecided` or `open`; `reference` of that one."""
        against = seen[self.reference]
        return [
            "reference" if index == self.reference else self._verdict(runs, against) for index, runs in enumerate(seen)
        ]

    def _verdict(self, runs: Sequence[Run], against: Sequence[Run]) -> str:
        for size, bound in zip(self.sizes, self.bounds, strict=True):
            if min(len(runs), len(against)) < size:
                return "open"
            if verdict := self._look(runs[:size], against[:size], bound=bound):
                return verdict
        return "undecided"

    def _look(self, runs: Sequence[Run], against: Sequence[Run], *, bound: float) -> str:
        if self.by == "time":
            told = [[_cut(run, self.by_step) for run in arm if run is not None] for arm in (runs, against)]
            z = log_rank_z(*told)
            return "" if abs(z) < bound else "sooner" if z > 0 else "later"
        low, high = difference_interval(*(_counts(arm, by_step=self.by_step) for arm in (runs, against)), z=bound)
        if low > 0 or high < 0:
            return "higher" if low > 0 else "lower"
        return "much the same" if self.margin is not None and max(-low, high) <= self.margin else ""


def compared(
    configs: int, *, reference: int = 0, by: str = "chance", by_step: float, margin: float | None = None,
    level: float = 0.95, first: int = 8, each: int = 4, most: int = 64,
) -> Compared:  # fmt: skip
    """The comparison of so many configs with one of them; Bonferroni shares the error among the comparisons."""
    sizes = look_sizes(first=min(first, most), each=each, most=most)
    alpha = (1 - level) / max(1, configs - 1)
    bounds = spending_bounds(tuple(size / most for size in sizes), alpha=alpha)
    return Compared(
        reference=reference, sizes=sizes, bounds=tuple(bounds.tolist()), by=by, by_step=by_step, margin=margin
    )


class Replicates:
    """The strategy: asks each config's runs up to what its goal wants.

    Args:
        configs: all of them.
        goal: what is to be known of them.

    Attributes:
        seen: the runs of each config, by replicate.
    """

    revisits = True

    def __init__(self, configs: Sequence[Config], goal: Goal):
        self.configs, self.goal = list(configs), goal
        self.seen: list[list[Run]] = [[] for _ in self.configs]
        self._found: list[dict[int, Run]] = [{} for _ in self.configs]
        self._asked = [0 for _ in self.configs]
        self._impossible: set[int] = set()  # configs that make no run
        self._number = {_key(config): index for index, config in enumerate(self.configs)}
        self._trial = 0

    def ask(self, *, most_runs: int) -> list[Proposal]:
        """The looks that are due, of configs with fewest runs first."""
        found: list[Proposal] = []
        wanted = self.goal.wanted(self.seen)
        for index in sorted(range(len(self.configs)), key=lambda i: (len(self.seen[i]), i)):
            have, asked = len(self.seen[index]), self._asked[index]
            if asked > have or wanted[index] <= have or index in self._impossible:
                continue
            replicates = range(asked, wanted[index])
            found.append(Proposal(trial=self._trial, params=self.configs[index], replicates=replicates))
            self._asked[index], self._trial = wanted[index], self._trial + 1
            if sum(len(one.replicates) for one in found) >= most_runs:
                break
        return found

    def recall(self, proposal: Proposal) -> None:
        """It was asked before the search was started again, and its answer is yet to come."""
        index = self._number[_key(proposal.params)]
        self._asked[index] = max(self._asked[index], proposal.replicates.stop)
        self._trial = max(self._trial, proposal.trial + 1)

    def tell(self, answer: Answer) -> None:
        """Runs of a config; no runs at all where its values make none."""
        self.recall(answer.proposal)
        index = self._number[_key(answer.proposal.params)]
        if not answer.outcomes:
            self._impossible.add(index)
        self._found[index] |= {one.replicate: as_run(one) for one in answer.outcomes}
        self.seen[index] = [self._found[index][replicate] for replicate in sorted(self._found[index])]

    @property
    def is_over(self) -> bool:
        """Every config has what it needs, and nothing is awaited."""
        open_ = [index for index in range(len(self.configs)) if index not in self._impossible]
        have = [len(runs) for runs in self.seen]
        if any(self._asked[index] > have[index] for index in open_):
            return False
        wanted = self.goal.wanted(self.seen)
        return all(wanted[index] <= have[index] for index in open_)


def as_run(outcome: Outcome) -> Run:
    """A run as (step, event); a diverged one never has it, so it counts as watched to its budget's end."""
    if outcome.status == "failed":
        return None
    if outcome.event_step is not None:
        return float(outcome.event_step), True
    return float(outcome.budget), False


def _counts(runs: Sequence[Run], *, by_step: float) -> tuple[int, int]:
    """(events by T, runs that say something)."""
    told = [run for run in runs if run is not None]
    return sum(had and step <= by_step for step, had in told), len(told)


def _cut(run: tuple[float, bool], by_step: float) -> tuple[float, bool]:
    step, had = run
    return (step, had) if step <= by_step else (by_step, False)


def _key(config: Config) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(config.items()))


def build_replicates(asked: Asked, space: Space, seed: int) -> Replicates:
    """As a sweep file asks for it; nothing is drawn, so the seed is not used.

    Raises:
        BadOption: the space has no end, the objective is no probability, or the reference is none of the configs.
    """
    options = read_options(Options, asked.settings.options)
    if asked.settings.warm_start:
        raise BadOption(
            "got true; expected false: seeds that are stored already are found without", path=("warm_start",)
        )
    if not space.is_finite:
        endless = next(one.field for one in space.settings if not one.is_finite)
        expected = "a list of values. Give the range `points`, or name them"
        raise BadOption(f"got a range without an end; expected {expected}", path=("space", endless))
    [objective] = asked.objectives if len(asked.objectives) == 1 else (None,)
    if objective is None or objective.kind != "p_eureka":
        got = ", ".join(one.kind for one in asked.objectives)
        raise BadOption(f"got {got}; expected p_eureka alone, which seeds are added for", path=("objective",))
    if options.most < options.first:
        raise BadOption(f"got {options.most}; expected {options.first} (first) or more", path=("options", "most"))
    configs, by_step = list(space.points()), objective.by_step or int(space.base["budget"]["steps"])
    looks = {"first": options.first, "each": options.each}
    if options.until == "narrow":
        rule = width_rule(options.width, level=options.level, **looks)
        return Replicates(configs, Narrow(rule=rule, by_step=by_step, most=options.most))
    reference = _reference(configs, options.reference)
    goal = compared(
        len(configs), reference=reference, by=options.by, by_step=by_step, margin=options.margin, level=options.level,
        most=options.most, **looks,
    )  # fmt: skip
    return Replicates(configs, goal)


def _reference(configs: Sequence[Config], wanted: Mapping[str, Any] | None) -> int:
    """Index of the one config that has the values wanted."""
    if wanted is None:
        return 0
    fits = [i for i, config in enumerate(configs) if all(config.get(name) == v for name, v in wanted.items())]
    if len(fits) != 1:
        which = ", ".join(f"{name} {value}" for name, value in wanted.items())
        got = f"{which}, which {len(fits) or 'none'} of the {len(configs)} configs {'have' if fits else 'has'}"
        raise BadOption(f"got {got}; expected values that one of them has", path=("options", "reference"))
    return fits[0]
