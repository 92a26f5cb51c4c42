"""`matrix_completion`: a matrix of low rank is shown with entries missing; say every entry.

One example with `rows=2, columns=3, rank=1`, rounded to hundredths and read row by row, two entries missing:

    entry       0,0    0,1    0,2    1,0    1,1    1,2
    matrix      .40   -.10    .30   -.80    .20   -.60
    reads       .40    [?]    .30   -.80    .20    [?]        answers: the six numbers of the matrix

Matrices are U Vᵀ, the entries of U and V drawn independently. Every number is a word of its own, [?] is word 0. The
loss is the squared error over all entries, missing or not. Copying what is seen and saying 0 elsewhere is the plateau;
matrices of rank 1 have X[0,1] = X[0,0] X[1,1] / X[1,0], which is what there is to find.

Source: Gopalani, Lubana and Hu 2024, Abrupt Learning in Transformers, arXiv 2410.22244. `grid` and `reach` other than
100 and 10 are ours, and so is that ranks are mixed within a batch. In their mixture of orders all matrices of a step
have the same; behind a smaller one's entries there is padding here, which their sequences do not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from workloads.fields import static
from workloads.tasks.matrices import Matrices
from workloads.tasks.task import Levels, Shapes, not_shown, of_the_best_head

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch

KINDS = ("attention_on_row", "attention_on_column", "attention_on_observed", "attention_on_self")


class MatrixCompletion(Matrices):
    """Parameters of the task: those of its matrices.

    Attributes:
        version: raised when the meaning of the data changes.
        orders: of square matrices, such as `5 7 9`: those of a step have one of them, any being as likely, and stand in
            the first n² positions, row by row. `rows` and `columns` are the largest. What is behind is a word of its
            own that is not asked for.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "loss_observed", "loss_masked", "mask_value")
    MEASURES: ClassVar[tuple[str, ...]] = KINDS

    name: Literal["matrix_completion"] = static("matrix_completion")
    version: Literal[1] = static(1)
    orders: str = static("", pattern=r"^([1-9]\d*( [1-9]\d*)*)?$", later=True)

    @model_validator(mode="after")
    def _orders_fit(self) -> MatrixCompletion:
        if not self.orders:
            return self
        largest = max(self.sides)
        if not self.rows == self.columns >= largest:
            got = f"{self.rows} and {self.columns} for orders '{self.orders}'"
            raise ValueError(f"rows and columns of {largest} or more, both alike; got {got}")
        if self.hidden_rows or self.coherence:
            raise ValueError("orders to go without hidden_rows and coherence, which are of one order")
        return self

    @property
    def sides(self) -> tuple[int, ...]:
        """The orders, as numbers."""
        return tuple(int(word) for word in self.orders.split())

    @property
    def padding(self) -> int:
        """The word behind the entries of a smaller matrix, where there is one."""
        return 2 * self.reach * self.grid + 2

    def shapes(self) -> Shapes:
        """A word for each entry, row by row; each is answered by a number."""
        words = self.padding + bool(self.orders)
        return Shapes(positions=self.rows * self.columns, classes=1, vocabulary=words, answers="position")

    def levels(self) -> Levels:
        """Squared errors of saying 0 everywhere, and of saying 0 where nothing is shown: exact.

        The plateau is missing_share · rank / 9 for factors uniform in ±1, and counted where masks go by coherence. The
        floor is not known and set to 0: some entries cannot be told from what is shown. The paper's models reach 4e-3
        with its defaults (page 5), where the least nuclear norm leaves 1.25e-2 (`analysis/nuclear_norm.py`).

        Checked by: test_matrix_completion.py::test_levels_are_those_of_the_answers_that_they_stand_for
        """
        return Levels(
            loss_chance=self.entry_square,
            loss_plateau=self.missing_square,
            loss_floor=0.0,
            accuracy_chance=0.0,
            accuracy_plateau=0.0,
            accuracy_ceiling=1.0,
        )

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """As for all matrices; where orders are mixed, also which positions are `there (S, B, T)`."""
        import torch

        drawn = super().sample(world, rng, steps=steps, batch=batch)
        if not self.orders:
            return drawn
        sides = torch.tensor(self.sides, device=rng.device)
        side = sides[torch.randint(len(sides), (steps, 1), generator=rng, device=rng.device)]  # (S, 1)
        at = torch.arange(self.rows * self.columns, device=rng.device)
        there = (at < side.square())[:, None].expand_as(drawn["missing"]).contiguous()
        source = torch.where(at < side.square(), at // side * self.columns + at % side, 0)[:, None].expand_as(there)
        return {
            "x": torch.where(there, drawn["x"].gather(2, source), self.padding),
            "y": (drawn["y"][..., 0].gather(2, source) * there)[..., None],
            "missing": drawn["missing"].gather(2, source) & there,
            "there": there,
        }

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """What is said of all entries, and of those that are shown and that are missing.

        loss: mean squared error over all entries; loss_observed, loss_masked: over those shown, over those missing.
        accuracy: share of the missing entries' squares that is explained [fraction].
        mask_value: mean absolute answer at missing entries.
        """
        import torch

        answers, missing = output[..., 0], batch["missing"].float()
        there = batch["there"].float() if "there" in batch else torch.ones_like(missing)
        squares = (answers - batch["y"][..., 0]).square()
        masked = mean_where(squares.detach(), missing)
        of_missing = mean_where(batch["y"][..., 0].square(), missing)
        return {
            "loss": mean_where(squares, there) if self.orders else squares.flatten(1).mean(1),
            "accuracy": 1.0 - masked / of_missing.clamp_min(1.0 / self.grid**2),
            "loss_observed": mean_where(squares.detach(), there - missing),
            "loss_masked": masked,
            "mask_value": mean_where(answers.detach().abs(), missing),
        }

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """Where attention of all entries goes, in the layer and head that has most of it there [fractions].

        attention_on_row, attention_on_column: on other entries of the asking entry's row or column;
        attention_on_observed: on entries that are shown; attention_on_self: on the asking entry. Not a number where
        orders are mixed: positions are then in other rows and columns at every step.
        """
        if not seen.attention or self.orders:
            return not_shown(self.MEASURES, batch)
        found = [self.by_kind(maps, batch["missing"]) for maps in seen.attention]
        return {name: of_the_best_head([each[name] for each in found]) for name in KINDS}

    def by_kind(self, maps: torch.Tensor, missing: torch.Tensor) -> Batch:
        """Shares of each head's attention `(K, B, H, T, T)`, by the kind of entry that it rests on: `(K, H)` each."""
        import torch

        groups = self.position_groups(maps.device)
        itself = torch.eye(self.rows * self.columns, device=maps.device)
        mean = maps.mean(1)  # (K, H, T, T)
        on_keys = maps.mean(3)  # (K, B, H, T)
        kinds = (groups["same row"].float(), groups["same column"].float(), itself)
        shares = [(mean * kind).sum(-1).mean(-1) for kind in kinds]
        observed = (on_keys * (~missing[:, :, None]).float()).sum(-1).mean(1)
        return dict(zip(KINDS, (shares[0], shares[1], observed, shares[2]), strict=True))

    def position_groups(self, device: torch.device | None = None) -> Batch:
        """As for all matrices; none where orders are mixed."""
        return {} if self.orders else super().position_groups(device)

    # -- what probes ask (`workloads/probing`) -------------------------------------------------------

    def attention_kinds(self, maps: torch.Tensor, batch: Batch) -> Batch:
        """`by_kind`, by names without a prefix; nothing where orders are mixed."""
        if self.orders:
            return {}
        found = self.by_kind(maps, batch["missing"])
        return {name.removeprefix("attention_"): shares for name, shares in found.items()}

    def readings(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Mean nuclear norm of the answers and of the matrices themselves, `(K,)` each; not where orders are mixed."""
        import torch

        if self.orders:
            return {}

        shape = (self.rows, self.columns)
        named = {"nuclear_norm": output, "nuclear_norm_right": batch["y"]}
        return {
            name: torch.linalg.svdvals(each[..., 0].unflatten(-1, shape)).sum(-1).mean(-1)
            for name, each in named.items()
        }

    def negated(self, batch: Batch) -> Batch:
        """The same examples with every number of the other sign, and the same entries missing."""
        import torch

        kept = batch["missing"] | ~batch["there"] if "there" in batch else batch["missing"]
        turned = torch.where(kept, batch["x"], 2 * int(self._word(torch.zeros(()))) - batch["x"])
        return batch | {"x": turned, "y": -batch["y"]}

    def probe_targets(self, batch: Batch) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
        """What states may tell of an entry `(K, B, T, n)`, and at which entries it is looked for.

        `element` is its number, `missing element` the same where it is missing; `row` is its row as shown, 0 where
        entries are missing; `singular vector` the matrix's first left one, its largest part positive.
        """
        import torch

        y, missing = batch["y"], batch["missing"]
        if self.orders:
            return {"element": (y, batch["there"]), "missing element": (y, missing)}
        shape = (self.rows, self.columns)
        shown = torch.where(missing, 0.0, y[..., 0]).unflatten(-1, shape)  # (K, B, rows, columns)
        rows = shown.repeat_interleave(self.columns, dim=2)  # (K, B, T, columns)
        first = torch.linalg.svd(y[..., 0].unflatten(-1, shape).double()).U[..., 0]  # (K, B, rows)
        largest = first.gather(-1, first.abs().argmax(-1, keepdim=True))
        turned = first * torch.where(largest < 0, -1.0, 1.0)
        vector = turned[:, :, None].expand(-1, -1, y.shape[2], -1).float()
        found: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {
            "element": (y, None),
            "missing element": (y, missing),
            "row": (rows, None),
            "singular vector": (vector, None),
        }
        return found


def mean_where(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over those of each member's values whose weight is 1, or 0 where there is none: `(K, …)` to `(K,)`."""
    return (values * weights).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp_min(1.0)
