"""`rewrite`: read a sequence of numbers, then write it again by a rule.

One example each with `n=4` (`|` is the separator, the word `n_numbers`), after reading 5 1 2 9:

    copy                    5 1 2 9 | 5 1 2 9
    reverse                 5 1 2 9 | 9 2 1 5
    repeat, n_blocks=2      5 1 2 9 | 5 5 1 1

`copy` and `reverse` keep one number apart from the next. `repeat` writes the first `n_blocks` numbers, each in a block
of equal answers, so what a waiting model does anyway, repeating itself, is nearly right: it is the control without a
plateau. Prefix sums and moving sums are `window_sum`.

Source: Gopalani and Hu 2025, arXiv 2506.13688; how the blocks of `repeat` are laid out is our reading.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from workloads.fields import static
from workloads.tasks.task import Levels
from workloads.tasks.written import Written

if TYPE_CHECKING:
    import torch


class Rewrite(Written):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        rule: what is written.
        n: numbers in a sequence, and answers.
        n_numbers: numbers are 0 … n_numbers-1.
        n_blocks: blocks of equal answers that `repeat` writes; a divisor of n.
    """

    name: Literal["rewrite"] = static("rewrite")
    version: Literal[1] = static(1)
    rule: Literal["copy", "reverse", "repeat"] = static("copy")
    n_numbers: int = static(16, ge=2, le=4096)
    n_blocks: int = static(1, ge=1)

    @model_validator(mode="after")
    def _blocks_are_equal(self) -> Rewrite:
        if self.n % self.n_blocks:
            raise ValueError(f"n_blocks to divide n; got n {self.n}, n_blocks {self.n_blocks}")
        return self

    @property
    def values(self) -> range:
        """0 … n_numbers-1."""
        return range(self.n_numbers)

    @property
    def separator(self) -> int:
        """The word behind all numbers."""
        return self.n_numbers

    def levels(self) -> Levels:
        """Exact: on the plateau an answer is any number, or the one before it where the rule repeats."""
        each = math.log(self.n_numbers)
        unknown = (self.n - 1) * each  # the first number is read before anything is said
        surprises = self.n_blocks if self.rule == "repeat" else self.n
        return Levels(
            loss_chance=math.log(self.n_numbers + 1),
            loss_plateau=(unknown + surprises * each) / (2 * self.n),
            loss_floor=unknown / (2 * self.n),
            accuracy_chance=1 / (self.n_numbers + 1),
            accuracy_plateau=(self.n - surprises + surprises / self.n_numbers) / self.n,
            accuracy_ceiling=1.0,
        )

    def sources(self, answer: int) -> tuple[int, ...]:
        """The one number that is written."""
        if self.rule == "reverse":
            return (self.n - 1 - answer,)
        return (answer,) if self.rule == "copy" else (answer * self.n_blocks // self.n,)

    def answers(self, numbers: torch.Tensor) -> torch.Tensor:
        """Each answer is its source."""
        import torch

        at = torch.tensor([self.sources(answer)[0] for answer in range(self.n)], device=numbers.device)
        return numbers[..., at]
