"""`scan_snap`: one attention layer over a bag of words, in the parameters whose dynamics can be solved.

Scores and answers are tables of their own, Z and Y, without embeddings: the query m looks at the word l with score
z[m, l], the attention over the context words is scaled to length 1, and the word l then speaks for the answers with
y[l]. The query itself is not looked at (it speaks, too, where there is a residual), and no position is known. The two
tables are the parts `z` and `y`, which the optimisers `sgd_yz` and `adam_yz` give learning rates of their own.

Source: Tian et al. 2023, Scan and Snap, arXiv 2305.16380, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.fields import static
from workloads.models.model import Steady
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.bag import Bag


class ScanSnapModel(Steady):
    """What the tables start from.

    Attributes:
        init: `uniform` between ±1/sqrt(M), M words; or `zeros`, as the theory has it.
        residual: add the query to what was attended to, so that it speaks for answers with a row of its own.
    """

    PARTS: ClassVar[tuple[str, ...]] = ("z", "y")
    READS: ClassVar[str] = "words"
    ANSWERS: ClassVar[str] = "example"

    name: Literal["scan_snap"] = static("scan_snap")
    version: Literal[1] = static(1)
    init: Literal["uniform", "zeros"] = static("uniform")
    residual: bool = static(False, later=True)

    @property
    def init_std(self) -> float:
        """The tables scale themselves."""
        return 1.0

    def build(self, shapes: Shapes) -> Bag:
        """The tables for a task's words, still without values."""
        from workloads.models.bag import Bag

        return Bag(self, shapes)
