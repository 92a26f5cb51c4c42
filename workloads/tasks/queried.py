"""What tasks share that show pairs, then the first of one of them, and ask for the second.

    position   0   1   2   3   4
    reads      k1  v1  k2  v2  k2       answer: v2

The answer is told by the last position alone, and stands in the example itself. Data hold which pair is `asked (S, B)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from workloads.fields import Frozen
from workloads.tasks.task import of_the_best_head

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch


class Queried(Frozen):
    """A task of pairs and a query; those that derive from it say of what."""

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy")

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Cross-entropy [nats] and accuracy [fraction] of the answer to the query."""
        from workloads.scores import accuracy, cross_entropy

        answer, wanted = output[..., -1, :], batch["y"][..., -1]
        return {"loss": cross_entropy(answer, wanted), "accuracy": accuracy(answer, wanted)}

    def share_from_context(self, seen: Seen, batch: Batch, shown: torch.Tensor) -> torch.Tensor:
        """Share of answers that are one of those `shown (K, B, pairs)` in the example [fraction]."""
        assert seen.again is not None
        answer = seen.again(batch["x"])[..., -1, :].argmax(-1)
        return (answer[..., None] == shown).any(-1).float().mean(1)

    def attention_on_answer(self, seen: Seen, batch: Batch) -> torch.Tensor:
        """Share of the query's attention on the right second, of the layer and head that has most [fraction]."""
        at = (2 * batch["asked"] + 1)[:, :, None, None]
        asking = [maps[..., -1, :] for maps in seen.attention]  # (K, B, H, T) each
        return of_the_best_head([row.gather(3, at.expand(-1, -1, row.shape[2], -1))[..., 0].mean(1) for row in asking])
