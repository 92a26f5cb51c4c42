"""What a forward pass shows when measures are taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Seen:
    """Filled by models on the way, read by the measures of task and model.

    Attributes:
        attention: weights of each layer `(K, B, H, queries, T)`.
        states: hidden states, or tables of weights, by the model's own names `(K, …)`.
        again: the same models' answers to other inputs; None where a model does not offer it.
        gradients: of the step's loss, by the parameters' names `(K, *shape)`; costs a pass forward and back.
        moved: distance of all weights from the run's first ones, in units of these ones' length `(K,)`.
    """

    attention: list[Tensor] = field(default_factory=list)
    states: dict[str, Tensor] = field(default_factory=dict)
    again: Callable[[Tensor], Tensor] | None = None
    moved: Callable[[], Tensor] | None = None
    gradients: Callable[[], dict[str, Tensor]] | None = None
