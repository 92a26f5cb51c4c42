"""`two_step`: find out *where* to look, then say *what* is there.

One example with `n_targets=4, n_classes=4` (targets are prototypes of a class plus noise):

    position   0      1     2     3     4
    token    [→ 3]  [ c ] [ a ] [ b ] [ a ]        label: b, the class of target 3
            where    what  what  what  what

A model that ignores the indicator can only answer with the classes that are present, so it
sits on a plateau; the eureka-moment is the step that ties the answer to the indicated place.
The task is the token-level core of the two-step decision of Hoffmann et al. 2024 (arXiv 2310.12956).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from workloads.fields import Frozen, per_member, static
from workloads.tasks.task import Levels, Shapes

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch


class TwoStep(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        n_targets: targets in a sequence, and indicator prototypes.
        n_classes: classes of targets.
        features: width of a token [floats].
        noise: standard deviation of the noise on every target feature; prototypes have 1.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    MEASURES: ClassVar[tuple[str, ...]] = ("attention_on_target",)

    name: Literal["two_step"] = static("two_step")
    version: Literal[1] = static(1)
    n_targets: int = static(4, ge=2, le=64)
    n_classes: int = static(4, ge=2, le=1024)
    features: int = static(32, ge=1)
    noise: float = per_member(0.5, ge=0.0)

    def shapes(self) -> Shapes:
        """The indicator and the targets."""
        return Shapes(positions=self.n_targets + 1, features=self.features, classes=self.n_classes)

    def levels(self) -> Levels:
        """Exact levels for prototypes that the noise leaves distinguishable.

        Without the indicator the posterior of the label is the histogram of the classes
        present, so the plateau is the mean entropy of that histogram over the multinomial
        law of its counts (each count is binomial), and the plateau's accuracy the mean share of
        its largest count.

        Checked by: tests/workloads/tasks/test_two_step.py (enumeration, and Bayes' answer on noisy samples).
        """
        t, c = self.n_targets, self.n_classes
        shares = [n / t for n in range(1, t + 1)]
        law = [math.comb(t, n) * (1 / c) ** n * (1 - 1 / c) ** (t - n) for n in range(1, t + 1)]
        entropy = -c * sum(p * share * math.log(share) for p, share in zip(law, shares, strict=True))
        best = sum(1 - _chance_no_count_above(m, draws=t, classes=c) for m in range(t)) / t
        return Levels(
            loss_chance=math.log(c),
            loss_plateau=entropy,
            loss_floor=0.0,
            accuracy_chance=1 / c,
            accuracy_plateau=best,
            accuracy_ceiling=1.0,
        )

    def world(self, rng: torch.Generator) -> Batch:
        """Prototypes of the data seed: `indicators (n_targets, F)`, `classes (n_classes, F)`, unit normal."""
        import torch

        rows = self.n_targets + self.n_classes
        prototypes = torch.randn(rows, self.features, generator=rng, device=rng.device)
        return {"indicators": prototypes[: self.n_targets], "classes": prototypes[self.n_targets :]}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """`x (S, B, 1+T, F)`, labels `y (S, B)`, indicated target `where (S, B)` in 0…T-1."""
        import torch

        t = self.n_targets
        where = torch.randint(t, (steps, batch), generator=rng, device=rng.device)
        what = torch.randint(self.n_classes, (steps, batch, t), generator=rng, device=rng.device)
        x = torch.randn(steps, batch, 1 + t, self.features, generator=rng, device=rng.device)
        x[:, :, 1:].mul_(self.noise).add_(world["classes"][what])
        x[:, :, 0] = world["indicators"][where]
        y = what.gather(2, where[..., None])[..., 0]
        return {"x": x, "y": y, "where": where}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Cross-entropy [nats] and accuracy [fraction]."""
        from workloads.scores import accuracy, cross_entropy

        return {"loss": cross_entropy(output, batch["y"]), "accuracy": accuracy(output, batch["y"])}

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """Share of the read-out token's last-layer attention that rests on the indicated target [fraction]."""
        from_read_out = seen.attention[-1][..., 0, :].mean(dim=2)  # (K, B, T), heads averaged
        target = batch["where"] + 2  # behind the read-out token and the indicator
        return {"attention_on_target": from_read_out.gather(2, target[..., None])[..., 0].mean(dim=1)}


def _chance_no_count_above(most: int, *, draws: int, classes: int) -> float:
    """P(every count <= most) for uniform draws: counts are Poisson variables given their sum."""
    mean = draws / classes
    law = np.array([math.exp(-mean + n * math.log(mean) - math.lgamma(n + 1)) for n in range(most + 1)])
    joint = np.ones(1)
    for bit in bin(classes)[2:]:
        joint = np.convolve(joint, joint)[: draws + 1]
        if bit == "1":
            joint = np.convolve(joint, law)[: draws + 1]
    total = math.exp(-draws + draws * math.log(draws) - math.lgamma(draws + 1))
    return float(joint[draws] / total) if joint.size > draws else 0.0
