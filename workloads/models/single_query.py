"""`single_query`: y = W · sum over t of softmax(a)_t x_t, attention that knows positions and nothing else.

Two parameters, the scores a (one a position, 0 at first) and the map W: the least model that has to find out where to
look before, or while, it learns what to say.

Source: Zucchet et al. 2025, The emergence of sparse attention, arXiv 2505.17863, its toy model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.fields import per_member, static
from workloads.models.model import Steady
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.readout import Readout


class SingleQuery(Steady):
    """Where the map starts.

    Attributes:
        init_std: standard deviation of the normal that W starts from; 0 is no map at all.
    """

    READS: ClassVar[str] = "floats"
    ANSWERS: ClassVar[str] = "example"

    name: Literal["single_query"] = static("single_query")
    version: Literal[1] = static(1)
    init_std: float = per_member(0.0, ge=0.0)

    def build(self, shapes: Shapes) -> Readout:
        """Scores and map for a task's shapes, still without values."""
        from workloads.models.readout import Readout

        return Readout(shapes)
