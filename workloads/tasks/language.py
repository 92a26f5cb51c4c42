"""`language`: read a text word by word, and say the next one.

One example with `length=5`:

    position    0     1     2     3     4
    reads      the   with    a    is    ,
    writes     with   a     is    ,    the

An example is a stretch of the text that begins anywhere, so batches are fresh draws and not neighbours. The data seed
also decides which `share` of the text a run knows: seeds are runs on overlapping texts. The most frequent words make
the vocabulary; word 0 stands for all others.

Source: the experiments of Tian et al. 2023, Scan and Snap, arXiv 2305.16380 (WikiText-2, word by word).
"""

from __future__ import annotations

import functools
import math
import os
from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.fields import Frozen, static
from workloads.tasks.task import Levels, Shapes, not_shown

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch


class Language(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        text: `pydoc`, which every Python has; any other is NAME.txt in the folder that EUREKA_DATA names.
        words: size of the vocabulary, the word for unknown ones included.
        length: words read.
        share: part of the text that a run knows [fraction].
        entropy_layers: attention entropy is recorded of so many layers, one by one.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy")

    name: Literal["language"] = static("language")
    version: Literal[2] = static(2)  # 1 had no floor
    text: str = static("pydoc", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    words: int = static(4096, ge=3)
    length: int = static(35, ge=2)
    share: float = static(0.9, gt=0.0, le=1.0)
    entropy_layers: int = static(1, ge=0)

    @property
    def MEASURES(self) -> tuple[str, ...]:
        """`attention_entropy_i`, the mean entropy of layer i's attention, from 1 [nats]."""
        return tuple(f"attention_entropy_{i + 1}" for i in range(self.entropy_layers))

    def shapes(self) -> Shapes:
        """Every word read is followed by an answer."""
        return Shapes(positions=self.length, classes=self.words, vocabulary=self.words, answers="position")

    def require_files(self) -> None:
        """The text is there."""
        from workloads.texts import ids_of

        ids_of(self.text, words=self.words)

    def levels(self) -> Levels:
        """The plateau knows how frequent words are; the floor what follows each word, and nothing of those before it.

        Counted in the whole text. The floor is the first thing to be learned past the plateau, not the last: a model
        that reads further back, or knows its text by heart, falls below it, and how far it can is not known of a text.

        Checked by: test_language.py::test_levels_are_those_of_every_word_counted
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
        """The run's part of the text `stream (words,)`: it begins where the data seed says, and goes round."""
        import torch

        from workloads.texts import NoText, ids_of

        whole = torch.from_numpy(ids_of(self.text, words=self.words).copy()).to(rng.device)
        known = int(self.share * len(whole))
        if known <= self.length:
            raise NoText(f"task.text: '{self.text}' has {len(whole)} words; expected more than length / share")
        start = int(torch.randint(len(whole), (), generator=rng, device=rng.device))
        return {"stream": whole.roll(-start)[:known]}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Words read `x (S, B, length)` and to be written `y (S, B, length)`."""
        import torch

        stream = world["stream"]
        begin = torch.randint(len(stream) - self.length, (steps, batch, 1), generator=rng, device=rng.device)
        words = stream[begin + torch.arange(self.length + 1, device=rng.device)]
        return {"x": words[..., :-1].clone(), "y": words[..., 1:].clone()}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Cross-entropy [nats] and accuracy [fraction] over all positions."""
        from workloads.scores import accuracy, cross_entropy

        return {"loss": cross_entropy(output, batch["y"]), "accuracy": accuracy(output, batch["y"])}

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """Attention entropy layer by layer, over examples, heads and queries; not a number of layers that are not."""
        from workloads.scores import attention_entropy

        found = [attention_entropy(weights) for weights in seen.attention[: self.entropy_layers]]
        return not_shown(self.MEASURES, batch) | dict(zip(self.MEASURES, found, strict=False))


@functools.lru_cache(maxsize=8)
def _counted(text: str, words: int, folder: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Loss [nats] and accuracy [fraction] of the best answers without and with the word that is read."""
    import numpy as np

    from workloads.texts import NoText, ids_of

    ids = ids_of(text, words=words)
    if len(ids) < 2:
        raise NoText(f"task.text: '{text}' has {len(ids)} words; expected two at least")
    shares = np.bincount(ids) / len(ids)
    pairs, counts = np.unique(ids[:-1] * words + ids[1:], return_counts=True)
    pairs //= words  # the word read in each
    read = np.bincount(pairs, weights=counts)
    most = np.zeros(len(read))
    np.maximum.at(most, pairs, counts)
    total = len(ids) - 1
    entropy = -float((shares[shares > 0] * np.log(shares[shares > 0])).sum())
    left = -float((counts * np.log(counts / read[pairs])).sum()) / total
    return (entropy, float(shares.max())), (left, float(most.sum()) / total)
