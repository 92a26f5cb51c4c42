"""`window_sum`: read a sequence of numbers, then write the sum of every window of them.

One example with `n=4, window=2, modulus=17` (`|` is the separator, the word `modulus`; sums are modulo `modulus`):

    position   0   1   2   3   4   5   6   7
    reads      5  16   2   9   |   5   4   1
    writes    16   2   9   |   5   4   1  11        5, 5+16, 16+2, 2+9

Numbers are uniform on 1 … modulus-1, so the first n - 1 answers cannot be known; the separator always can. A model that
does not yet look at the right numbers can at best say that a sum is any number: the plateau. The first sum is the first
number itself, and is learnt at once. A window of `n` numbers makes prefix sums.

Source: Gopalani and Hu 2025, What Happens During the Loss Plateau?, arXiv 2506.13688 (moving window sum, prefix sum).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from workloads.fields import static
from workloads.tasks.task import Levels
from workloads.tasks.written import Written

if TYPE_CHECKING:
    import torch


class WindowSum(Written):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        n: numbers in a sequence, and sums.
        modulus: sums are taken modulo it; words are 0 … modulus-1 and the separator.
        window: numbers in a sum; the first sums have fewer.
    """

    name: Literal["window_sum"] = static("window_sum")
    version: Literal[1] = static(1)
    modulus: int = static(17, ge=3, le=4096)
    window: int = static(2, ge=1)

    @property
    def values(self) -> range:
        """1 … modulus-1."""
        return range(1, self.modulus)

    @property
    def separator(self) -> int:
        """The word behind all residues."""
        return self.modulus

    def levels(self) -> Levels:
        """Exact levels: loss is over all words, accuracy over the sums alone.

        On the plateau every sum but the first, which is a copy, is uniform on 0 … modulus-1.
        """
        unknown = (self.n - 1) * math.log(self.modulus - 1)
        answers = 2 * self.n
        guess = 1 / self.modulus
        return Levels(
            loss_chance=math.log(self.modulus + 1),
            loss_plateau=(unknown + (self.n - 1) * math.log(self.modulus)) / answers,
            loss_floor=unknown / answers,
            accuracy_chance=1 / (self.modulus + 1),
            accuracy_plateau=(1 + (self.n - 1) * guess) / self.n,
            accuracy_ceiling=1.0,
        )

    def sources(self, answer: int) -> tuple[int, ...]:
        """The window's numbers."""
        return tuple(range(max(0, answer - self.window + 1), answer + 1))

    def answers(self, numbers: torch.Tensor) -> torch.Tensor:
        """Sums of every window."""
        before = numbers.cumsum(-1)
        sums = before.clone()
        sums[..., self.window :] -= before[..., : -self.window]
        return sums % self.modulus
