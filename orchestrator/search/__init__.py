"""Searches: which configs to train next, given what came of the others; see README.md.

A strategy of our own is a file beside this and a line in `STRATEGIES`: a builder that takes what the file asks
(`Asked`), the space and a seed. It raises `pydantic.ValidationError` for options that are none, and `BadOption` for
whatever else is wrong with them. Optuna's samplers are listed in `request.SAMPLERS`.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.search.proposal import Strategy
from orchestrator.search.settings import Asked
from orchestrator.search.space import Space

Builder = Callable[[Asked, Space, int], Strategy]


def _replicates(asked: Asked, space: Space, seed: int) -> Strategy:
    from orchestrator.search.replicates import build_replicates

    return build_replicates(asked, space, seed)


def _boundary(asked: Asked, space: Space, seed: int) -> Strategy:
    from orchestrator.search.boundary import build_boundary

    return build_boundary(asked, space, seed)


STRATEGIES: dict[str, Builder] = {"replicates": _replicates, "boundary": _boundary}  # imported once they are wanted

__all__ = ["STRATEGIES", "Builder"]
