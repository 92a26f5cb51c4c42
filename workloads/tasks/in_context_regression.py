"""`in_context_regression`: points of a linear map are shown, one example a map; say the next point's value.

One example with `dim=2, points=3`, of the map that takes (a, b) to 2a - b:

    position      0        1        2        3        4
    reads     [ 1  1]  [ 1  0]  [ 0 -1]  [ 1  0]  [ 2  1]
    writes        1        .        1        .        3

Values stand in a token's first number, zeros behind them. Answers at values (`.`) are not scored. Numbers of points and
maps are standard normal, so a value's variance is `dim`, in units of which errors are counted. A map of `dim` numbers
is known for certain after `dim` points; before, the best answer takes the shortest map that fits, and errs by what the
points leave open:

>>> InContextRegression(dim=2, points=5).best_errors()
[1.0, 0.5, 0.0, 0.0, 0.0]

Source: Garg et al. 2022, What Can Transformers Learn In-Context?, arXiv 2208.01066, their curriculum with it. The value
of the last point is not read here, since nothing is asked behind it; and errors are counted in units of the coordinates
at hand, so that saying 0 costs 1 from the curriculum's first step to its last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from workloads.fields import Frozen, static
from workloads.tasks.task import Levels, Shapes, not_shown, of_the_best_head

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch

POINTS_A_LESSON = 2  # of the curriculum (their section A.2), and one coordinate
SMALLEST_SHARE = 1e-6  # of a point's squared length; one that lies closer to those before it tells nothing new


class InContextRegression(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        dim: numbers d of a point, and of a map.
        points: points n of an example, each asked for before its value is shown.
        curriculum_steps: if not 0, examples begin small, and every so many steps they gain a coordinate and two points.
            Coordinates and points that are not there yet are 0, and nothing is asked at them.
        first_dim, first_points: of the curriculum's first examples.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    MEASURES: ClassVar[tuple[str, ...]] = ("least_squares_gap", "attention_on_point")

    name: Literal["in_context_regression"] = static("in_context_regression")
    version: Literal[1] = static(1)
    dim: int = static(20, ge=1, le=1024)
    points: int = static(41, ge=2, le=4096)
    curriculum_steps: int = static(0, ge=0, later=True)
    first_dim: int = static(5, ge=1, later=True)
    first_points: int = static(11, ge=2, later=True)

    @model_validator(mode="after")
    def _it_begins_small(self) -> InContextRegression:
        if self.curriculum_steps and (self.first_dim > self.dim or self.first_points > self.points):
            got = f"{self.first_dim} and {self.first_points} of {self.dim} and {self.points}"
            raise ValueError(f"first_dim and first_points of at most dim and points; got {got}")
        return self

    def shapes(self) -> Shapes:
        """Points and values in turn, the last value left out; an answer is one float."""
        return Shapes(positions=2 * self.points - 1, features=self.dim, classes=1, answers="position")

    def best_errors(self) -> list[float]:
        """Mean squared error of the best answer at each point, in units of `dim`: 1 - i/dim behind i points.

        Checked by: test_in_context_regression.py::test_best_errors_are_those_of_the_shortest_map_that_fits
        """
        return [max(0.0, 1.0 - i / self.dim) for i in range(self.points)]

    def levels(self) -> Levels:
        """Exact: 0 is the best answer that looks at no value. Accuracy is the share explained at the last point."""
        errors = self.best_errors()
        return Levels(
            loss_chance=1.0,
            loss_plateau=1.0,
            loss_floor=sum(errors) / len(errors),
            accuracy_chance=0.0,
            accuracy_plateau=0.0,
            accuracy_ceiling=1.0 - errors[-1],
        )

    def world(self, rng: torch.Generator) -> Batch:
        """Nothing stays fixed."""
        return {}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Tokens `x (S, B, 2n-1, d)`, and `y (S, B, 2n-1, 1)`, values of the points and 0 behind values."""
        return self._sample(rng, steps=steps, batch=batch, lessons=None)

    def sample_from(self, world: Batch, rng: torch.Generator, *, first_step: int, steps: int, batch: int) -> Batch:
        """The same as taught from a step on; in a curriculum with its `dims (S, B)`, and `asked (S, B, n)`, 0 or 1."""
        import torch

        lessons = None
        if self.curriculum_steps:
            lessons = (first_step + torch.arange(steps, device=rng.device)) // self.curriculum_steps
        return self._sample(rng, steps=steps, batch=batch, lessons=lessons)

    def _sample(self, rng: torch.Generator, *, steps: int, batch: int, lessons: torch.Tensor | None) -> Batch:
        import torch

        points = torch.randn(steps, batch, self.points, self.dim, generator=rng, device=rng.device)
        maps = torch.randn(steps, batch, self.dim, 1, generator=rng, device=rng.device)
        taught: Batch = {}
        if lessons is not None:
            dims = (self.first_dim + lessons).clamp_max(self.dim)
            there = (self.first_points + POINTS_A_LESSON * lessons).clamp_max(self.points)
            asked = torch.arange(self.points, device=rng.device) < there[:, None]
            known = torch.arange(self.dim, device=rng.device) < dims[:, None]
            points = points * (asked[:, None, :, None] & known[:, None, None])
            taught = {
                "dims": dims.float()[:, None].expand(-1, batch).contiguous(),
                "asked": asked.float()[:, None].expand(-1, batch, -1).contiguous(),
            }
        values = points @ maps
        x = torch.zeros(steps, batch, 2 * self.points - 1, self.dim, device=rng.device)
        x[:, :, 0::2] = points
        x[:, :, 1::2, :1] = values[:, :, :-1]
        y = torch.zeros_like(x[..., :1])
        y[:, :, 0::2] = values
        return {"x": x, "y": y, **taught}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Squared error at points over `dim`; and the share of the last points' squares that is explained."""
        values = batch["y"][..., 0::2, 0]
        squares = (output[..., 0::2, 0] - values).square()
        if "asked" in batch:
            last = batch["asked"].sum(-1, keepdim=True).long() - 1  # (K, B, 1)
            left = squares.gather(-1, last).mean((1, 2)) / values.gather(-1, last).square().mean((1, 2))
            return {"loss": _of_asked(squares, batch), "accuracy": 1.0 - left.detach()}
        left = squares[..., -1].mean(1) / values[..., -1].square().mean(1)
        return {"loss": squares.flatten(1).mean(1) / self.dim, "accuracy": 1.0 - left.detach()}

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """How far from least squares, and the first thing that must be known.

        least_squares_gap: squared distance of the answers from those of the shortest map that fits, over `dim`.
        attention_on_point: of the values' attention, on the point before; of the layer and head that has most
            [fraction].
        """
        taken = not_shown(self.MEASURES, batch)
        if seen.again is not None:
            answers = seen.again(batch["x"])[..., 0::2, 0]
            best = least_squares(batch["x"][..., 0::2, :], batch["y"][..., 0::2, 0])
            squares = (answers - best).square()
            is_taught = "asked" in batch
            gap = _of_asked(squares, batch) if is_taught else squares.flatten(1).mean(1) / self.dim
            taken["least_squares_gap"] = gap
        if seen.attention:
            before = [maps.diagonal(offset=-1, dim1=-2, dim2=-1)[..., 0::2].mean((1, 3)) for maps in seen.attention]
            taken["attention_on_point"] = of_the_best_head(before)
        return taken


def _of_asked(squares: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean of squares `(K, B, n)` over the points asked for, in units of the coordinates at hand: `(K,)`."""
    asked = batch["asked"]
    return ((squares * asked).sum(-1) / asked.sum(-1) / batch["dims"]).mean(1)


def least_squares(points: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """At each point, the value by the shortest map that fits all points before: `(…, n, d)`, `(…, n)` to `(…, n)`.

    One point after the other: the map moves along what the point has that none before it had, until it fits.
    """
    import torch

    points, values = points.double(), values.double()
    *lead, _, d = points.shape
    fitted = torch.zeros(*lead, d, dtype=points.dtype, device=points.device)
    open_ways = torch.eye(d, dtype=points.dtype, device=points.device).expand(*lead, d, d)  # projects on what is open
    found = []
    for point, value in zip(points.unbind(-2), values.unbind(-1), strict=True):
        answer = (fitted * point).sum(-1)
        found.append(answer)
        new = (open_ways @ point[..., None])[..., 0]
        length = new.square().sum(-1)
        tells = length > SMALLEST_SHARE * point.square().sum(-1)
        step = new * (tells / length.clamp_min(torch.finfo(length.dtype).tiny))[..., None]
        fitted = fitted + step * (value - answer)[..., None]
        open_ways = open_ways - step[..., :, None] * new[..., None, :]
    return torch.stack(found, dim=-1).float()
