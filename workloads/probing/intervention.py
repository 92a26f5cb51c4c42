"""What an intervention promises.

**A frozen spec.** Its fields say all that is done; with the run, the step, the number of examples and their seed they
determine every reading, to the bit.

**Refused before anything is computed.** `unfit` says what a model or task lacks, as the end of a sentence.

**K at once.** `readings` computes every snapshot of a bench together and sums over none of them.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from workloads.fields import Frozen

if TYPE_CHECKING:
    from torch import nn

    from workloads.probing.bench import Bench, Reading
    from workloads.spec import RunSpec


class Intervention(Frozen):
    """What all have in common.

    Attributes:
        task: settings of the task that examples are drawn with, in place of training's.
    """

    NEEDS_OTHER_STEP: ClassVar[bool] = False

    version: int = 1
    task: dict[str, Any] = Field(default_factory=dict)

    if TYPE_CHECKING:
        name: str

    def unfit(self, spec: RunSpec, model: nn.Module) -> str:
        """What would have to be otherwise; empty where the run can take it."""
        return ""

    @abstractmethod
    def readings(self, bench: Bench) -> Iterator[Reading]:
        """What comes of it."""

    @property
    def options(self) -> str:
        """All fields but the name that are not at their defaults, as compact JSON."""
        given = self.model_dump(exclude_defaults=True, exclude={"name"})
        return json.dumps(given, sort_keys=True, separators=(",", ":"))


def no_attention(model: nn.Module) -> str:
    """Empty where the model has attention layers."""
    from workloads.probing.taps import attentions

    return "" if attentions(model) else "a model with attention layers"


def chosen_layers(words: str, *, layers: int) -> list[int]:
    """`each`, `last` or `0 2` as layers from 0."""
    if words == "each":
        return list(range(layers))
    return [layers - 1] if words == "last" else [int(word) for word in words.split()]


def absent_layers(words: str, *, layers: int) -> str:
    """Empty where all chosen layers exist."""
    absent = [layer for layer in chosen_layers(words, layers=layers) if layer >= layers]
    return f"layers from 0 to {layers - 1}; got {absent[0]}" if absent else ""
