"""`parity`: the answer is the product of a few hidden coordinates among many.

One example with `n_bits=6, k=3` and the hidden coordinates 0, 2 and 5:

    x   +1 -1 -1 -1 +1 -1        answer: (+1)(-1)(-1) = +1, class 1
        ^     ^        ^

Any two of the three say nothing, so loss and accuracy stay at chance until the coordinates are found; a search would
take about n^k looks. Below the flat curve the weights already move: the measures see it.

Source: Barak et al. 2022, Hidden Progress in Deep Learning, arXiv 2207.08799.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from workloads.fields import Frozen, static
from workloads.tasks.task import Levels, Shapes, not_shown

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch


MOST_SIGNED = 6  # hidden coordinates whose 2^k signs are all gone through


class Parity(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        n_bits: coordinates of an example, each a token of one float.
        k: coordinates that the answer depends on; which, the data seed says.
        loss: of the margin, the answer's sign times the difference of the two logits.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    MEASURES: ClassVar[tuple[str, ...]] = ("weight_on_hidden", "fourier_gap", "moved")

    name: Literal["parity"] = static("parity")
    version: Literal[1] = static(1)
    n_bits: int = static(50, ge=2)
    k: int = static(3, ge=1)
    loss: Literal["hinge", "logistic"] = static("hinge")

    @model_validator(mode="after")
    def _hidden_ones_are_fewer(self) -> Parity:
        if self.k >= self.n_bits:
            raise ValueError(f"k below n_bits; got {self.k} of {self.n_bits}")
        return self

    def shapes(self) -> Shapes:
        """Every coordinate is a position."""
        return Shapes(positions=self.n_bits, features=1, classes=2)

    def levels(self) -> Levels:
        """Exact: whatever leaves out one hidden coordinate knows nothing."""
        chance = 1.0 if self.loss == "hinge" else math.log(2)
        return Levels(
            loss_chance=chance,
            loss_plateau=chance,
            loss_floor=0.0,
            accuracy_chance=0.5,
            accuracy_plateau=0.5,
            accuracy_ceiling=1.0,
        )

    def world(self, rng: torch.Generator) -> Batch:
        """The `hidden (k,)` coordinates."""
        import torch

        return {"hidden": torch.randperm(self.n_bits, generator=rng, device=rng.device)[: self.k]}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Signs `x (S, B, n, 1)`, classes `y (S, B)`, and which coordinates are `hidden (S, B, k)`."""
        import torch

        x = torch.randint(2, (steps, batch, self.n_bits), generator=rng, device=rng.device).float() * 2.0 - 1.0
        y = (x[..., world["hidden"]].prod(-1) > 0).long()
        return {"x": x[..., None], "y": y, "hidden": world["hidden"].expand(steps, batch, -1)}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Mean loss of the margins, and accuracy [fraction]."""
        import torch.nn.functional as F

        from workloads.scores import accuracy

        sign = batch["y"] * 2.0 - 1.0
        margin = sign * (output[..., 1] - output[..., 0])
        # softplus would do, but rounds otherwise at a tensor's end, where another member may follow
        loss = F.relu(1.0 - margin) if self.loss == "hinge" else -F.logsigmoid(margin)
        return {"loss": loss.mean(1), "accuracy": accuracy(output, batch["y"])}

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """How far weights have gone, and of the first layer of an `mlp` where; NaN for models that show none.

        moved: distance of all weights from the first ones, in units of the first ones' length.
        weight_on_hidden: share of its squared weights at the hidden coordinates [fraction]; k/n at first.
        fourier_gap: how much more its neurons' gradients know of hidden coordinates than of others: the mean size of
            E[y x_i 1(neuron fires)] over hidden i, less the same over the rest. The mean is over the batch, with every
            sign of the hidden coordinates where these are few.

        Source: Barak et al. 2022, sections 4 and 5; the gap's mean over neurons is ours (theirs is the worst case).
        """
        import torch

        taken = not_shown(self.MEASURES, batch)
        if seen.moved is not None:
            taken["moved"] = seen.moved()
        if "first_weights" not in seen.states:
            return taken
        weights, hidden = seen.states["first_weights"], batch["hidden"][:, 0]
        x, product = self.every_sign(batch["x"][..., 0], hidden)
        fires = (torch.baddbmm(seen.states["first_bias"][:, None], x, weights) > 0).float()  # (K, N, width)
        known = torch.bmm(fires.mT.contiguous(), x * product[..., None]).abs().mean(1) / x.shape[1]  # (K, n)
        is_hidden = torch.zeros(len(x), self.n_bits, device=x.device).scatter_(1, hidden, 1.0)
        power = weights.square().sum(2)
        return taken | {
            "weight_on_hidden": (power * is_hidden).sum(1) / power.sum(1),
            "fourier_gap": (known * is_hidden).sum(1) / self.k
            - (known * (1.0 - is_hidden)).sum(1) / (self.n_bits - self.k),
        }

    def every_sign(self, x: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Examples `(K, B, n)` once with every sign of their hidden coordinates, and the products of these."""
        import torch

        if self.k <= MOST_SIGNED:
            signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], device=x.device)] * self.k).view(-1, self.k)
            at = hidden[:, None].expand(-1, x.shape[1] * len(signs), -1)
            x = x.repeat_interleave(len(signs), dim=1).scatter(2, at, signs.repeat(x.shape[1], 1).expand_as(at))
        at = hidden[:, None].expand(-1, x.shape[1], -1)
        return x, x.gather(2, at).prod(2)
