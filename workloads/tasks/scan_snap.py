"""`scan_snap`: many words say nothing, a few say which word comes next.

One example with `queries=1, next_per_query=2, common=2, distinct=2, length=6` (words 0 and 1 are common; 2 and 3 come
before the next word 7 alone, 4 and 5 before 8; 6 is the query):

    position   0   1   2   3   4   5
    reads      0   3   1   3   0   6       answer: 7
               context, in no order  query

Every context word is drawn on its own from the law of the next word: common words weigh 1 each, the distinct ones from
`rarest` to 1, evenly spaced. What a model with one attention layer comes to look at is the question: the words that
tell most first, then fewer and fewer of them, until attention freezes (it *scans*, then it *snaps*).

The paper's Syn-Small is `queries: 2, next_per_query: 1`, the default; Syn-Medium is `queries: 1, 3, 5, 10` with
`next_per_query: 2`.

Source: Tian, Wang, Chen and Du 2023, Scan and Snap, arXiv 2305.16380.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from workloads.fields import Frozen, static
from workloads.tasks.task import Levels, Shapes, not_shown

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch

RECALL_AT = (90, 100, 110, 120, 130)  # thresholds, in hundredths of 1/M; the paper's windows lie within them
SUMMARY = ("distinct_entropy", "attention_on_distinct", "score_dominant", "score_common")


@dataclass(frozen=True, kw_only=True)
class BagShapes(Shapes):
    """Shapes whose last position is a query, and whose other words come in no order.

    Attributes:
        contextual: words 0 … contextual-1 are read.
        queries: words contextual … contextual+queries-1 ask.
    """

    contextual: int
    queries: int


class ScanSnap(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        queries: query words.
        next_per_query: next words of each query; together they are the K classes.
        common: words before every next word.
        distinct: words before one next word alone, of each.
        rarest: weight of the rarest distinct word, where the most frequent and every common word have 1.
        length: words of an example, the query included.
        words: size M of the vocabulary; None counts those that occur. The rest never occurs, but can be answered.
        maps: record the attention to every word before every next word, too.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy")

    name: Literal["scan_snap"] = static("scan_snap")
    version: Literal[1] = static(1)
    queries: int = static(2, ge=1)
    next_per_query: int = static(1, ge=1)
    common: int = static(10, ge=1)
    distinct: int = static(10, ge=1)
    rarest: float = static(0.1, gt=0.0, le=1.0)
    length: int = static(128, ge=2)
    words: int | None = static(None, ge=1)
    maps: bool = static(False)

    @model_validator(mode="after")
    def _has_classes_and_room(self) -> ScanSnap:
        if self.classes < 2:
            raise ValueError("queries × next_per_query to be two or more; one next word leaves nothing to learn")
        if self.words is not None and self.words < self.occurring:
            raise ValueError(f"words of at least {self.occurring}, those that occur; got {self.words}")
        return self

    @property
    def classes(self) -> int:
        """Next words K."""
        return self.queries * self.next_per_query

    @property
    def contextual(self) -> int:
        """Words that contexts are made of."""
        return self.common + self.classes * self.distinct

    @property
    def occurring(self) -> int:
        """Words that occur somewhere."""
        return self.contextual + self.queries + self.classes

    @property
    def MEASURES(self) -> tuple[str, ...]:
        """Measures of the attention; with `maps` one more for each next word n and word w, `attention_n_w`."""
        recalls = tuple(f"recall_{percent}" for percent in RECALL_AT)
        return (*SUMMARY, *recalls, *(self._map_names() if self.maps else ()))

    def shapes(self) -> BagShapes:
        """Context words, then the query; any word may be the answer."""
        words = self.words or self.occurring
        return BagShapes(
            positions=self.length, classes=words, vocabulary=words, contextual=self.contextual, queries=self.queries
        )

    def levels(self) -> Levels:
        """The plateau knows which words ever come next, and nothing of the context.

        A context of only common words leaves the next word open; its chance is the floor.
        """
        words = self.words or self.occurring
        law = self.law()
        untold = sum(law[: self.common]) ** (self.length - 1)
        return Levels(
            loss_chance=math.log(words),
            loss_plateau=math.log(self.classes),
            loss_floor=untold * math.log(self.next_per_query),
            accuracy_chance=1 / words,
            accuracy_plateau=1 / self.classes,
            accuracy_ceiling=1.0 - untold * (1 - 1 / self.next_per_query),
        )

    def law(self) -> list[float]:
        """Chances of the words before one next word: the common ones, then its own, from rare to frequent."""
        step = (1 - self.rarest) / max(self.distinct - 1, 1)
        weights = [1.0] * self.common + [1 - step * i for i in reversed(range(self.distinct))]
        return [weight / sum(weights) for weight in weights]

    def world(self, rng: torch.Generator) -> Batch:
        """Nothing is drawn for a whole run."""
        return {}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Words `x (S, B, length)`, next words `y (S, B)`."""
        import torch

        edges = torch.tensor(self.law(), dtype=torch.float64, device=rng.device).cumsum(0)[:-1].float()
        n = torch.randint(self.classes, (steps, batch), generator=rng, device=rng.device)
        drawn = torch.rand(steps, batch, self.length - 1, generator=rng, device=rng.device)
        word = torch.bucketize(drawn, edges, right=True)
        word += (word >= self.common) * (n * self.distinct)[..., None]
        query = self.contextual + n // self.next_per_query
        return {"x": torch.cat([word, query[..., None]], dim=2), "y": self.contextual + self.queries + n}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Cross-entropy [nats] and accuracy [fraction]."""
        from workloads.scores import accuracy, cross_entropy

        return {"loss": cross_entropy(output, batch["y"]), "accuracy": accuracy(output, batch["y"])}

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """What attention rests on in endless contexts, from the table of scores alone; the batch plays no part.

        With c_n the attention before the next word n over the words of its law: `distinct_entropy` of c_n within n's
        distinct words, made to sum to 1 there [nats]; `attention_on_distinct`, their share of c_n (common words
        have the rest) [fraction]; `recall_P`, the share of n's distinct words with c_n above P hundredths of 1/M
        [fraction]; the scores z of n's most frequent distinct word and, in the mean, of the common ones [nats]. All
        are means over n. Of a model that shows no table of scores they are not a number.
        """
        import torch

        if "scores" not in seen.states:
            return not_shown(self.MEASURES, batch)
        scores = self._own_scores(seen.states["scores"])  # (K, n, common + distinct)
        c = (scores + torch.tensor(self.law(), device=scores.device).log()).softmax(2)
        own, m = c[..., self.common :], self.words or self.occurring
        share = own.sum(2)
        taken = {
            "distinct_entropy": torch.special.entr(own / share[..., None]).sum(2).mean(1),
            "attention_on_distinct": share.mean(1),
            "score_dominant": scores[..., -1].mean(1),
            "score_common": scores[..., : self.common].mean((1, 2)),
        }
        taken |= {f"recall_{p}": (own > 0.01 * p / m).float().mean((1, 2)) for p in RECALL_AT}
        if self.maps:
            taken |= dict(zip(self._map_names(), c.flatten(1).unbind(1), strict=True))
        return taken

    def _own_scores(self, table: torch.Tensor) -> torch.Tensor:
        """Each next word's scores of the words of its law: `(K, queries, words)` to `(K, n, common + distinct)`."""
        import torch

        by_class = table[..., : self.contextual].repeat_interleave(self.next_per_query, dim=1)
        distinct = by_class[..., self.common :].unflatten(2, (self.classes, self.distinct))
        own = distinct.diagonal(dim1=1, dim2=2).mT  # (K, n, distinct)
        return torch.cat([by_class[..., : self.common], own], dim=2)

    def _map_names(self) -> tuple[str, ...]:
        """`attention_n_w`, next word by next word."""
        names = []
        for n in range(self.classes):
            first = self.common + n * self.distinct
            words = (*range(self.common), *range(first, first + self.distinct))
            names += [f"attention_{n}_{word}" for word in words]
        return tuple(names)
