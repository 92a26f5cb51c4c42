"""The `search:` part of a sweep file, read once and checked whole.

search:
  name: tpe                                    # or random, qmc, gp, cmaes, nsga2, nsga3, brute_force, …
  space: {…}                                   # see space.py
  objective: {p_eureka: {by_step: 800}}        # or a list of them; goal: maximize | minimize where it is not plain
  constraints: [{run_steps: {}, at_most: 900}] # on what is scored, objective or not
  configs: 48                                  # budgets: configs asked, …
  run_steps: 2.0e+6                            # … run-steps trained, …
  hours: 0.5                                   # … time; whichever ends first
  batch: 8                                     # configs asked in one go
  options: {n_startup_trials: 16}              # the sampler's own
  seed: 0
  warm_start: true                             # configs of the space that the store has already are told first
  storage: sqlite:///study.db                  # the study's; in the store unless given
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field, ValidationError

from orchestrator.errors import BadRequest, quoted
from orchestrator.search.objectives import GOALS, HAS_STEP, OBJECTIVES, Constraint, Objective
from orchestrator.yaml_source import Place, Source
from workloads.errors import near_miss
from workloads.fields import Frozen

ROOT: Place = ("search",)
BOUNDS = ("at_least", "at_most")
OBJECTIVE_FORM = "an objective such as {p_eureka: {by_step: 800}}, or a list of them"


class Settings(Frozen):
    """The plain part of `search:`.

    Attributes:
        name: who asks.
        configs, run_steps, hours: nothing more is asked once so many were asked, trained, or have passed.
        batch: configs asked in one go; as many as fill the slots unless given.
        together: configs of one shape asked in a row; as many as fill a cohort unless given.
        options: of the sampler.
        seed: of the sampler; the same search asks the same first batch.
        warm_start: tell what the store has already of the space.
        storage: address of the study's database; None is a journal in the store.
    """

    name: str
    configs: int | None = Field(None, ge=1)
    run_steps: float | None = Field(None, gt=0.0)
    hours: float | None = Field(None, gt=0.0)
    batch: int | None = Field(None, ge=1, le=10_000)
    together: int | None = Field(None, ge=1, le=10_000)
    options: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(0, ge=0, lt=2**31)
    warm_start: bool = False
    storage: str | None = None


class _Step(Frozen):
    by_step: int | None = Field(None, ge=1)


class _Whole(Frozen):
    pass


class _Goal(Frozen):
    goal: Literal["maximize", "maximise", "minimize", "minimise"] | None = None
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a search is asked to do.

    Attributes:
        settings: the plain part.
        objectives: what to make large or small, one or more.
        constraints: bounds on them, or on other scores.
    """

    settings: Settings
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()

    @property
    def scored(self) -> tuple[Objective, ...]:
        """Everything that is scored, objectives first."""
        own = {one.label for one in self.objectives}
        others = {one.objective.label: one.objective for one in self.constraints if one.objective.label not in own}
        return (*self.objectives, *others.values())

    def record(self) -> dict[str, Any]:
        """It, ready for JSON; without the study's address, which may hold a password."""
        plain = self.settings.model_dump(exclude={"storage"})
        plain |= {"objectives": [one.record() for one in self.objectives]}
        return plain | {"constraints": [one.record() for one in self.constraints]}


def read_settings(data: Mapping[str, Any], *, source: Source) -> Asked:
    """The search of a sweep file, less its space.

    Raises:
        BadRequest: with file and line of the first fault.
    """
    fields = Settings.model_fields
    if "points" in data or "axes" in data:
        raise source.expected(ROOT, got="points" if "points" in data else "axes", expected="a `space`")
    known = (*fields, "space", "objective", "constraints")
    for key in data:
        if key not in known:
            hint = near_miss(key, known)
            raise source.expected((*ROOT, key), got=key, expected=f"one of {', '.join(known)}", hint=hint, key="search")
    plain = {key: value for key, value in data.items() if key in fields}
    settings = _checked(Settings, plain, place=ROOT, source=source)
    objectives = _objectives(data.get("objective"), source=source)
    constraints = _constraints(data.get("constraints", []), objectives=objectives, source=source)
    return Asked(settings=settings, objectives=objectives, constraints=constraints)


def _objectives(value: Any, *, source: Source) -> tuple[Objective, ...]:
    place = (*ROOT, "objective")
    if not isinstance(value, list):
        return tuple(_labelled([_objective(value, place=place, source=source)]))
    if not value:
        raise source.expected(place, got=value, expected=OBJECTIVE_FORM)
    found = [_objective(one, place=(*place, str(i)), source=source) for i, one in enumerate(value)]
    for i, one in enumerate(found):
        if (one.kind, one.by_step) in {(other.kind, other.by_step) for other in found[:i]}:
            raise source.fault((*place, str(i)), f"search.objective: got {one.kind} twice; expected each once")
    return tuple(_labelled(found))


def _labelled(found: Sequence[Objective]) -> list[Objective]:
    """Labels as short as they can be: the step is named where a kind comes twice."""
    kinds = [one.kind for one in found]
    return [
        replace(one, label=one.kind if kinds.count(one.kind) == 1 else f"{one.kind}_{one.by_step or 'budget'}")
        for one in found
    ]


def _objective(value: Any, *, place: Place, source: Source) -> Objective:
    objective, rest = _parted(value, place=place, source=source)
    for bound in BOUNDS:
        if getattr(rest, bound) is not None:
            raise source.fault((*place, bound), f"search.objective: {bound} bounds a constraint; move it there")
    is_maximised = OBJECTIVES[objective.kind] if rest.goal is None else GOALS[rest.goal]
    return replace(objective, is_maximised=is_maximised)


def _constraints(value: Any, *, objectives: Sequence[Objective], source: Source) -> tuple[Constraint, ...]:
    place = (*ROOT, "constraints")
    if not isinstance(value, list):
        raise source.expected(place, got=value, expected="a list such as [{p_eureka: {by_step: 800}, at_least: 0.5}]")
    found = []
    for i, each in enumerate(value):
        here = (*place, str(i))
        objective, rest = _parted(each, place=here, source=source)
        bounds = [bound for bound in BOUNDS if getattr(rest, bound) is not None]
        if len(bounds) != 1 or rest.goal is not None:
            got = ", ".join(bounds) or "no bound"
            raise source.fault(here, f"search.constraints: got {got}; expected one of at_least, at_most")
        same = next((one for one in objectives if (one.kind, one.by_step) == (objective.kind, objective.by_step)), None)
        taken = {one.label for one in objectives}
        label = same.label if same else objective.kind
        if same is None and label in taken:
            label = f"{objective.kind}_{objective.by_step or 'budget'}"
        bounded = same or replace(objective, label=label)
        found.append(Constraint(objective=bounded, bound=getattr(rest, bounds[0]), is_least=bounds[0] == "at_least"))
    return tuple(found)


def _parted(value: Any, *, place: Place, source: Source) -> tuple[Objective, _Goal]:
    """An objective, and what stands beside it."""
    value = {value: {}} if isinstance(value, str) else value
    if not isinstance(value, dict) or not value:
        raise source.expected(place, got=value, expected=OBJECTIVE_FORM)
    kinds = [key for key in value if key not in _Goal.model_fields]
    if len(kinds) != 1 or kinds[0] not in OBJECTIVES:
        got = next((key for key in kinds if key not in OBJECTIVES), ", ".join(kinds) or "no objective")
        at = (*place, got) if got in value else place
        hint = near_miss(got, OBJECTIVES)
        listed = f"{'one' if len(kinds) < 2 else 'only one'} of {', '.join(OBJECTIVES)}"
        raise source.expected(at, got=got, expected=listed, hint=hint, key=".".join(place[:2]))
    kind = kinds[0]
    beside = _checked(_Goal, {key: inner for key, inner in value.items() if key != kind}, place=place, source=source)
    shape = _Step if kind in HAS_STEP else _Whole
    arguments = _checked(shape, value[kind] or {}, place=(*place, kind), source=source)
    return Objective(kind=kind, by_step=getattr(arguments, "by_step", None)), beside


def _checked(shape: type[Frozen], data: Any, *, place: Place, source: Source) -> Any:
    """Plain data as a frozen value, or one line about its first fault."""
    if not isinstance(data, dict):
        raise source.expected(place, got=data, expected="a mapping of keys to values")
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        raise fault_of(error, place=place, source=source, known=list(shape.model_fields)) from None


def fault_of(error: ValidationError, *, place: Place, source: Source, known: Sequence[str] = ()) -> BadRequest:
    """The first fault that pydantic found, in one line."""
    fault = error.errors()[0]
    return _told(fault, at=(*place, *map(str, fault["loc"])), known=list(known), source=source)


def _told(fault: Any, *, at: Place, known: list[str], source: Source) -> BadRequest:
    if fault["type"] == "extra_forbidden":
        expected = f"one of {', '.join(known)}" if known else "no such key"
        hint = near_miss(at[-1], known)
        return source.expected(at, got=at[-1], expected=expected, hint=hint, key=".".join(at[:-1]))
    if fault["type"] == "missing":
        return source.fault(at, f"{'.'.join(at)}: got nothing; expected a value; it has no default")
    expected = fault["msg"].removeprefix("Input should be ").removeprefix("a valid ").replace("valid ", "")
    expected = {"integer": "an integer", "number": "a number", "string": "a word", "boolean": "true or false"}.get(
        expected, expected
    )
    return source.fault(at, f"{'.'.join(at)}: got {quoted(fault['input'])}; expected {expected}")
