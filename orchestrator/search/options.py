"""Reading the `options:` of a strategy of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from orchestrator.search.proposal import BadOption
from workloads.errors import near_miss
from workloads.fields import Frozen

Options = TypeVar("Options", bound=Frozen)


def read_options(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """The options, checked.

    Raises:
        BadOption: a key that there is not.
        pydantic.ValidationError: a value that is none.
    """
    for key in given:
        if key not in kind.model_fields:
            hint = near_miss(key, kind.model_fields)
            listed = ", ".join(kind.model_fields)
            message = f"got an unknown key; expected one of {listed}{f'. {hint}' if hint else ''}"
            raise BadOption(message, path=("options", key))
    return kind.model_validate(dict(given))
