"""`histogram`: read a sequence of numbers, then write for each of them how often it occurred.

One example with `n=4, n_numbers=12` (`|` is the separator; counts are words of their own, here in brackets):

    reads and writes    5  1  5  9  |  [2] [1] [2] [1]

On the plateau a count is any count, by how often such counts are: 1 + binomial(n-1, 1/n_numbers).

Source: Gopalani and Hu 2025, arXiv 2506.13688.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from workloads.fields import static
from workloads.tasks.task import Levels
from workloads.tasks.written import Written

if TYPE_CHECKING:
    import torch


class Histogram(Written):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        n: numbers in a sequence, and answers.
        n_numbers: numbers are 0 … n_numbers-1; the words n_numbers … n_numbers+n-1 are the counts 1 … n.
    """

    name: Literal["histogram"] = static("histogram")
    version: Literal[1] = static(1)
    n_numbers: int = static(12, ge=2, le=4096)

    @property
    def values(self) -> range:
        """0 … n_numbers-1."""
        return range(self.n_numbers)

    @property
    def separator(self) -> int:
        """The word behind all counts."""
        return self.n_numbers + self.n

    def levels(self) -> Levels:
        """Exact for answers that know neither the numbers nor the counts before."""
        share = 1 / self.n_numbers
        law = [
            math.comb(self.n - 1, others) * share**others * (1 - share) ** (self.n - 1 - others)
            for others in range(self.n)
        ]
        unknown = (self.n - 1) * math.log(self.n_numbers)
        of_counts = -self.n * sum(p * math.log(p) for p in law if p > 0.0)
        return Levels(
            loss_chance=math.log(self.separator + 1),
            loss_plateau=(unknown + of_counts) / (2 * self.n),
            loss_floor=unknown / (2 * self.n),
            accuracy_chance=1 / (self.separator + 1),
            accuracy_plateau=max(law),
            accuracy_ceiling=1.0,
        )

    def sources(self, answer: int) -> tuple[int, ...]:
        """Every number."""
        return tuple(range(self.n))

    def answers(self, numbers: torch.Tensor) -> torch.Tensor:
        """Counts as words."""
        return (numbers[..., None] == numbers[..., None, :]).sum(-1) + (self.n_numbers - 1)
