"""`memories`: the least transformer that can build an induction head, in matrices that are associative memories.

    layer 0    looks by e_t' K0 e_s, and adds C e_s          e: a word's vector plus its place's
    layer 1    looks by h_t' K1 h_s, and adds O1 V h_s       h: what layer 0 left
    answers    of h + F h, by the words' answer vectors

Vectors of words, places and answers and the maps C and V are random and nearly orthogonal, so each trained matrix is a
sum of pairs that it keeps: K0 pairs a place with the one before it, K1 a word with its copy at the next place, O1 a
word with its answer, F a word with those that often follow. Queries are not mapped, and layer 0 has no F.

Nothing here freezes the random parts: a run's `trainable: {only: keys_0 keys_1 out_1 feed}` does, as in the paper.

Source: Bietti et al. 2023, Birth of a Transformer: A Memory Viewpoint, arXiv 2306.00802, section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.fields import per_member, static
from workloads.models.model import Steady
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.memory import TwoLayers


class Memories(Steady):
    """Shape, and where the trained matrices start.

    Attributes:
        width: of all vectors; words and places are the nearer to orthogonal the wider.
        init_std: standard deviation of the normal that the trained matrices start from.
    """

    READS: ClassVar[str] = "words"
    ANSWERS: ClassVar[str] = "position"

    name: Literal["memories"] = static("memories")
    version: Literal[1] = static(1)
    width: int = static(128, ge=1)
    init_std: float = per_member(0.01, ge=0.0)

    def build(self, shapes: Shapes) -> TwoLayers:
        """Matrices for a task's words and places, still without values."""
        from workloads.models.memory import TwoLayers

        return TwoLayers(self, shapes)
