"""A search as a sweep file asks for it: settings and space together, and what of them does not go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import BadRequest, hidden
from orchestrator.grid import Replicates
from orchestrator.search import STRATEGIES
from orchestrator.search.objectives import HAS_STEP
from orchestrator.search.parse_space import read_space
from orchestrator.search.proposal import BadOption
from orchestrator.search.settings import ROOT, Asked, fault_of, read_settings
from orchestrator.search.space import Space
from orchestrator.yaml_source import Source

SAMPLERS = ("random", "qmc", "tpe", "gp", "cmaes", "nsga2", "nsga3", "brute_force")  # Optuna's
SEARCHES = ("grid", *SAMPLERS, *STRATEGIES)
BOUNDLESS = tuple(name for name in SAMPLERS if name != "brute_force")  # ask for ever, if one lets them
SINGLE = ("cmaes",)  # know one objective, and no constraints
NEEDS = "search: needs Optuna; pip install 'eureka[search]'"


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search, read and checked.

    Attributes:
        asked: its settings, objectives and constraints.
        space: what it may ask for.
    """

    asked: Asked
    space: Space

    @property
    def name(self) -> str:
        """Who asks."""
        return self.asked.settings.name

    @property
    def is_sampler(self) -> bool:
        """Optuna asks, rather than a strategy of our own."""
        return self.name in SAMPLERS

    @property
    def budget_steps(self) -> int:
        """The largest budget of any run [optimiser steps]."""
        own = [one for one in self.space.settings if one.field == "budget.steps"]
        return int(max(own[0].ends)) if own else int(self.space.base["budget"]["steps"])

    @property
    def most_trials(self) -> int | None:
        """Trials at most; None where another budget ends it."""
        size = self.space.size if self.name == "brute_force" else None
        bounds = [n for n in (self.asked.settings.configs, size) if n is not None]
        return min(bounds) if bounds else None

    @property
    def options(self) -> dict[str, Any]:
        """The sampler's options: as given, and what suits a search of this size and space where nothing is said."""
        given, fitting = self.asked.settings.options, dict[str, Any]()
        if self.name in ("nsga2", "nsga3") and self.most_trials is not None:
            fitting["population_size"] = max(8, min(50, self.most_trials // 4))  # four generations, rather than one
        if self.name == "tpe" and len(self.asked.objectives) == 1 and any(one.when for one in self.space.settings):
            fitting["group"] = True  # settings that are there together are modelled together
        if self.name == "qmc":
            fitting["scramble"] = True  # else every search begins in the same corner
        return {**fitting, **given}

    def record(self) -> dict[str, Any]:
        """It, ready for JSON."""
        return {**self.asked.record(), "space": self.space.record()}


def read_search(data: Mapping[str, Any], *, base: Mapping[str, Any], replicates: Replicates, source: Source) -> Search:
    """The search of a sweep file.

    Raises:
        BadRequest: with file and line of the first fault.
    """
    if data.get("axes"):
        way_out = "move what it varies there"
        raise source.fault(("axes",), f"axes: a search varies search.space; {way_out}")
    asked = read_settings(data["search"], source=source)
    space = read_space(data["search"].get("space"), base=base, replicates=replicates, source=source)
    search = Search(asked=asked, space=space)
    _check_steps(search, source=source)
    _check_together(search, source=source)
    _check_options(search, source=source)
    return search


def without_password(data: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep file's data as the store may keep it."""
    search = data.get("search")
    if not isinstance(search, dict) or not isinstance(search.get("storage"), str):
        return dict(data)
    return {**data, "search": {**search, "storage": hidden(search["storage"])}}


def _check_steps(search: Search, *, source: Source) -> None:
    """Objectives look no further than every run may train."""
    own = [one for one in search.space.settings if one.field == "budget.steps"]
    least = int(min(own[0].ends)) if own else search.budget_steps
    for one in search.asked.scored:
        if one.kind in HAS_STEP and one.by_step is not None and one.by_step > least:
            expected = f"at most {least}, which is as far as runs train"
            raise source.fault(
                (*ROOT, "objective"), f"search: {one.kind}: by_step: got {one.by_step}; expected {expected}"
            )


def _check_together(search: Search, *, source: Source) -> None:
    """Parts that are right alone and wrong together."""
    settings, name, space = search.asked.settings, search.name, search.space
    if name in BOUNDLESS and settings.configs is None and settings.run_steps is None and settings.hours is None:
        raise source.fault(ROOT, f"search: got no budget; expected configs, run_steps or hours, or several, for {name}")
    if name == "brute_force" and not space.is_finite:
        endless = next(one.field for one in space.settings if not one.is_finite)
        way_out = "give the range `points` or a `step`"
        place = (*ROOT, "space", endless)
        raise source.fault(
            place, f"search.space.{endless}: brute_force tries every point, and it has no end; {way_out}"
        )
    if name in SINGLE and len(search.asked.objectives) > 1:
        others = ", ".join(one for one in SAMPLERS if one not in SINGLE)
        raise source.fault(
            (*ROOT, "objective"), f"search.objective: {name} knows one; expected one, or one of {others}"
        )
    if name in SINGLE and search.asked.constraints:
        others = ", ".join(one for one in SAMPLERS if one not in SINGLE)
        raise source.fault((*ROOT, "constraints"), f"search.constraints: {name} has none; expected one of {others}")


def _check_options(search: Search, *, source: Source) -> None:
    """The options are those of the sampler; it is built once to see."""
    settings, place = search.asked.settings, (*ROOT, "options")
    if search.is_sampler:
        try:
            from orchestrator.search.samplers import check_options, quiet
        except ImportError:
            raise BadRequest(NEEDS) from None
        quiet()
        if wrong := check_options(search.name, settings.options):
            option, message = wrong
            at = (*place, option) if option else place
            raise source.fault(at if option else (place if settings.options else ROOT), f"{'.'.join(at)}: {message}")
        return
    try:
        STRATEGIES[search.name](search.asked, search.space, settings.seed)
    except ValidationError as error:
        raise fault_of(error, place=place, source=source) from None
    except BadOption as error:
        at = (*ROOT, *error.path)
        raise source.fault(at, f"{'.'.join(at)}: {error}") from None
