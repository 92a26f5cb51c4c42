"""Probes of classes: what a linear map, or a small network, reads from the heads of each layer about an example."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from workloads.probing.intervention import Intervention

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workloads.probing.bench import Bench, Reading
    from workloads.spec import RunSpec
    from workloads.tasks.task import Batch

PENALTY = 1e-3  # on the squares of a probe's weights, in mean losses; features have variance 1
SMALLEST_SPREAD = 1e-6  # a number that varies less says nothing
PORTION = r"(0\.\d+|1)"
FEWEST = 8  # examples that a probe can be fitted on
ROUNDS, RATE = 200, 0.05  # of Adam on all examples at once, its rate falling to 0


class ClassProbe(Intervention):
    """A classifier from what a layer holds of an example to each of the task's targets.

    It is fitted on some examples and judged on others, of held-out pictures where the task has them
    (`probe_examples`); other tasks are asked for their label alone. Readings, for each target as item: `accuracy`
    [fraction], `loss` [nats], and `guess`, the accuracy of saying what was most frequent.

    Attributes:
        of: `z`, what each head writes; its queries `q`, keys `k`, values `v`; or the residual stream `x` that a layer
            reads, which has no heads.
        tokens: all of an example's side by side, or the read-out token alone.
        hidden: neurons between the two; 0 is a linear probe.
        train_examples: what it is fitted on.
        portions: parts of `train_examples`, such as `0.1 0.25 0.5 1`, for two readings more: `code_length`, what it
            costs to tell the targets of the last part, the first portion as if all classes were as likely, and each
            further one by a probe that is fitted on those before; and `even_code`, if all were told like the first
            [nats an example]. What is easily read has a short code, also where few examples are known.

    Source: Hoffmann et al. 2024, arXiv 2310.12956 (linear, or 10 hidden neurons; six targets; parts of the examples);
    Voita and Titov 2020, arXiv 2003.12298 (online codes).
    Checked by: test_class_probes.py::test_probes_find_what_was_planted_and_nothing_else,
        test_a_code_is_the_sum_of_what_each_portion_costs
    """

    name: Literal["class_probe"] = "class_probe"
    of: Literal["z", "q", "k", "v", "x"] = "z"
    tokens: Literal["all", "read_out"] = "all"
    hidden: int = Field(0, ge=0)
    train_examples: int = Field(2048, ge=2)
    portions: str = Field("", pattern=rf"^({PORTION}( {PORTION})+)?$")

    @model_validator(mode="after")
    def _portions_grow(self) -> ClassProbe:
        ends = self.ends
        if ends and (ends[0] < FEWEST or ends[-1] > self.train_examples or any(a >= b for a, b in pairwise(ends))):
            wanted = f"portions that grow to at most 1, the first of {FEWEST} examples or more"
            raise ValueError(f"{wanted}; got '{self.portions}' of {self.train_examples} examples")
        return self

    @property
    def ends(self) -> list[int]:
        """Where portions end [examples]."""
        return [round(float(part) * self.train_examples) for part in self.portions.split()]

    def unfit(self, spec: RunSpec, model: nn.Module) -> str:
        """Blocks with attention behind a read-out token."""
        if not hasattr(model, "blocks") or not hasattr(model.blocks[0], "attention"):  # type: ignore[index]
            return f"a model of blocks with attention; got {spec.model.name}"
        if spec.task.shapes().answers != "example" or not hasattr(model, "read_out"):
            return f"a task that is answered once an example; got {spec.task.name}"
        return ""

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """Layer by layer, head by head, target by target."""
        import torch

        from workloads.probing.bench import Reading

        taught = bench.drawn("probe training", examples=self.train_examples)
        fit_pixels, fit_targets = shown(bench, taught, "train")
        pixels, wanted = shown(bench, bench.batch, "test")
        labels, held_out = (torch.stack(list(each.values()), dim=1) for each in (fit_targets, wanted))  # (K, items, N)
        layers = zip(self._features(bench, fit_pixels), self._features(bench, pixels), strict=True)
        for layer, (xs, xt) in enumerate(layers):  # (K, N, H, features)
            each = [judged(*of_one, hidden=self.hidden) for of_one in zip(xs, labels, xt, held_out, strict=True)]
            if self.ends:
                codes = [coded(*of_one, ends=self.ends, hidden=self.hidden) for of_one in zip(xs, labels, strict=True)]
                each = [found | code for found, code in zip(each, codes, strict=True)]
            for metric, head in product(each[0], range(xs.shape[2])):
                values = torch.stack([found[metric][head] for found in each])  # (K, items)
                for item, of_item in zip(wanted, values.unbind(1), strict=True):
                    where = {"layer": layer, "head": None if self.of == "x" else head}
                    yield Reading(metric=metric, values=of_item, item=item, **where)

    def _features(self, bench: Bench, x: torch.Tensor) -> list[torch.Tensor]:
        """Of each layer `(K, N, H, tokens · numbers)`; H is 1 of the residual stream."""
        from workloads.models.sensitivity import heads_of, read_by

        model = bench.model
        if self.of == "x":
            parts = [state.permute(0, 2, 1, 3)[:, :, None] for state in read_by(model, model.blocks, x, bench.controls)]
        else:
            attentions = [block.attention for block in model.blocks]
            inputs = read_by(model, attentions, x, bench.controls)
            heads = [
                heads_of(each, read, bench.controls["multiplier"])[self.of]
                for each, read in zip(attentions, inputs, strict=True)
            ]
            parts = heads  # (K, B, H, T, d)
        return [
            (part if self.tokens == "all" else part[..., :1, :]).flatten(3) for part in parts
        ]  # (K, N, H, features)


def shown(bench: Bench, batch: Batch, split: Literal["train", "test"]) -> tuple[torch.Tensor, Batch]:
    """What is read, and the classes that probes are asked for `(K, B)`."""
    if hasattr(bench.spec.task, "probe_examples"):
        found: tuple[torch.Tensor, Batch] = bench.spec.task.probe_examples(batch, split)
        return found
    return batch["x"], {"label": batch["y"]}


def judged(
    x: torch.Tensor, labels: torch.Tensor, x_test: torch.Tensor, wanted: torch.Tensor, *, hidden: int
) -> dict[str, torch.Tensor]:
    """Readings of one snapshot's probes, for each head and item `(H, items)`.

    Args:
        x: features that they are fitted on `(N, H, features)`.
        labels: classes of these `(items, N)`.
        x_test: features that they are judged by.
        wanted: classes of those.
        hidden: neurons.
    """
    import torch

    heads, classes = x.shape[1], int(max(labels.max(), wanted.max())) + 1
    labels, wanted = (each[None].expand(heads, -1, -1) for each in (labels, wanted))
    probes = fitted(x.transpose(0, 1), labels, classes=classes, hidden=hidden)
    scores = probes(x_test.transpose(0, 1))  # (H, items, N, classes)
    guess = torch.nn.functional.one_hot(labels).sum(2).argmax(-1, keepdim=True)  # (H, items, 1)
    loss = torch.nn.functional.cross_entropy(scores.movedim(3, 1), wanted, reduction="none").mean(2)
    return {
        "accuracy": (scores.argmax(3) == wanted).double().mean(2),
        "loss": loss.double(),
        "guess": (wanted == guess).double().mean(2),
    }


def coded(x: torch.Tensor, labels: torch.Tensor, *, ends: list[int], hidden: int) -> dict[str, torch.Tensor]:
    """Online codes of one snapshot's targets [nats an example], for each head and item `(H, items)`.

    Args:
        x: features `(N, H, features)`.
        labels: classes `(items, N)`.
        ends: where portions end [examples].
        hidden: neurons.
    """
    import torch

    kinds = torch.tensor([float(len(own.unique())) for own in labels[:, : ends[-1]]], dtype=torch.float64)
    even = kinds.log().expand(x.shape[1], -1)
    total = even * ends[0]
    for known, end in pairwise(ends):
        new = slice(known, end)
        found = judged(x[:known], labels[:, :known], x[new], labels[:, new], hidden=hidden)
        total = total + found["loss"] * (end - known)
    return {"code_length": total / ends[-1], "even_code": even}


def fitted(
    x: torch.Tensor, labels: torch.Tensor, *, classes: int, hidden: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The probes of least penalised cross-entropy: features `(S, M, F)` to scores of classes `(S, items, M, classes)`.

    Each of the S sets, and each item, has a probe of its own; they are fitted together and share nothing. Without
    hidden neurons a fit has one solution, which Adam comes close to.

    Args:
        x: features `(S, N, F)`; they are brought to mean 0 and variance 1.
        labels: classes `(S, items, N)`.
        classes: how many there are at most.
        hidden: neurons; 0 is a linear map.

    Source: Kingma and Ba 2015, arXiv 1412.6980.
    """
    import torch

    mean, spread = x.mean(1, keepdim=True), x.std(1, keepdim=True)
    scale = torch.where(spread > SMALLEST_SPREAD, 1.0 / spread.clamp_min(SMALLEST_SPREAD), 0.0)
    sets, items, features = len(x), labels.shape[1], x.shape[2]
    rng = torch.Generator().manual_seed(0)
    sizes = [features, hidden, classes] if hidden else [features, classes]
    weights, shifts = [], []
    for a, b in pairwise(sizes):
        first = torch.randn(1, items, a, b, generator=rng) / math.sqrt(a) if hidden else torch.zeros(1, items, a, b)
        weights.append(first.repeat(sets, 1, 1, 1).requires_grad_())
        shifts.append(torch.zeros(sets, items, 1, b, requires_grad=True))

    def scores(x: torch.Tensor) -> torch.Tensor:
        h = ((x - mean) * scale)[:, None]  # (S, 1, M, F)
        for at, (weight, shift) in enumerate(zip(weights, shifts, strict=True)):
            h = (h.relu() if at else h) @ weight + shift
        return h

    method = torch.optim.Adam([*weights, *shifts], lr=RATE)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(method, ROUNDS)
    with torch.enable_grad():
        for _ in range(ROUNDS):
            loss = torch.nn.functional.cross_entropy(scores(x).movedim(3, 1), labels, reduction="none").mean(2).sum()
            penalty = sum((each.square().sum() for each in weights), start=torch.zeros(()))
            method.zero_grad()
            (loss + PENALTY * penalty).backward()
            method.step()
            falling.step()
    for each in (*weights, *shifts):
        each.requires_grad_(False)
    return scores
