"""`mlp`: layers of neurons over all of an example's features at once.

Weights and biases start uniform between ±init_scale/sqrt(inputs), as torch's own linear layers do.

Source: the two-layer ReLU network of Barak et al. 2022, arXiv 2207.08799.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.fields import static
from workloads.models.model import Steady
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.perceptron import Perceptron
    from workloads.seen import Seen
    from workloads.tasks.task import Batch


class Mlp(Steady):
    """Shape of the network.

    Attributes:
        width: neurons of a hidden layer.
        layers: hidden layers.
        activation: of the hidden layers; `gelu` is the exact (erf) form.
        init_scale: of all first weights and biases, in units of 1/sqrt(inputs).
    """

    MEASURES: ClassVar[tuple[str, ...]] = ("first_norm",)
    READS: ClassVar[str] = "floats"
    ANSWERS: ClassVar[str] = "example"

    name: Literal["mlp"] = static("mlp")
    version: Literal[1] = static(1)
    width: int = static(128, ge=1)
    layers: int = static(1, ge=1)
    activation: Literal["relu", "gelu"] = static("relu")
    init_scale: float = static(1.0, ge=0.0)

    @property
    def init_std(self) -> float:
        """Layers scale their own weights."""
        return 1.0

    def build(self, shapes: Shapes) -> Perceptron:
        """Layers for a task's shapes, parameters still without values."""
        from workloads.models.perceptron import Perceptron

        return Perceptron(self, shapes)

    def measures(self, seen: Seen) -> Batch:
        """Norm of the first layer's weights."""
        return {"first_norm": seen.states["first_weights"].square().sum((1, 2)).sqrt()}
