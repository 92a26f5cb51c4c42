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
        sensitivities: of each layer, how much its heads' answers would change with each token's query, key and value
            `(3, K, B, H, T)`, of some of the examples; costs a pass forward and back.
        regions: cells of a picture that a task tells apart, by name `(K, B, 4)`; filled by the task's measures.
        moved: distance of all weights from the run's first ones, in units of these ones' length `(K,)`.
    """

    attention: list[Tensor] = field(default_factory=list)
    states: dict[str, Tensor] = field(default_factory=dict)
    again: Callable[[Tensor], Tensor] | None = None
    sensitivities: Callable[[], list[Tensor]] | None = None
    regions: dict[str, Tensor] = field(default_factory=dict)
    moved: Callable[[], Tensor] | None = None
    gradients: Callable[[], dict[str, Tensor]] | None = None
