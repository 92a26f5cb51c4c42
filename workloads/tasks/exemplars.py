"""`exemplars`: two labelled exemplars are shown, then one of them again; say its label.

One example (exemplars are prototypes of the data seed, labels are dealt anew for every example):

    position   0      1      2      3      4
    reads    [cat]  label  [owl]  label  [owl]      answer: 1
                      4             1

Whoever knows that the answer is one of the labels seen, but not whose, is right every other time: the plateau. What
ends it is an induction head: one layer that looks from a label to the exemplar before it, and one that looks from the
query to the label behind its like. `model.clamp: previous_token` gives the model a head of the first kind.

Source: Singh et al. 2024, What needs to go right for an induction head?, arXiv 2404.07129. Their exemplars are features
of Omniglot's images, ours normal vectors; they hold out some pairs of labels, we none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.fields import static
from workloads.tasks.queried import Queried
from workloads.tasks.task import Levels, Shapes, of_the_best_head

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch


class Exemplars(Queried):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        n_classes: exemplars that there are.
        n_labels: labels that there are.
        features: width of an exemplar [floats].
    """

    MEASURES: ClassVar[tuple[str, ...]] = ("answers_from_context", "attention_on_label", "attention_back")

    name: Literal["exemplars"] = static("exemplars")
    version: Literal[1] = static(1)
    n_classes: int = static(50, ge=2)
    n_labels: int = static(5, ge=2)
    features: int = static(64, ge=1)

    def shapes(self) -> Shapes:
        """A token holds an exemplar, or a label behind as many zeros; the last position's answer alone counts."""
        return Shapes(positions=5, features=self.features + self.n_labels, classes=self.n_labels, answers="position")

    def levels(self) -> Levels:
        """Exact; the plateau knows both labels and not whose they are."""
        return Levels(
            loss_chance=math.log(self.n_labels),
            loss_plateau=min(math.log(2), math.log(self.n_labels)),
            loss_floor=0.0,
            accuracy_chance=1 / self.n_labels,
            accuracy_plateau=1 / 2,
            accuracy_ceiling=1.0,
        )

    def world(self, rng: torch.Generator) -> Batch:
        """The exemplars `(n_classes, features)`, normal, of length 1 on average."""
        import torch

        exemplars = torch.randn(self.n_classes, self.features, generator=rng, device=rng.device)
        return {"exemplars": exemplars * self.features**-0.5}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Tokens `x (S, B, 5, F)`; `y (S, B, 5)`, the answer at each position; `labels` and which is `asked (S, B)`."""
        import torch
        import torch.nn.functional as F

        classes = torch.rand(steps, batch, self.n_classes, generator=rng, device=rng.device).argsort(-1)[..., :2]
        labels = torch.rand(steps, batch, self.n_labels, generator=rng, device=rng.device).argsort(-1)[..., :2]
        asked = torch.randint(2, (steps, batch, 1), generator=rng, device=rng.device)
        x = torch.zeros(steps, batch, 5, self.features + self.n_labels, device=rng.device)
        x[..., 0:4:2, : self.features] = world["exemplars"][classes]
        x[..., 4, : self.features] = world["exemplars"][classes.gather(2, asked)[..., 0]]
        x[..., 1:4:2, self.features :] = F.one_hot(labels, self.n_labels).float()
        return {"x": x, "y": labels.gather(2, asked).expand(-1, -1, 5), "labels": labels, "asked": asked[..., 0]}

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """What induction is made of [fractions].

        answers_from_context: share of answers that are one of the two labels.
        attention_on_label: of the query's attention, on the right label.
        attention_back: of the labels' attention, on the exemplar before; both of the layer and head that has most.
        """
        back = [(maps[..., 1, 0] + maps[..., 3, 2]) / 2.0 for maps in seen.attention]
        return {
            "answers_from_context": self.share_from_context(seen, batch, batch["labels"]),
            "attention_on_label": self.attention_on_answer(seen, batch),
            "attention_back": of_the_best_head([share.mean(1) for share in back]),
        }
