"""What tasks of matrices of low rank share: their law, which entries are missing, and words for numbers.

Matrices are U Vᵀ, the entries of U and V drawn independently, rounded to multiples of 1/grid. Every number is a word of
its own, and word 0 is a missing entry.

Source: Gopalani, Lubana and Hu 2024, Abrupt Learning in Transformers, arXiv 2410.22244. `grid` and `reach` other than
100 and 10 are ours, and so are sizes that keep off 0, and that ranks are mixed within a batch.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from workloads.fields import Frozen, per_member, static

if TYPE_CHECKING:
    import torch

    from workloads.tasks.task import Batch

MISSING = 0  # the word of an entry that is not shown
ROUNDING = 1e-5  # singular values below this share of the largest are none
COUNTED = 2**14  # matrices, where levels have to be counted
LARGEST_SPREAD = 0.2  # standard deviation of an entry, in units of the reach: few entries are cut off at it


class Matrices(Frozen):
    """Parameters of matrices; tasks that derive from it say what is asked of them.

    Attributes:
        rows, columns: of a matrix.
        rank: columns of U and V.
        least_rank: if given, each matrix has a rank of its own, any from here to `rank` being as likely.
        factors: law of the entries of U and V: uniform in ±scale, normal with that standard deviation, or Laplace's
            with that mean absolute value. With `entries` there are none: entries are uniform in ±scale, each for
            itself, so that matrices have full rank.
        scale: of that law; 1, and for Laplace's 0.25, are the paper's.
        least_size: of a factor's entry, in units of scale, where the law is uniform: entries of either sign with sizes
            uniform from here to 1. The paper's is 0; at 1 entries are signs, and small divisors are what is left out.
        p_mask: how often an entry is missing, each for itself [fraction].
        coherence: how far the chance to be shown goes with an entry's coherence, the mean of its row's and its column's
            leverage, which are 1 in the mean: (1 - p_mask)·(1 - coherence + coherence·that), at most 1. At 0 all
            entries are shown equally often; what is shown then tells more of the matrix the larger it is.
        hidden_rows: rows that are missing but for one entry, as `row:column` from 0, such as `3:1 6:5`.
        stand_in: the number shown in place of a missing entry; None shows that it is missing.
        grid: numbers are whole multiples of 1/grid.
        reach: the largest number that there is a word for; what lies beyond is cut off.
    """

    rows: int = static(7, ge=1)
    columns: int = static(7, ge=1)
    rank: int = per_member(2, ge=1)
    least_rank: int | None = per_member(None, ge=1)
    factors: Literal["uniform", "normal", "laplace", "entries"] = per_member("uniform")
    scale: float = per_member(1.0, gt=0.0)
    p_mask: float = per_member(0.3, gt=0.0, lt=1.0)
    hidden_rows: str = per_member("", pattern=r"^(\d+:\d+( \d+:\d+)*)?$")
    stand_in: float | None = per_member(None)
    grid: int = static(100, ge=1)
    reach: int = static(10, ge=1)
    least_size: float = per_member(0.0, ge=0.0, le=1.0, later=True)
    coherence: float = per_member(0.0, ge=0.0, le=1.0, later=True)

    @model_validator(mode="after")
    def _ranks_are_in_order(self) -> Matrices:
        if self.least_rank is not None and self.least_rank > self.rank:
            raise ValueError(f"least_rank of at most rank; got {self.least_rank}, rank {self.rank}")
        return self

    @model_validator(mode="after")
    def _sizes_are_of_the_uniform_law(self) -> Matrices:
        if self.least_size and self.factors != "uniform":
            raise ValueError(f"least_size to be 0 where factors are {self.factors}; got {self.least_size:g}")
        return self

    @model_validator(mode="after")
    def _hidden_rows_are_there(self) -> Matrices:
        given = [row for row, _ in self.hidden]
        inside = all(row < self.rows and column < self.columns for row, column in self.hidden)
        if not inside or len(set(given)) < len(given):
            size = f"{self.rows} rows and {self.columns} columns"
            raise ValueError(f"hidden_rows to name entries of {size}, one a row; got '{self.hidden_rows}'")
        return self

    @model_validator(mode="after")
    def _numbers_have_words(self) -> Matrices:
        if self.stand_in is not None and abs(self.stand_in) > self.reach:
            raise ValueError(f"stand_in within the reach of ±{self.reach}; got {self.stand_in:g}")
        largest = {"uniform": self.rank * self.scale**2, "entries": self.scale}.get(self.factors, math.inf)
        spread = self.entry_square**0.5
        if spread > LARGEST_SPREAD * self.reach and largest > self.reach:
            fits = f"{LARGEST_SPREAD * self.reach:g}, a fifth of reach"
            raise ValueError(f"entries with a standard deviation of at most {fits}; got {spread:.3g}")
        return self

    @property
    def hidden(self) -> tuple[tuple[int, int], ...]:
        """The rows that are missing, each with the column of its one entry that is not."""
        pairs = (pair.split(":") for pair in self.hidden_rows.split())
        return tuple((int(row), int(column)) for row, column in pairs)

    @property
    def factor_square(self) -> float:
        """Mean square of an entry of U or V."""
        uniform = (1.0 + self.least_size + self.least_size**2) / 3
        return self.scale**2 * {"uniform": uniform, "normal": 1.0, "laplace": 2.0, "entries": uniform}[self.factors]

    @property
    def entry_square(self) -> float:
        """Mean square of a matrix's entry, also the plateau of `loss_masked`; that of `loss_observed` is 0.

        Rounding adds 1/12 of the square of its step, which is 8e-6 for hundredths and left out.
        """
        if self.factors == "entries":
            return self.factor_square
        least = self.rank if self.least_rank is None else self.least_rank
        return (least + self.rank) / 2 * self.factor_square**2

    @property
    def missing_share(self) -> float:
        """Share of entries that are not shown [fraction]; with coherence, counted in matrices of a fixed seed."""
        if self.coherence:
            return _counted(self)[0]
        hidden = len(self.hidden)
        return (self.p_mask * (self.rows - hidden) + hidden * (1 - 1 / self.columns)) / self.rows

    @property
    def missing_square(self) -> float:
        """Mean over all entries of the squares of those that are missing: what answering 0 there costs."""
        return _counted(self)[1] if self.coherence else self.missing_share * self.entry_square

    def world(self, rng: torch.Generator) -> Batch:
        """Nothing stays fixed: every matrix is new."""
        return {}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Words `x (S, B, T)`, the numbers of all entries `y (S, B, T, 1)`, and which are `missing (S, B, T)`."""
        import torch

        exact, missing = self._exact(rng, steps=steps, batch=batch)
        if self.coherence:
            missing = self._missing_by_coherence(exact, rng)
        for row, column in self.hidden:
            missing[:, :, row] = True
            missing[:, :, row, column] = False
        steps_up = self._on_grid(exact).flatten(2)
        missing = missing.flatten(2)
        x = torch.where(missing, self.word_of(self.stand_in), self._word(steps_up))
        return {"x": x, "y": (steps_up / self.grid)[..., None], "missing": missing}

    def _exact(self, rng: torch.Generator, *, steps: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Matrices that are not rounded, and which of their entries are missing `(S, B, rows, columns)`."""
        import torch

        size = (steps, batch, self.rows + self.columns, self.rank)
        factors = self._drawn(torch.rand(size, generator=rng, device=rng.device), rng)
        missing = torch.rand(steps, batch, self.rows, self.columns, generator=rng, device=rng.device) <= self.p_mask
        if self.least_rank is not None:
            ranks = torch.randint(
                self.least_rank, self.rank + 1, (steps, batch, 1, 1), generator=rng, device=rng.device
            )
            factors = factors * (torch.arange(self.rank, device=rng.device) < ranks)
        left, right = factors[:, :, : self.rows], factors[:, :, self.rows :]
        if self.factors == "entries":
            free = torch.rand(steps, batch, self.rows, self.columns, generator=rng, device=rng.device)
            return (2.0 * free - 1.0) * self.scale, missing
        return (left[:, :, :, None] * right[:, :, None]).sum(-1), missing

    def _missing_by_coherence(self, exact: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Which entries are missing where coherent ones are shown more often: `(S, B, rows, columns)`."""
        import torch

        left, sizes, right = torch.linalg.svd(exact, full_matrices=False)
        there = (sizes > ROUNDING * sizes[..., :1]).to(exact.dtype)[..., None, :]  # (S, B, 1, least side)
        ranks = there.sum(-1).clamp_min(1.0)
        of_rows = (left.square() * there).sum(-1) * self.rows / ranks
        of_columns = (right.mT.square() * there).sum(-1) * self.columns / ranks
        coherence = (of_rows[..., :, None] + of_columns[..., None, :]) / 2
        shown = (1.0 - self.p_mask) * (1.0 - self.coherence + self.coherence * coherence)
        return torch.rand(exact.shape, generator=rng, device=rng.device) >= shown

    def _drawn(self, u: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Factors of the law from uniform draws in [0, 1)."""
        if self.factors in ("uniform", "entries"):
            even = 2.0 * u - 1.0
            if self.least_size:
                even = even.sign() * (self.least_size + (1.0 - self.least_size) * even.abs())
            return even * self.scale
        if self.factors == "normal":
            return u.normal_(generator=rng) * self.scale
        side = u - 0.5
        return -self.scale * side.sign() * (1.0 - 2.0 * side.abs()).clamp_min(1e-7).log()

    def _on_grid(self, values: torch.Tensor) -> torch.Tensor:
        """The nearest multiple of 1/grid, counted from 0, up to the reach."""
        most = self.reach * self.grid
        return (values * self.grid).round().clamp(-most, most)

    def _word(self, steps_up: torch.Tensor) -> torch.Tensor:
        return steps_up.long() + (1 + self.reach * self.grid)

    def word_of(self, number: float | None) -> int:
        """The word for a number, the nearest that there is; None is a missing entry."""
        import torch

        return MISSING if number is None else int(self._word(self._on_grid(torch.tensor(number))))

    def word_values(self, words: torch.Tensor) -> torch.Tensor:
        """What words stand for; not a number for a missing entry."""
        import torch

        values = (words - (1 + self.reach * self.grid)).double() / self.grid
        return torch.where(words == MISSING, torch.nan, values)

    def position_groups(self, device: torch.device | None = None) -> Batch:
        """Which pairs of different entries share a row, a column, or neither: `(T, T)` each."""
        import torch

        at = torch.arange(self.rows * self.columns, device=device)
        row, column, other = at // self.columns, at % self.columns, at[:, None] != at
        same_row, same_column = ((each[:, None] == each) & other for each in (row, column))
        return {"same row": same_row, "same column": same_column, "neither": other & ~same_row & ~same_column}


@functools.lru_cache(maxsize=64)
def _counted(task: Matrices) -> tuple[float, float]:
    """Share of entries that are missing, and the mean over all entries of their squares."""
    import torch

    from workloads.streams import generator

    drawn = Matrices.sample(task, {}, generator(0, "levels", device=torch.device("cpu")), steps=1, batch=COUNTED)
    missing = drawn["missing"].double()
    return float(missing.mean()), float((missing * drawn["y"][..., 0].square()).mean())
