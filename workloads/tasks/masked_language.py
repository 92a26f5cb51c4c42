"""`masked_language`: words of a text are covered; say which stood there, from those on both sides.

One example with `length=5, masked=0.4`, two words being chosen:

    position    0     1     2     3     4
    text       the   with   a    is    ,
    reads      the   [?]    a    is   of         answers: `with` at 1, `,` at 4

Of the chosen words eight in ten are covered by a word of their own, one in ten is replaced by any other word, and one
is left as it is. Loss and accuracy are over the chosen places alone.

>>> MaskedLanguage(length=5, masked=0.4).chosen
2

Texts, vocabulary and what a data seed knows of them are those of the task `language`.

Source: Devlin et al. 2019, BERT, arXiv 1810.04805, section 3.1. That every example has the same number of chosen words
is ours.
"""

from __future__ import annotations

import functools
import math
import os
from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.fields import Frozen, static
from workloads.tasks.language import Language
from workloads.tasks.task import Levels, Shapes, not_shown, of_the_best_head

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch

COVERED, REPLACED = 0.8, 0.1  # of the chosen words; the rest is left


class MaskedLanguage(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        text: `pydoc`, which every Python has; any other is NAME.txt in the folder that EUREKA_DATA names.
        words: size of the vocabulary, the word for unknown ones included; covered places are a word more.
        length: words of an example.
        share: part of the text that a run knows [fraction].
        masked: words of an example that are chosen, rounded to a whole number, at least one [fraction].
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    MEASURES: ClassVar[tuple[str, ...]] = (
        "accuracy_covered",
        "accuracy_replaced",
        "accuracy_left",
        "attention_on_neighbours",
    )

    name: Literal["masked_language"] = static("masked_language")
    version: Literal[2] = static(2)  # 1 had no floor
    text: str = static("pydoc", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    words: int = static(1024, ge=3)
    length: int = static(32, ge=2)
    share: float = static(0.9, gt=0.0, le=1.0)
    masked: float = static(0.15, gt=0.0, lt=1.0)

    @property
    def chosen(self) -> int:
        """Words of an example that are asked for."""
        return max(1, round(self.masked * self.length))

    @property
    def read(self) -> Language:
        """The task that reads the same text from left to right."""
        return Language(text=self.text, words=self.words, length=self.length, share=self.share)

    def shapes(self) -> Shapes:
        """Words and the cover are read; words are answered, at every place."""
        return Shapes(positions=self.length, classes=self.words, vocabulary=self.words + 1, answers="position")

    def require_files(self) -> None:
        """The text is there."""
        self.read.require_files()

    def levels(self) -> Levels:
        """The plateau knows how frequent words are and what stands in the place itself; the floor a neighbour, too.

        Counted in the text. For a covered place the plateau is the entropy of single words. A word that is seen at a
        chosen place may be the right one or not; how likely it is follows from its frequency and the rule. The floor
        is the same with frequencies behind each word, as if the word before were always there to be read. It is the
        first thing to be learned past the plateau, not the last: a model that reads both sides falls below it, and how
        far it can is not known of a text.

        Checked by: test_masked_language.py::test_plateau_is_that_of_every_case_counted_one_by_one
        """
        plateau, floor = _counted(self.text, self.words, os.environ.get("EUREKA_DATA", ""))
        return Levels(
            loss_chance=math.log(self.words),
            loss_plateau=plateau[0],
            loss_floor=floor[0],
            accuracy_chance=1 / self.words,
            accuracy_plateau=plateau[1],
            accuracy_ceiling=floor[1],
        )

    def world(self, rng: torch.Generator) -> Batch:
        """The run's part of the text, `stream (words,)`."""
        return self.read.world(rng)

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Words read `x (S, B, length)` and the text's own `y`; which are `chosen (S, B, n)`, and their `case`.

        A case is 0 where a chosen word is covered, 1 where it is replaced, 2 where it is left.
        """
        import torch

        y = self.read.sample(world, rng, steps=steps, batch=batch)["x"]
        chosen = torch.rand(y.shape, generator=rng, device=rng.device).argsort(-1)[..., : self.chosen].contiguous()
        u = torch.rand(chosen.shape, generator=rng, device=rng.device)
        other = torch.randint(self.words, chosen.shape, generator=rng, device=rng.device)
        case = (u >= COVERED).long() + (u >= COVERED + REPLACED).long()
        own = y.gather(2, chosen)
        shown = torch.where(case == 0, self.words, torch.where(case == 1, other, own))
        return {"x": y.scatter(2, chosen, shown), "y": y, "chosen": chosen, "case": case}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Cross-entropy [nats] and accuracy [fraction] over the chosen places."""
        from workloads.scores import accuracy, cross_entropy

        answers, wanted = asked(output, batch), batch["y"].gather(-1, batch["chosen"])
        return {"loss": cross_entropy(answers, wanted), "accuracy": accuracy(answers, wanted)}

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """What is known at which places [fractions].

        accuracy_covered, accuracy_replaced, accuracy_left: of the chosen places, case by case; nothing is 0.
        attention_on_neighbours: of all places' attention, on those before and behind; of the layer and head that has
            most.
        """
        taken = not_shown(self.MEASURES, batch)
        if seen.again is not None:
            right = asked(seen.again(batch["x"]), batch).argmax(-1) == batch["y"].gather(-1, batch["chosen"])
            for case, name in enumerate(self.MEASURES[:3]):
                there = batch["case"] == case
                taken[name] = (right & there).flatten(1).sum(1) / there.flatten(1).sum(1).clamp_min(1)
        if seen.attention:
            before, behind = (
                [maps.diagonal(offset=side, dim1=-2, dim2=-1).sum(-1).mean(1) for maps in seen.attention]
                for side in (-1, 1)
            )
            both = [(a + b) / self.length for a, b in zip(before, behind, strict=True)]
            taken["attention_on_neighbours"] = of_the_best_head(both)
        return taken


def asked(output: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Answers at the chosen places alone: `(K, B, T, C)` to `(K, B, n, C)`."""
    places = batch["chosen"][..., None]
    return output.gather(-2, places.expand(*places.shape[:-1], output.shape[-1]))


@functools.lru_cache(maxsize=8)
def _counted(text: str, words: int, folder: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Loss and accuracy of the plateau and of the floor."""
    import numpy as np

    from workloads.texts import NoText, ids_of

    ids = ids_of(text, words=words)
    if len(ids) < 2:
        raise NoText(f"task.text: '{text}' has {len(ids)} words; expected two at least")
    alone = own_place_levels(np.bincount(ids, minlength=words) / len(ids))
    pairs, counts = np.unique(ids[:-1] * words + ids[1:], return_counts=True)
    behind = np.split(counts, np.flatnonzero(np.diff(pairs // words)) + 1)  # of each word, how often others follow
    each = np.array([own_place_levels(part / part.sum(), words=words) for part in behind])
    loss, accuracy = np.average(each, axis=0, weights=[part.sum() for part in behind])
    return alone, (float(loss), float(accuracy))


def own_place_levels(shares: npt.NDArray[np.float64], *, words: int | None = None) -> tuple[float, float]:
    """Loss [nats] and accuracy [fraction] of the best answer to a chosen place alone, for shares of words `(V,)`.

    A seen word w is the right one with weight left·p(w); with weight replaced·p(v)/V any v was, w itself included.

    Args:
        shares: they add up to 1.
        words: V, where words without a share are left out.
    """
    import numpy as np

    n, left = words or len(shares), 1.0 - COVERED - REPLACED
    shares = shares[shares > 0]
    replaced = REPLACED * shares / n  # of every answer, whatever is seen
    stays = left * shares + replaced  # the answer that is seen
    total, logs = REPLACED / n, float((replaced * np.log(replaced)).sum())
    own = stays * np.log(stays) - replaced * np.log(replaced)
    known = logs + own - (stays - replaced + total) * np.log(stays - replaced + total)  # where a word is seen
    unknown = (n - len(shares)) * (logs - total * math.log(total))  # where one is that was never right
    entropy = -float((shares * np.log(shares)).sum())
    best = np.maximum(stays, replaced.max()).sum() + (n - len(shares)) * replaced.max()
    return COVERED * entropy - float(known.sum()) - unknown, COVERED * float(shares.max()) + float(best)
