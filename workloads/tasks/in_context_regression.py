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

Source: Garg et al. 2022, What Can Transformers Learn In-Context?, arXiv 2208.01066. Their curriculum over `dim` and
`points` is left out, since data here are functions of the seed and not of what has been trained; and the value of the
last point is not read, since nothing is asked behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.fields import Frozen, static
from workloads.tasks.task import Levels, Shapes, not_shown, of_the_best_head

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch

SMALLEST_SHARE = 1e-6  # of a point's squared length; one that lies closer to those before it tells nothing new


class InContextRegression(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        dim: numbers d of a point, and of a map.
        points: points n of an example, each asked for before its value is shown.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    MEASURES: ClassVar[tuple[str, ...]] = ("least_squares_gap", "attention_on_point")

    name: Literal["in_context_regression"] = static("in_context_regression")
    version: Literal[1] = static(1)
    dim: int = static(20, ge=1, le=1024)
    points: int = static(41, ge=2, le=4096)

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
        import torch

        points = torch.randn(steps, batch, self.points, self.dim, generator=rng, device=rng.device)
        maps = torch.randn(steps, batch, self.dim, 1, generator=rng, device=rng.device)
        values = points @ maps
        x = torch.zeros(steps, batch, 2 * self.points - 1, self.dim, device=rng.device)
        x[:, :, 0::2] = points
        x[:, :, 1::2, :1] = values[:, :, :-1]
        y = torch.zeros_like(x[..., :1])
        y[:, :, 0::2] = values
        return {"x": x, "y": y}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Squared error at points over `dim`; and the share of the last points' squares that is explained."""
        values = batch["y"][..., 0::2, 0]
        squares = (output[..., 0::2, 0] - values).square()
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
            taken["least_squares_gap"] = (answers - best).square().flatten(1).mean(1) / self.dim
        if seen.attention:
            before = [maps.diagonal(offset=-1, dim1=-2, dim2=-1)[..., 0::2].mean((1, 3)) for maps in seen.attention]
            taken["attention_on_point"] = of_the_best_head(before)
        return taken


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
