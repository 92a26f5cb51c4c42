"""`mosaic`: four pictures in a square; two say *where* the answer is, the others *what* it may be.

One example of the rule `same_class`:

    1 (red)     boot            the indicators 1 and 2 differ, so the label is the class of
    dress       2 (blue)        the picture at the bottom left: dress

| rule | who answers |
|---|---|
| `same_class` | top right where the indicators top left, bottom right are of one class, else bottom left |
| `no_position` | the same, and the two pictures of each row in any order: top target, else bottom target |
| `groups` | as `same_class`, where the lower half of the indicator classes counts as one class, the upper as another |
| `colour` | as `same_class`, where the indicators' colours are compared, and digits answer; all four are red or blue |
| `colour_or_class` | top right always: its class where the indicators agree, else its colour, one of ten |
| `shuffled` | any order; where the indicators agree the picture of `targets` answers, else that of `other_targets` |
| `alignment` | two targets alone: the upper where they stand in one column, else the lower |

Under `no_position` indicators and targets are told apart by what they are: with one set for both, a target of an
indicator's class looks like one, and the declared floor is out of reach.

A model that does not compare the indicators can only say what both targets are: a plateau. Pictures of the training
split recombine afresh at every step; measures hold out the test split, recombined likewise.

Departures from the authors' data: examples are drawn with replacement, and `top_right_probability` other than a half
redraws the second indicator (they bias it in a way of their own).

Source: Hoffmann et al. 2024, Eureka-Moments in Transformers, arXiv 2310.12956.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import model_validator

from workloads.fields import Frozen, per_member, static
from workloads.images import CLASSES, EMBEDDED, Source, images_of
from workloads.tasks.task import Levels, Shapes, not_shown

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from workloads.seen import Seen
    from workloads.tasks.pictures import Parts
    from workloads.tasks.task import Batch

RULES = Literal["same_class", "no_position", "groups", "colour", "colour_or_class", "shuffled", "alignment"]
HELD_OUT = ("held_out_loss", "held_out_accuracy", "held_out_top2_accuracy", "held_out_top5_accuracy")
READ_OUT = ("attention_on_indicators", "attention_on_answer", "attention_on_other")
EARLY = ("early_attention_on_indicators", "early_attention_on_targets")
N_PALETTE = 10


class Mosaic(Frozen):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        rule: who answers; see above.
        indicators: set of the indicators, of which
        indicator_classes: classes 1 … so many are shown (any class where colours are compared).
        targets: set of the targets, of which
        target_classes: the first so many classes are shown.
        other_targets: set of the second target where pictures are `shuffled`.
        cell: side of a cell [pixels].
        channels: 1 is gray: no colours.
        colours: indicators are red or blue, or white.
        colour_noise: standard deviation of the noise on every picture's colour, of 0 … 1.
        top_right_probability: 0.5 leaves indicators as drawn, 1 makes them always agree, 0 never.
        smoothing: of labels, share that is spread over all classes in the loss.
        repeats: every first target is shown so often in a batch, and so many times fewer pictures are ever shown: the
            repeated augmentation that the authors' sampler does (with 3).
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "top2_accuracy", "top5_accuracy")
    MEASURES: ClassVar[tuple[str, ...]] = (*HELD_OUT, *READ_OUT, *EARLY)

    name: Literal["mosaic"] = static("mosaic")
    version: Literal[1] = static(1)
    rule: RULES = static("same_class")
    indicators: Source = static(EMBEDDED)
    indicator_classes: int = static(2, ge=2, le=9)
    targets: Source = static(EMBEDDED)
    target_classes: int = static(10, ge=2, le=CLASSES)
    other_targets: Source = static(EMBEDDED)
    cell: int = static(8, ge=1, le=256)
    channels: Literal[1, 3] = static(3)
    colours: Literal["red_blue", "white"] = static("red_blue")
    colour_noise: float = per_member(0.05, ge=0.0)
    top_right_probability: float = per_member(0.5, ge=0.0, le=1.0)
    smoothing: float = per_member(0.1, ge=0.0, lt=1.0)
    repeats: int = static(1, ge=1)

    @model_validator(mode="after")
    def _rule_has_what_it_needs(self) -> Mosaic:
        if self.rule in ("colour", "colour_or_class") and self.channels == 1:
            raise ValueError(f"channels to be 3, since rule {self.rule} is about colours; got 1")
        if self.rule == "groups" and self.indicator_classes % 2:
            raise ValueError(f"indicator_classes to be even, for two groups of them; got {self.indicator_classes}")
        if self.rule == "shuffled" and self.targets == self.other_targets:
            raise ValueError(
                f"other_targets to be another set than targets, to be told from them; got {self.targets} twice"
            )
        return self

    @property
    def has_red_and_blue(self) -> bool:
        """Whether indicators are coloured."""
        return self.rule == "colour" or (self.colours == "red_blue" and self.channels == 3)

    def shapes(self) -> Shapes:
        """Pixels in reading order, as tokens; models that look at pictures know how to fold them."""
        side = 2 * self.cell
        classes = N_PALETTE if self.rule == "colour_or_class" else self.target_classes
        return Shapes(positions=side**2, features=self.channels, classes=classes, picture=(side, side))

    def require_files(self) -> None:
        """Every set of pictures that is shown is there and whole."""
        targets = {self.targets, self.other_targets} if self.rule == "shuffled" else {self.targets}
        for source in sorted(targets if self.rule == "alignment" else targets | {self.indicators}):
            images_of(source, "train")
            images_of(source, "test")

    def parts(self) -> Parts:
        """Which images are shown."""
        from workloads.tasks.pictures import Parts

        second = self.other_targets if self.rule == "shuffled" else self.targets
        targets = (self.targets, second)
        return Parts(self.indicators, self._kinds(), targets, self.target_classes, self.cell, self.channels)

    def _kinds(self) -> tuple[tuple[int, ...], ...]:
        """Indicator classes, in groups that count as the same."""
        shown = tuple(range(1, self.indicator_classes + 1))
        if self.rule == "groups":
            return shown[: len(shown) // 2], shown[len(shown) // 2 :]
        if self.rule == "colour":
            return (tuple(range(CLASSES)),)
        return () if self.rule == "alignment" else tuple((each,) for each in shown)

    def levels(self) -> Levels:
        """Exact, by going through all pairs of answers that an example offers, with the classes' shares in the files.

        The plateau knows both targets and not which: it says the first with the probability that indicators agree. Of
        accuracies, chance is the best constant answer. Smoothed labels raise every loss above 0: the best prediction
        of a label known for sure spreads `smoothing` over all classes, and the loss is that prediction's entropy.

        Checked by: tests/workloads/tasks/test_mosaic.py (the paper's numbers, and Bayes' answers on samples).
        """
        first, second = self._shares()
        agree = self._agree_probability()
        classes = len(first)
        weight = np.outer(first, second)  # (first target's answer, second target's)
        known = agree * np.eye(classes)[:, None] + (1 - agree) * np.eye(classes)[None]  # (first, second, class)
        label = agree * first + (1 - agree) * second
        return Levels(
            loss_chance=float(np.log(classes)),
            loss_plateau=float((weight * self._entropy(known)).sum()),
            loss_floor=float(self._entropy(np.eye(classes)[0])),
            accuracy_chance=float(label.max()),
            accuracy_plateau=float((weight * known.max(-1)).sum()),
            accuracy_ceiling=1.0,
        )

    def _entropy(self, known: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Least loss where labels have these probabilities (…, classes)."""
        best = (1.0 - self.smoothing) * known + self.smoothing / known.shape[-1]
        found: npt.NDArray[np.float64] = -(best * np.log(np.where(best > 0, best, 1.0))).sum(-1)
        return found

    def _shares(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """How often each class is the first and the second target's."""
        found = []
        for source in self.parts().targets:
            labels = images_of(source, "train").labels
            counts = np.bincount(labels[labels < self.target_classes], minlength=self.shapes().classes)
            found.append(counts / counts.sum())
        if self.rule == "colour_or_class":
            found[1] = np.full(N_PALETTE, 1 / N_PALETTE)
        return found[0], found[1]

    def _agree_probability(self) -> float:
        """How often the first target answers."""
        given = self.top_right_probability
        if self.rule == "alignment":
            return given
        if self.rule == "colour":
            free = 0.5
        else:
            labels = images_of(self.indicators, "train").labels
            counts = np.array([np.isin(labels, kind).sum() for kind in self._kinds()])
            free = float(np.square(counts / counts.sum()).sum())
        bias = abs(2 * given - 1)
        return (1 - bias) * free + bias * (given > 0.5)

    def world(self, rng: torch.Generator) -> Batch:
        """Nothing of its own: pictures are shared by all runs."""
        return {}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """What each cell shows `image (S, B, 4)`, how `colour (S, B, 4, C)`, what it is, `role (S, B, 4)`; labels `y`.

        `held_out_…` are the same from the test split; `smoothing (S, B)` goes with the labels `(S, B)`.
        """
        import torch

        from workloads.tasks.mosaic_draws import draw
        from workloads.tasks.pictures import pool_of

        trained, held_out = (
            draw(self, pool_of(self.parts(), split, rng.device), rng, shape=(steps, batch))
            for split in ("train", "test")
        )
        smoothing = torch.full((steps, batch), self.smoothing, device=rng.device)
        return trained | {"smoothing": smoothing} | {f"held_out_{name}": values for name, values in held_out.items()}

    def compose(self, batch: Batch) -> Batch:
        """A step's data with its pixels `x (…, B, 4·cell², C)`."""
        return batch | {"x": self._pixels(batch["image"], batch["colour"], "train")}

    def _pixels(self, image: torch.Tensor, colour: torch.Tensor, split: Literal["train", "test"]) -> torch.Tensor:
        from workloads.tasks.pictures import mosaic, pool_of

        return mosaic(pool_of(self.parts(), split, image.device).pixels, image, colour)

    def probe_examples(self, batch: Batch, split: Literal["train", "test"]) -> tuple[torch.Tensor, Batch]:
        """Pixels `(…, B, 4·cell², C)` of a split's examples in a batch, and what probes are asked of them."""
        from workloads.tasks.mosaic_targets import targets

        own = (
            batch
            if split == "train"
            else {name: batch[f"held_out_{name}"] for name in ("image", "colour", "role", "y")}
        )
        return self._pixels(own["image"], own["colour"], split), targets(self, own, split)

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """Cross-entropy with smoothed labels [nats], how often the label is among the best 1, 2, 5 [fraction]."""
        from workloads.scores import accuracy, smoothed_cross_entropy, top_accuracy

        y = batch["y"]
        return {
            "loss": smoothed_cross_entropy(output, y, batch["smoothing"]),
            "accuracy": accuracy(output, y),
            "top2_accuracy": top_accuracy(output, y, best=2),
            "top5_accuracy": top_accuracy(output, y, best=5),
        }

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """Held-out loss (labels as they are) and accuracies, and where attention rests.

        `attention_on_…` is the read-out token's in the last layer; `early_…` that of all tokens in the layers before.
        Both are shares of all attention [fraction], heads averaged; what is missing to 1 is on the read-out token.
        """
        from workloads.tasks.regions import masses, regions

        seen.regions = regions(batch)
        return self._held_out(seen, batch) | masses(seen, batch, names=(*READ_OUT, *EARLY))

    def _held_out(self, seen: Seen, batch: Batch) -> Batch:
        from workloads.scores import accuracy, cross_entropy, top_accuracy

        if seen.again is None:
            return not_shown(HELD_OUT, batch)
        answers, y = (
            seen.again(self._pixels(batch["held_out_image"], batch["held_out_colour"], "test")),
            batch["held_out_y"],
        )
        tops = (top_accuracy(answers, y, best=best) for best in (2, 5))
        found = (cross_entropy(answers, y), accuracy(answers, y), *tops)
        return dict(zip(HELD_OUT, found, strict=True))
