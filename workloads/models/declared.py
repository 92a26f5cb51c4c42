"""`declared`: says which step it is, for the task `declared`, whose loss is a function of that.

It has weights, so that optimisers, checkpoints and snapshots have work; their gradient is the slope of the declared
curve, and what they are changes nothing. Its other settings are there for the task's formulas to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.attention import Softmax
from workloads.fields import per_member, static
from workloads.models.model import Steady
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.clock import Clock


class DeclaredModel(Steady):
    """Settings for formulas to read.

    Attributes:
        width: weights; runs of different widths share no cohort.
        attention: its temperature is per run.
        init_std: standard deviation of the normal that weights start from.
    """

    READS: ClassVar[str] = "settings"
    ANSWERS: ClassVar[str] = "example"

    name: Literal["declared"] = static("declared")
    version: Literal[1] = static(1)
    width: int = static(4, ge=1)
    attention: Softmax = static(Softmax())
    init_std: float = per_member(0.02, ge=0.0)

    def controls(self, *, step: int, budget_steps: int) -> dict[str, float]:
        """The step."""
        return {"step": float(step)}

    def build(self, shapes: Shapes) -> Clock:
        """The weights, still without values."""
        from workloads.models.clock import Clock

        return Clock(self.width)
