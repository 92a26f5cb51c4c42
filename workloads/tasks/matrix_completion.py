"""`matrix_completion`: a matrix of low rank is shown with entries missing; say every entry.

One example with `rows=2, columns=3, rank=1`, rounded to hundredths and read row by row, two entries missing:

    entry       0,0    0,1    0,2    1,0    1,1    1,2
    matrix      .40   -.10    .30   -.80    .20   -.60
    reads       .40    [?]    .30   -.80    .20    [?]        answers: the six numbers of the matrix

Matrices are U Vᵀ, the entries of U and V drawn independently. Every number is a word of its own, [?] is word 0. The
loss is the squared error over all entries, missing or not. Copying what is seen and saying 0 elsewhere is the plateau;
matrices of rank 1 have X[0,1] = X[0,0] X[1,1] / X[1,0], which is what there is to find.

Source: Gopalani, Lubana and Hu 2024, Abrupt Learning in Transformers, arXiv 2410.22244. `grid` and `reach` other than
100 and 10 are ours, and so is that ranks are mixed within a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from workloads.fields import Frozen, per_member, static
from workloads.tasks.task import Levels, Shapes, not_shown, of_the_best_head

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch

MISSING = 0  # the word of an entry that is not shown
LARGEST_SPREAD = 0.2  # standard deviation of an entry, in units of the reach: few entries are cut off at it
KINDS = ("attention_on_row", "attention_on_column", "attention_on_observed", "attention_on_self")


class MatrixCompletion(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        rows, columns: of a matrix.
        rank: columns of U and V.
        least_rank: if given, each matrix has a rank of its own, any from here to `rank` being as likely.
        factors: law of the entries of U and V: uniform in ±scale, normal with that standard deviation, or Laplace's
            with that mean absolute value.
        scale: of that law; 1, and for Laplace's 0.25, are the paper's.
        p_mask: how often an entry is missing, each for itself [fraction].
        hidden_rows: rows that are missing but for one entry, as `row:column` from 0, such as `3:1 6:5`.
        stand_in: the number shown in place of a missing entry; None shows that it is missing.
        grid: numbers are whole multiples of 1/grid.
        reach: the largest number that there is a word for; what lies beyond is cut off.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "loss_observed", "loss_masked", "mask_value")
    MEASURES: ClassVar[tuple[str, ...]] = KINDS

    name: Literal["matrix_completion"] = static("matrix_completion")
    version: Literal[1] = static(1)
    rows: int = static(7, ge=1)
    columns: int = static(7, ge=1)
    rank: int = per_member(2, ge=1)
    least_rank: int | None = per_member(None, ge=1)
    factors: Literal["uniform", "normal", "laplace"] = per_member("uniform")
    scale: float = per_member(1.0, gt=0.0)
    p_mask: float = per_member(0.3, gt=0.0, lt=1.0)
    hidden_rows: str = per_member("", pattern=r"^(\d+:\d+( \d+:\d+)*)?$")
    stand_in: float | None = per_member(None)
    grid: int = static(100, ge=1)
    reach: int = static(10, ge=1)

    @model_validator(mode="after")
    def _ranks_are_in_order(self) -> MatrixCompletion:
        if self.least_rank is not None and self.least_rank > self.rank:
            raise ValueError(f"least_rank of at most rank; got {self.least_rank}, rank {self.rank}")
        return self

    @model_validator(mode="after")
    def _hidden_rows_are_there(self) -> MatrixCompletion:
        given = [row for row, _ in self.hidden]
        inside = all(row < self.rows and column < self.columns for row, column in self.hidden)
        if not inside or len(set(given)) < len(given):
            size = f"{self.rows} rows and {self.columns} columns"
            raise ValueError(f"hidden_rows to name entries of {size}, one a row; got '{self.hidden_rows}'")
        return self

    @model_validator(mode="after")
    def _numbers_have_words(self) -> MatrixCompletion:
        if self.stand_in is not None and abs(self.stand_in) > self.reach:
            raise ValueError(f"stand_in within the reach of ±{self.reach}; got {self.stand_in:g}")
        spread, is_bounded = self.rank**0.5 * self.factor_square, self.factors == "uniform"
        if spread > LARGEST_SPREAD * self.reach and not (is_bounded and self.rank * self.scale**2 <= self.reach):
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
        return self.scale**2 * {"uniform": 1 / 3, "normal": 1.0, "laplace": 2.0}[self.factors]

    @property
    def entry_square(self) -> float:
        """Mean square of a matrix's entry, also the plateau of `loss_masked`; that of `loss_observed` is 0.

        Rounding adds 1/12 of the square of its step, which is 8e-6 for hundredths and left out.
        """
        least = self.rank if self.least_rank is None else self.least_rank
        return (least + self.rank) / 2 * self.factor_square**2

    @property
    def missing_share(self) -> float:
        """Share of entries that are not shown [fraction]."""
        hidden = len(self.hidden)
        return (self.p_mask * (self.rows - hidden) + hidden * (1 - 1 / self.columns)) / self.rows

    def shapes(self) -> Shapes:
        """A word for each entry, row by row; each is answered by a number."""
        words = 2 * self.reach * self.grid + 2
        return Shapes(positions=self.rows * self.columns, classes=1, vocabulary=words, answers="position")

    def levels(self) -> Levels:
        """Squared errors of saying 0 everywhere, and of saying 0 where nothing is shown: exact.

        The plateau is missing_share · rank / 9 for factors uniform in ±1. The floor is not known and set to 0: some
        entries cannot be told from what is shown. The paper's models reach 4e-3 with its defaults (page 5), where the
        least nuclear norm leaves 1.25e-2 (`analysis/nuclear_norm.py`).

        Checked by: test_matrix_completion.py::test_levels_are_those_of_the_answers_that_they_stand_for
        """
        return Levels(
            loss_chance=self.entry_square,
            loss_plateau=self.missing_share * self.entry_square,
            loss_floor=0.0,
            accuracy_chance=0.0,
            accuracy_plateau=0.0,
            accuracy_ceiling=1.0,
        )

    def world(self, rng: torch.Generator) -> Batch:
        """Nothing stays fixed: every matrix is new."""
        return {}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Words `x (S, B, T)`, the numbers of all entries `y (S, B, T, 1)`, and which are `missing (S, B, T)`."""
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
        exact = (left[:, :, :, None] * right[:, :, None]).sum(-1)  # (S, B, rows, columns)
        for row, column in self.hidden:
            missing[:, :, row] = True
            missing[:, :, row, column] = False
        steps_up = self._on_grid(exact).flatten(2)
        instead = MISSING if self.stand_in is None else self._word(self._on_grid(torch.tensor(self.stand_in)))
        missing = missing.flatten(2)
        x = torch.where(missing, instead, self._word(steps_up))
        return {"x": x, "y": (steps_up / self.grid)[..., None], "missing": missing}

    def _drawn(self, u: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Factors of the law from uniform draws in [0, 1)."""
        if self.factors == "uniform":
            return (2.0 * u - 1.0) * self.scale
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

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """What is said of all entries, and of those that are shown and that are missing.

        loss: mean squared error over all entries; loss_observed, loss_masked: over those shown, over those missing.
        accuracy: share of the missing entries' squares that is explained [fraction].
        mask_value: mean absolute answer at missing entries.
        """
        answers, missing = output[..., 0], batch["missing"].float()
        squares = (answers - batch["y"][..., 0]).square()
        masked = mean_where(squares.detach(), missing)
        there = mean_where(batch["y"][..., 0].square(), missing)
        return {
            "loss": squares.flatten(1).mean(1),
            "accuracy": 1.0 - masked / there.clamp_min(1.0 / self.grid**2),
            "loss_observed": mean_where(squares.detach(), 1.0 - missing),
            "loss_masked": masked,
            "mask_value": mean_where(answers.detach().abs(), missing),
        }

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """Where attention of all entries goes, in the layer and head that has most of it there [fractions].

        attention_on_row, attention_on_column: on other entries of the asking entry's row or column;
        attention_on_observed: on entries that are shown; attention_on_self: on the asking entry.
        """
        if not seen.attention:
            return not_shown(self.MEASURES, batch)
        found = [self.by_kind(maps, batch["missing"]) for maps in seen.attention]
        return {name: of_the_best_head([each[name] for each in found]) for name in KINDS}

    def by_kind(self, maps: torch.Tensor, missing: torch.Tensor) -> Batch:
        """Shares of each head's attention `(K, B, H, T, T)`, by the kind of entry that it rests on: `(K, H)` each."""
        import torch

        at = torch.arange(self.rows * self.columns, device=maps.device)
        row, column, itself = at // self.columns, at % self.columns, torch.eye(len(at), device=maps.device)
        same_row, same_column = ((each[:, None] == each).float() - itself for each in (row, column))
        mean = maps.mean(1)  # (K, H, T, T)
        on_keys = maps.mean(3)  # (K, B, H, T)
        shares = [(mean * kind).sum(-1).mean(-1) for kind in (same_row, same_column, itself)]
        observed = (on_keys * (~missing[:, :, None]).float()).sum(-1).mean(1)
        return dict(zip(KINDS, (shares[0], shares[1], observed, shares[2]), strict=True))


def mean_where(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over those of each member's values whose weight is 1, or 0 where there is none: `(K, …)` to `(K,)`."""
    return (values * weights).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp_min(1.0)
