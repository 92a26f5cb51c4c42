"""What tasks share that read numbers, then a separator, then write answers word by word.

One example with 3 numbers and 3 answers (`|` is the separator):

    position   0   1   2   3   4   5
    reads     x1  x2  x3   |  y1  y2
    writes    x2  x3   |  y1  y2  y3

Loss is over every word, since the model predicts what it reads too; accuracy is over the answers alone, each after the
right ones before it. A model that still waits writes one word again and again, and its states at different answers are
alike: the measures see that in what it writes by itself, greedily, word after word.

Source: Gopalani and Hu 2025, What Happens During the Loss Plateau?, arXiv 2506.13688 (the family and its measures).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from workloads.fields import Frozen, static
from workloads.tasks.task import Levels, Shapes, of_the_best_head

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch

MEASURED_EXAMPLES = 64  # of a batch write by themselves: their whole sequence is computed once a word


class Written(Frozen):
    """A task of numbers and answers; those that derive from it say which.

    Attributes:
        n: numbers in a sequence, and answers, unless a task says otherwise.

    Its measures, each a mean over examples [fraction, or cosine]:
        written_accuracy: share of right words among those that the model writes by itself.
        repetition: share of neighbours among them that are equal.
        first_again: share of them that equal the first.
        state_cosine: of the last states at different answers, the first left out, over all pairs.
        attention_progress: share of the weights (their sizes) that rests on an answer's sources, over all rows of
            answers; of the layer and head that has most.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    MEASURES: ClassVar[tuple[str, ...]] = (
        "written_accuracy",
        "repetition",
        "first_again",
        "state_cosine",
        "attention_progress",
    )

    n: int = static(16, ge=2, le=1024)

    @property
    def reads(self) -> int:
        """Numbers before the separator."""
        return self.n

    @property
    def writes(self) -> int:
        """Answers behind it."""
        return self.n

    @property
    @abstractmethod
    def values(self) -> range:
        """Words that a number may be."""

    @property
    @abstractmethod
    def separator(self) -> int:
        """The last word of the vocabulary."""

    @abstractmethod
    def sources(self, answer: int) -> tuple[int, ...]:
        """Positions of the numbers that an answer (from 0) is made of."""

    def numbers(self, rng: torch.Generator, *, size: tuple[int, int]) -> torch.Tensor:
        """Words before the separator `(*size, reads)`: any of the values, with replacement."""
        import torch

        first, behind = self.values.start, self.values.stop
        return torch.randint(first, behind, (*size, self.n), generator=rng, device=rng.device)

    @abstractmethod
    def answers(self, numbers: torch.Tensor) -> torch.Tensor:
        """Words behind it `(…, writes)`."""

    @abstractmethod
    def levels(self) -> Levels:
        """The three known answers."""

    def shapes(self) -> Shapes:
        """Every number, the separator, and all answers but the last are read; each is followed by a word."""
        words = self.separator + 1
        unknowable: tuple[tuple[int, ...], ...] = ((),) * self.reads
        return Shapes(
            positions=self.reads + self.writes,
            classes=words,
            vocabulary=words,
            answers="position",
            sources=unknowable + tuple(self.sources(answer) for answer in range(self.writes)),
        )

    def world(self, rng: torch.Generator) -> Batch:
        """Nothing stays fixed."""
        return {}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Words read `x (S, B, reads + writes)` and to be written `y`, the same shape."""
        import torch

        numbers = self.numbers(rng, size=(steps, batch))
        separator = torch.full((steps, batch, 1), self.separator, device=rng.device)
        words = torch.cat([numbers, separator, self.answers(numbers)], dim=2)
        return {"x": words[:, :, :-1], "y": words[:, :, 1:]}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Cross-entropy over every word [nats] and accuracy over the answers [fraction]."""
        from workloads.scores import accuracy, cross_entropy

        answers = slice(self.reads, None)
        right = accuracy(output[..., answers, :], batch["y"][..., answers])
        return {"loss": cross_entropy(output, batch["y"]), "accuracy": right}

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """What the class's docstring lists, each `(K,)`."""
        written = self.greedy(seen, batch["x"][:, :MEASURED_EXAMPLES])
        wanted = batch["y"][:, :MEASURED_EXAMPLES, self.reads :]
        return {
            "written_accuracy": (written == wanted).float().flatten(1).mean(1),
            "repetition": (written[..., 1:] == written[..., :-1]).float().flatten(1).mean(1),
            "first_again": (written[..., 1:] == written[..., :1]).float().flatten(1).mean(1),
            "state_cosine": mean_pairwise_cosine(seen.states["final"][:, :, self.reads + 1 :]),
            "attention_progress": self.attention_progress(seen),
        }

    def greedy(self, seen: Seen, x: torch.Tensor) -> torch.Tensor:
        """What the models write by themselves behind the separator: `(K, B, writes)`."""
        import torch

        assert seen.again is not None
        words = x.clone()
        for answer in range(self.writes):
            at = self.reads + answer
            word = seen.again(words)[:, :, at].argmax(-1)
            words = torch.cat([words[:, :, : at + 1], word[..., None], words[:, :, at + 2 :]], dim=2)
        return words[:, :, self.reads + 1 :]

    def attention_progress(self, seen: Seen) -> torch.Tensor:
        """Share of the answers' attention on their sources, in the layer and head that has most `(K,)`."""
        from workloads.layers import marked

        marks = marked(self.shapes().sources or (), -1, seen.attention[0].device)[self.reads :]
        found = []
        for weights in seen.attention:  # (K, B, H, T, T)
            sizes = weights[..., self.reads :, :].abs()
            found.append((sizes * marks).sum((1, 3, 4)) / sizes.sum((1, 3, 4)))
        return of_the_best_head(found)


def mean_pairwise_cosine(states: torch.Tensor) -> torch.Tensor:
    """Cosine of every two positions' states, averaged over pairs and examples: `(K, B, T, D)` to `(K,)`."""
    units = states / states.norm(dim=-1, keepdim=True)
    n = units.shape[2]
    of_all = units.sum(2).square().sum(-1)  # every ordered pair, and each with itself
    return ((of_all - n) / (n * max(1, n - 1))).mean(1)
