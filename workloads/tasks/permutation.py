"""`permutation`: read places, then values, then write the values in the order of the places.

One example with `n=3` (places are the words 0 … n-1, values the words n … 2n-1, `|` is the separator):

    reads and writes    2 0 1   5 3 3  |  3 5 3

The place says where to look, the value there says what to write. On the plateau an answer is any value.

Source: Gopalani and Hu 2025, arXiv 2506.13688; that values are drawn with replacement is our reading.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from workloads.fields import static
from workloads.tasks.task import Levels
from workloads.tasks.written import Written

if TYPE_CHECKING:
    import torch


class Permutation(Written):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        n: places, values, and answers.
    """

    name: Literal["permutation"] = static("permutation")
    version: Literal[1] = static(1)
    n: int = static(16, ge=2, le=512)

    @property
    def reads(self) -> int:
        """Places and values."""
        return 2 * self.n

    @property
    def values(self) -> range:
        """Behind the places."""
        return range(self.n, 2 * self.n)

    @property
    def separator(self) -> int:
        """The word behind all values."""
        return 2 * self.n

    def levels(self) -> Levels:
        """Exact: places are known as far as those before leave a choice, values never."""
        each = math.log(self.n)
        unknown = math.lgamma(self.n) + self.n * each  # (n-1)! orders once the first place has been read
        words = 3 * self.n
        return Levels(
            loss_chance=math.log(2 * self.n + 1),
            loss_plateau=(unknown + self.n * each) / words,
            loss_floor=unknown / words,
            accuracy_chance=1 / (2 * self.n + 1),
            accuracy_plateau=1 / self.n,
            accuracy_ceiling=1.0,
        )

    def sources(self, answer: int) -> tuple[int, ...]:
        """The place that says which value; where that stands differs from example to example."""
        return (answer,)

    def numbers(self, rng: torch.Generator, *, size: tuple[int, int]) -> torch.Tensor:
        """A random order of the places, then values drawn with replacement."""
        import torch

        places = torch.rand(*size, self.n, generator=rng, device=rng.device).argsort(-1)
        return torch.cat([places, super().numbers(rng, size=size)], dim=-1)

    def answers(self, numbers: torch.Tensor) -> torch.Tensor:
        """The value at each place."""
        return numbers[..., self.n :].gather(-1, numbers[..., : self.n])
