"""`relevant_token`: the answer is a linear map of one token among many; where it stands must be found out.

One example with `tokens=4, dim=2, repeats=1`, at the last place and at a random one (its last feature is then 1):

    place last     [ .3 -.9] [ .7  .1] [-.2  .4] [ .5  .6]          answer: W* (.5, .6)
    place random   [ .3 -.9  0] [ .7  .1  1] [-.2  .4  0] …         answer: W* (.7, .1)

Token features are normal with variance 1/dim, and W* is a random matrix of the data seed whose squares add up to dim,
so that half the squared error starts at exactly 0.5. Attention spread over all tokens sees almost nothing of the
relevant one, and while W is small nothing tells attention where to look: hence the plateau, whose length is a power law
in `tokens`, `dim` and `repeats`. The paper reads it off where the loss has fallen to a fifth of its first value.

Source: Zucchet et al. 2025, The emergence of sparse attention, arXiv 2505.17863. `repeats` puts the relevant token at
so many places; that they are the last ones (or marked ones) is our reading of its repetition within a context.
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


class RelevantToken(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        tokens: tokens T of an example.
        dim: features d of a token, and floats of an answer.
        repeats: places B that carry the relevant token.
        place: where it is: the last places of every example, or random ones that a further feature marks.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    MEASURES: ClassVar[tuple[str, ...]] = ("attention_on_relevant",)

    name: Literal["relevant_token"] = static("relevant_token")
    version: Literal[1] = static(1)
    tokens: int = static(16, ge=1)
    dim: int = static(8, ge=1)
    repeats: int = static(1, ge=1)
    place: Literal["last", "random"] = static("last")

    @model_validator(mode="after")
    def _repeats_fit(self) -> RelevantToken:
        if self.repeats > self.tokens:
            raise ValueError(f"repeats of at most tokens; got {self.repeats} of {self.tokens}")
        return self

    def shapes(self) -> Shapes:
        """Tokens of floats; the answer is `dim` floats."""
        return Shapes(positions=self.tokens, features=self.dim + (self.place == "random"), classes=self.dim)

    def levels(self) -> Levels:
        """Exact: nothing is known until everything is. Accuracy is the share of the answers' squares explained."""
        return Levels(
            loss_chance=0.5,
            loss_plateau=0.5,
            loss_floor=0.0,
            accuracy_chance=0.0,
            accuracy_plateau=0.0,
            accuracy_ceiling=1.0,
        )

    def world(self, rng: torch.Generator) -> Batch:
        """The map `wanted (dim, dim)` of the data seed."""
        import torch

        wanted = torch.randn(self.dim, self.dim, generator=rng, device=rng.device)
        return {"wanted": wanted * (self.dim**0.5 / wanted.norm())}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Tokens `x (S, B, T, F)`, answers `y (S, B, dim)`, and which places are `relevant (S, B, T)`."""
        import torch

        x = torch.randn(steps, batch, self.tokens, self.dim, generator=rng, device=rng.device).mul_(self.dim**-0.5)
        token = x[:, :, -1:].clone()
        relevant = torch.zeros(x.shape[:3], dtype=torch.bool, device=rng.device)
        if self.place == "last":
            relevant[:, :, self.tokens - self.repeats :] = True
            x[:, :, self.tokens - self.repeats :] = token
        else:
            order = torch.rand(x.shape[:3], generator=rng, device=rng.device).argsort(-1)
            relevant.scatter_(2, order[:, :, : self.repeats], True)
            x = torch.where(relevant[..., None], token, x)
            x = torch.cat([x, relevant[..., None].float()], dim=3)
        return {"x": x, "y": token[:, :, 0] @ world["wanted"], "relevant": relevant}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Half the squared error, and the share of the answers' squares that it leaves explained [fraction]."""
        from workloads.scores import squared_error

        loss = squared_error(output, batch["y"])
        return {"loss": loss, "accuracy": 1.0 - 2.0 * loss / batch["y"].square().sum(-1).mean(1)}

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """Share of the read-out's attention on the relevant places, in the layer and head that has most [fraction]."""
        if not seen.attention:
            return not_shown(self.MEASURES, batch)
        relevant = batch["relevant"][:, :, None].float()
        found = [(maps[..., 0, -self.tokens :] * relevant).sum(3).mean(1) for maps in seen.attention]  # (K, H) each
        return {"attention_on_relevant": of_the_best_head(found)}
