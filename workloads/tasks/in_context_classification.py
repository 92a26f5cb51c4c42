"""`in_context_classification`: items and their labels are read, then an item alone; say its label.

One example with `pairs=4, burstiness=2`: two classes, each shown twice, and a new item of the second:

    position   0   1   2   3   4   5   6   7   8
    reads      a1  L3  b1  L7  b2  L7  a2  L3  b3       answer: 7

The same answer can come from the context, by an induction head, or from the weights, which can learn the label of each
of the `classes`. What the data are like decides which: many classes, shown in bursts, or new ones in some examples
(`p_novel`) call for the context; examples whose query has nothing to do with the context (1 - `p_bursty` of the rest)
for the weights. On the plateau a model names any label of the context: with two classes in it, which known ones may
have the same label, and new ones may not,

>>> known, new = (InContextClassification(p_novel=share).levels().loss_plateau for share in (0.0, 1.0))
>>> round(known, 2), round(new, 2)
(0.67, 0.69)

Source: Reddy 2024, The mechanistic basis of data dependence and abrupt learning in an in-context classification task,
arXiv 2312.03002. That novel classes have labels of their own within an example is ours. There a one-hot position stands
beside each token's features; here the model knows positions in its own way.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from workloads.fields import per_member, static
from workloads.tasks.queried import Queried
from workloads.tasks.task import Levels, Shapes, of_the_best_head

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.tasks.task import Batch

CONTEXTS = 1 << 14  # that levels are averaged over


class InContextClassification(Queried):
    """Parameters of the task.

    Attributes:
        version: raised when the meaning of the data changes.
        pairs: items with labels N in a context.
        classes: known classes K, each with one of the labels.
        labels: L.
        features: width of a token D [floats].
        burstiness: items B of each class in a bursty context.
        p_bursty: share of bursty contexts, one of whose classes is asked for, among examples of known classes; in the
            others every item, and the one asked for, is any [fraction].
        p_novel: share of examples, all bursty, whose classes and labels are made for them alone [fraction].
        zipf: class i is drawn in proportion to i to the power of -zipf.
        noise: of an item around its class, in units of the class vector's length.
    """

    MEASURES: ClassVar[tuple[str, ...]] = (
        "answers_from_context",
        "in_context_accuracy",
        "in_weights_accuracy",
        "item_label_attention",
        "target_item_attention",
        "target_label_attention",
    )

    name: Literal["in_context_classification"] = static("in_context_classification")
    version: Literal[1] = static(1)
    pairs: int = static(8, ge=2, le=64)
    classes: int = static(512, ge=2, le=8192)
    labels: int = static(32, ge=2, le=1024)
    features: int = static(63, ge=2)
    burstiness: int = static(4, ge=1)
    p_bursty: float = per_member(1.0, ge=0.0, le=1.0)
    p_novel: float = per_member(0.0, ge=0.0, le=1.0)
    zipf: float = per_member(0.0, ge=0.0)
    noise: float = per_member(0.1, ge=0.0)

    @model_validator(mode="after")
    def _contexts_are_possible(self) -> InContextClassification:
        if self.pairs % self.burstiness or self.shown < 2:
            raise ValueError(f"burstiness to divide pairs, at least twice; got {self.burstiness} and {self.pairs}")
        if not self.shown <= self.labels <= self.classes:
            raise ValueError(
                f"labels between pairs / burstiness and classes; got {self.shown}, {self.labels}, {self.classes}"
            )
        return self

    @property
    def shown(self) -> int:
        """Different classes in a bursty context."""
        return self.pairs // self.burstiness

    def shapes(self) -> Shapes:
        """Items and labels in turn, then the query, whose answer alone counts."""
        return Shapes(positions=2 * self.pairs + 1, features=self.features, classes=self.labels, answers="position")

    def levels(self) -> Levels:
        """The plateau knows the context's labels, and how often the answer is one of them: not whose they are.

        It answers p·(shares of the labels in the context) + (1-p)·(shares of labels in all), p the share of bursty
        examples; its levels are means over contexts drawn with a fixed seed, with a standard error below 1 %. The floor
        takes for granted that items can be told apart despite the noise.

        Checked by: test_in_context_classification.py::test_plateau_is_that_of_all_contexts_counted_one_by_one
        """
        p_context = self.p_novel + (1.0 - self.p_novel) * self.p_bursty
        loss, accuracy = _plateau(
            classes=self.classes,
            labels=self.labels,
            shown=self.shown,
            pairs=self.pairs,
            zipf=self.zipf,
            p_novel=self.p_novel,
            p_context=p_context,
        )
        return Levels(
            loss_chance=math.log(self.labels),
            loss_plateau=min(loss, math.log(self.labels)),
            loss_floor=0.0,
            accuracy_chance=1 / self.labels,
            accuracy_plateau=max(accuracy, 1 / self.labels),
            accuracy_ceiling=1.0,
        )

    def world(self, rng: torch.Generator) -> Batch:
        """Vectors of `items (K, D)` and `labels (L, D)`, of length 1 on average; the label of each class `label_of`."""
        import torch

        vectors = torch.randn(self.classes + self.labels, self.features, generator=rng, device=rng.device)
        vectors *= self.features**-0.5
        label_of = torch.randperm(self.classes, generator=rng, device=rng.device) % self.labels
        return {"items": vectors[: self.classes], "labels": vectors[self.classes :], "label_of": label_of}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Tokens `x (S, B, 2N+1, D)`, the answer at each position `y (S, B, 2N+1)`, labels of the context `labels` and
        which pairs are of the query's class `same (S, B, N)`, and whether classes are `novel (S, B)`.
        """
        import torch

        size, device = (steps, batch), rng.device
        kind = torch.rand(2, *size, 1, generator=rng, device=device)
        novel = kind[0] < self.p_novel
        bursty = novel | (kind[1] < self.p_bursty)
        chances = torch.arange(1, self.classes + 1, device=device, dtype=torch.float32) ** -self.zipf
        waits = torch.empty(*size, self.classes, device=device).exponential_(generator=rng) / chances
        few = waits.topk(self.shown, largest=False).indices  # the first to come: draws without replacement
        slot = torch.rand(*size, self.pairs, generator=rng, device=device).argsort(-1) % self.shown
        slot = torch.cat([slot, torch.randint(self.shown, (*size, 1), generator=rng, device=device)], dim=2)
        drawn = torch.multinomial(chances, steps * batch * (self.pairs + 1), replacement=True, generator=rng)
        known = torch.where(bursty, few.gather(2, slot), drawn.view(*size, self.pairs + 1))
        made = torch.randn(*size, self.shown, self.features, generator=rng, device=device) * self.features**-0.5
        own = torch.rand(*size, self.labels, generator=rng, device=device).argsort(-1)[..., : self.shown]

        wide = slot[..., None].expand(-1, -1, -1, self.features)
        items = torch.where(novel[..., None], made.gather(2, wide), world["items"][known])
        noise = torch.randn(items.shape, generator=rng, device=device) * (self.noise * self.features**-0.5)
        labels = torch.where(novel, own.gather(2, slot), world["label_of"][known])
        x = torch.empty(*size, 2 * self.pairs + 1, self.features, device=device)
        x[..., 0::2, :] = (items + noise) / math.sqrt(1.0 + self.noise**2)
        x[..., 1::2, :] = world["labels"][labels[..., :-1]]
        of = torch.where(bursty, slot, known)
        return {
            "x": x,
            "y": labels[..., -1:].expand(-1, -1, 2 * self.pairs + 1),
            "labels": labels[..., :-1].contiguous(),
            "same": of[..., :-1] == of[..., -1:],
            "novel": novel[..., 0],
        }

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """Where answers come from [fractions].

        answers_from_context: share of answers that are a label of the context (Reddy's CLA).
        in_context_accuracy: where the query's class is in the context, and all items' features are moved by one, which
            makes classes that no run has seen.
        in_weights_accuracy: of known classes, asked for behind the context of another example.
        item_label_attention: of the labels' attention, on the item before (ILA).
        target_item_attention, target_label_attention: of the query's attention, on the items of its class, and on
            their labels (TILA), where there are any; each of the layer and head that has most.
        """
        assert seen.again is not None
        x, label, same = batch["x"], batch["y"][..., -1], batch["same"].float()
        there = same.amax(-1)
        moved, elsewhere = x.clone(), x.roll(1, dims=1)
        moved[..., 0::2, :] = x[..., 0::2, :].roll(1, dims=-1)
        elsewhere[..., -1, :] = x[..., -1, :]

        def right(tokens: torch.Tensor) -> torch.Tensor:
            assert seen.again is not None
            return (seen.again(tokens)[..., -1, :].argmax(-1) == label).float()

        def on(places: slice) -> list[torch.Tensor]:
            found = [(maps[..., -1, places] * same[:, :, None]).sum(3) for maps in seen.attention]  # (K, B, H) each
            return [share_of(share.mT, there[:, None]) for share in found]

        back = [maps.diagonal(offset=-1, dim1=-2, dim2=-1)[..., 0::2].mean((1, 3)) for maps in seen.attention]
        return {
            "answers_from_context": self.share_from_context(seen, batch, batch["labels"]),
            "in_context_accuracy": share_of(right(moved), there),
            "in_weights_accuracy": share_of(right(elsewhere), 1.0 - batch["novel"].float()),
            "item_label_attention": of_the_best_head(back),
            "target_item_attention": of_the_best_head(on(slice(0, -1, 2))),
            "target_label_attention": of_the_best_head(on(slice(1, None, 2))),
        }


def share_of(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Mean over the examples that count, marked by 1: `(…, B)`, the same, to `(…)`; nothing is 0."""
    return (values * counts).sum(-1) / counts.sum(-1).clamp_min(1.0)


@functools.lru_cache(maxsize=64)
def _plateau(
    *, classes: int, labels: int, shown: int, pairs: int, zipf: float, p_novel: float, p_context: float
) -> tuple[float, float]:
    """Loss [nats] and accuracy [fraction] of the plateau that `levels` describes."""
    import numpy as np

    rng = np.random.default_rng(0)
    chances = np.arange(1, classes + 1) ** -zipf
    chances = chances / chances.sum()
    left = CONTEXTS
    total = np.zeros(2)
    while left:
        n = min(left, max(1, (1 << 22) // classes))
        left -= n
        label_of = rng.permutation(classes) % labels
        of_all = np.bincount(label_of, weights=chances, minlength=labels)
        first = np.argpartition(rng.exponential(size=(n, classes)) / chances, shown - 1, axis=1)[:, :shown]
        anew = rng.random((n, labels)).argsort(1)[:, :shown]
        iid = rng.choice(classes, (n, pairs), p=chances)
        kinds = (
            (p_novel, anew, True),
            (p_context - p_novel, label_of[first], True),
            (1.0 - p_context, label_of[iid], False),
        )
        for share, context, holds_answer in kinds:
            if share <= 0.0:
                continue
            held = np.zeros((n, labels))
            np.add.at(held, (np.arange(n)[:, None], context), 1.0 / context.shape[1])
            answer = p_context * held + (1.0 - p_context) * of_all
            truth = held if holds_answer else np.broadcast_to(of_all, held.shape)
            loss = -np.where(truth > 0, truth * np.log(np.where(truth > 0, answer, 1.0)), 0.0).sum(1)
            best = np.take_along_axis(truth, answer.argmax(1)[:, None], 1)
            total += share * np.array([loss.sum(), best.sum()]) / CONTEXTS
    return float(total[0]), float(total[1])
