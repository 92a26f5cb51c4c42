"""`matrix_sequence`: a matrix with entries missing is read entry by entry, then written out in full.

One example with `rows=2, columns=2, rank=1, grid=10`, one entry missing (`|` is the separator, the last word):

    position   0    1    2    3    4    5    6    7
    reads     .4  [?]  -.8   .2    |   .4  -.1  -.8
    writes   [?]  -.8   .2    |   .4  -.1  -.8   .2

The loss is over every word, as a language model's is. Entries that are shown can be copied when they are written, and
learning to do so is the drop; those that are missing could be completed, which the paper's models do not learn.

Source: Gopalani, Lubana and Hu 2024, arXiv 2410.22244, appendix on GPT. Their vocabulary has two words more, unused.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.fields import static
from workloads.tasks.matrices import Matrices
from workloads.tasks.task import Levels, Shapes, not_shown, of_the_best_head

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch

SIMULATED = 2**19  # entries, for how often each number comes


class MatrixSequence(Matrices):
    """Parameters of the task: those of its matrices, with numbers up to 2.

    Attributes:
        version: raised when the meaning of the data changes.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "loss_observed", "loss_masked", "accuracy_masked")
    MEASURES: ClassVar[tuple[str, ...]] = ("attention_on_source", "attention_on_separator")

    name: Literal["matrix_sequence"] = static("matrix_sequence")
    version: Literal[1] = static(1)
    reach: int = static(2, ge=1)

    @property
    def entries(self) -> int:
        """Of a matrix; also the separator's position."""
        return self.rows * self.columns

    @property
    def separator(self) -> int:
        """The last word."""
        return 2 * self.reach * self.grid + 2

    def shapes(self) -> Shapes:
        """The matrix as shown, the separator, all entries but the last; each is followed by a word."""
        unknowable: tuple[tuple[int, ...], ...] = ((),) * self.entries
        return Shapes(
            positions=2 * self.entries,
            classes=self.separator + 1,
            vocabulary=self.separator + 1,
            answers="position",
            sources=unknowable + tuple((entry,) for entry in range(self.entries)),
        )

    def levels(self) -> Levels:
        """Levels of knowing how often each word comes (plateau), and of copying besides (floor) [nats].

        Accuracy is over entries that are shown, when they are written. A better floor is not known: what entries tell
        of one another is left out of all three. How often numbers come is counted in matrices drawn with a fixed seed.

        Checked by: test_matrix_sequence.py::test_levels_are_those_of_the_answers_that_they_stand_for
        """
        entropy, most = _of_numbers(self)
        p, n = self.missing_share, self.entries
        between = -(p * math.log(p) + (1 - p) * math.log(1 - p))
        reading = (n - 1) * (between + (1 - p) * entropy)  # the separator is always known
        return Levels(
            loss_chance=math.log(self.separator + 1),
            loss_plateau=(reading + n * entropy) / (2 * n),
            loss_floor=(reading + n * p * entropy) / (2 * n),
            accuracy_chance=1 / (self.separator + 1),
            accuracy_plateau=most,
            accuracy_ceiling=1.0,
        )

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Words read `x (S, B, 2T)` and to be written `y`, the same shape; which entries are `missing (S, B, T)`."""
        import torch

        drawn = super().sample(world, rng, steps=steps, batch=batch)
        full = self._word((drawn["y"][..., 0] * self.grid).round())
        separator = torch.full((steps, batch, 1), self.separator, device=rng.device)
        words = torch.cat([drawn["x"], separator, full], dim=2)
        return {"x": words[:, :, :-1], "y": words[:, :, 1:], "missing": drawn["missing"]}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Cross-entropy over every word [nats]; and of the entries written, shown and missing ones apart.

        loss_observed, loss_masked: cross-entropy over entries that were shown, that were missing [nats].
        accuracy, accuracy_masked: share of right words among the same [fraction].
        """
        import torch.nn.functional as F

        from workloads.scores import cross_entropy
        from workloads.tasks.matrix_completion import mean_where

        written = output[..., self.entries :, :].detach()
        wanted, missing = batch["y"][..., self.entries :], batch["missing"].float()
        losses = F.cross_entropy(written.flatten(0, -2), wanted.flatten(), reduction="none").view(wanted.shape)
        right = (written.argmax(-1) == wanted).float()
        return {
            "loss": cross_entropy(output, batch["y"]),
            "accuracy": mean_where(right, 1.0 - missing),
            "loss_observed": mean_where(losses, 1.0 - missing),
            "loss_masked": mean_where(losses, missing),
            "accuracy_masked": mean_where(right, missing),
        }

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """Where writing entries look, in the layer and head that looks there most [fractions of the weights' sizes].

        attention_on_source: at the entry that comes next; attention_on_separator: at the separator.
        """
        if not seen.attention:
            return not_shown(self.MEASURES, batch)
        found = [self.attention_kinds(maps, batch) for maps in seen.attention]
        return {f"attention_{kind}": of_the_best_head([each[kind] for each in found]) for kind in found[0]}

    def attention_kinds(self, maps: torch.Tensor, batch: Batch) -> Batch:
        """The same of every head `(K, H)`, from a layer's weights `(K, B, H, 2T, 2T)`."""
        from workloads.scores import shares

        writing = shares(maps)[..., self.entries :, :].mean(1)  # (K, H, T, 2T)
        on_source = writing.diagonal(dim1=-2, dim2=-1).mean(-1)
        return {"on_source": on_source, "on_separator": writing[..., self.entries].mean(-1)}


@functools.lru_cache(maxsize=64)
def _of_numbers(task: MatrixSequence) -> tuple[float, float]:
    """Entropy of an entry [nats], and how often the most frequent number comes [fraction]."""
    import torch

    from workloads.streams import generator

    rng = generator(0, "levels", device=torch.device("cpu"))
    matrices = -(-SIMULATED // task.entries)
    exact, _ = task._exact(rng, steps=1, batch=matrices)
    counts = task._word(task._on_grid(exact)).flatten().bincount().double()
    frequent = counts / counts.sum()
    return float(torch.special.entr(frequent).sum()), float(frequent.max())
