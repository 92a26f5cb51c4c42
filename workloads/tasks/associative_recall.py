"""`associative_recall`: pairs of a key and a value are read, then one of the keys; say its value.

One example with `n_pairs=3`:

    position   0   1   2   3   4   5   6
    reads      4   9   1   6   8   2   1       answer: 6
               k1  v1  k2  v2  k3  v3  k2

All keys and values of an example are different words. A model that knows which words are values, but not whose, is
right once in n_pairs times: the plateau.

Source: Zucchet et al. 2025, arXiv 2505.17863, its in-context task. All words of an example being different is ours: it
makes the plateau exact.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from workloads.fields import static
from workloads.tasks.queried import Queried
from workloads.tasks.task import Levels, Shapes

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch


class AssociativeRecall(Queried):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        n_pairs: pairs of an example.
        n_words: size of the vocabulary.
    """

    MEASURES: ClassVar[tuple[str, ...]] = ("answers_from_context", "attention_on_value")

    name: Literal["associative_recall"] = static("associative_recall")
    version: Literal[1] = static(1)
    n_pairs: int = static(8, ge=2)
    n_words: int = static(64, ge=4)

    @model_validator(mode="after")
    def _words_suffice(self) -> AssociativeRecall:
        if self.n_words < 2 * self.n_pairs:
            raise ValueError(f"n_words of at least 2 n_pairs; got {self.n_words} for {self.n_pairs} pairs")
        return self

    def shapes(self) -> Shapes:
        """Pairs, and the query behind them, whose answer alone counts."""
        return Shapes(positions=2 * self.n_pairs + 1, classes=self.n_words, vocabulary=self.n_words, answers="position")

    def levels(self) -> Levels:
        """Exact; the plateau knows the example's values and not whose they are."""
        return Levels(
            loss_chance=math.log(self.n_words),
            loss_plateau=math.log(self.n_pairs),
            loss_floor=0.0,
            accuracy_chance=1 / self.n_words,
            accuracy_plateau=1 / self.n_pairs,
            accuracy_ceiling=1.0,
        )

    def world(self, rng: torch.Generator) -> Batch:
        """Nothing stays fixed."""
        return {}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Words `x (S, B, 2n+1)`; the word behind each, `y`, the last being the answer; the pair `asked (S, B)`."""
        import torch

        order = torch.rand(steps, batch, self.n_words, generator=rng, device=rng.device).argsort(-1)
        words = order[..., : 2 * self.n_pairs]
        asked = torch.randint(self.n_pairs, (steps, batch, 1), generator=rng, device=rng.device)
        x = torch.cat([words, words.gather(2, 2 * asked)], dim=2)
        y = torch.cat([x[..., 1:], words.gather(2, 2 * asked + 1)], dim=2)
        return {"x": x, "y": y, "asked": asked[..., 0]}

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """Share of answers that are some value of the example, and of attention on the right one [fraction].

        The attention is the query's, of the layer and head that has most.
        """
        return {
            "answers_from_context": self.share_from_context(seen, batch, batch["x"][..., 1:-1:2]),
            "attention_on_value": self.attention_on_answer(seen, batch),
        }
