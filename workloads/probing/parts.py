"""Interventions on weights: stitching two steps of one run, other places for positions, what the tables hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from workloads.forks import matching, unknown_parts
from workloads.probing.intervention import Intervention

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workloads.probing.bench import Bench, Reading
    from workloads.spec import RunSpec


class Stitch(Intervention):
    """Some parts of the weights of one step in the model of another, both ways.

    Readings are of the model at the snapshot's own step with the other step's parts (`parts of other`), and of the
    model at the other step with this one's parts (`parts of own`).

    Attributes:
        with_step: the other step of the same run: updates made, or `first`, `end`, `before` as for snapshots.
        parts: patterns as in `trainable.only`, such as `qkv qkv_bias`; `attention` is all that heads are made of.

    Source: Gopalani, Lubana and Hu 2024, arXiv 2410.22244 (queries, keys and values; and all but attention).
    """

    NEEDS_OTHER_STEP: ClassVar[bool] = True

    name: Literal["stitch"] = "stitch"
    with_step: int | Literal["first", "end", "before"]
    parts: str = Field("qkv qkv_bias", min_length=1)

    def unfit(self, spec: RunSpec, model: nn.Module) -> str:
        """Parts must be there."""
        wrong = unknown_parts(self.parts, model=spec.model, shapes=spec.task.shapes())
        return f"parts to name {wrong}" if wrong else ""

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """The task's metrics, both ways."""
        from workloads.probing.bench import Reading

        own, other = bench.rows, bench.others()
        chosen = matching(self.parts, [place.name for place in bench.layout.places])
        for item, body, parts in (("parts of other", own, other), ("parts of own", other, own)):
            rows = body.clone()
            for place in bench.layout.places:
                if place.name in chosen:
                    place.view(rows).copy_(place.view(parts))
            bench.bind(rows)
            for metric, values in bench.scores(bench.answers()).items():
                yield Reading(metric=metric, values=values, item=item)
        bench.bind(own)


class PermutePositions(Intervention):
    """Learned positions change places, all of them at random.

    Attributes:
        repeats: how many permutations; each is an item.

    Source: Gopalani, Lubana and Hu 2024, arXiv 2410.22244.
    """

    name: Literal["permute_positions"] = "permute_positions"
    repeats: int = Field(1, ge=1, le=1000)

    def unfit(self, spec: RunSpec, model: nn.Module) -> str:
        """A table of positions there must be."""
        return "" if _positions(model) is not None else "a model with a table of learned positions"

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """The task's metrics, a permutation at a time; the same ones for all snapshots."""
        import torch

        from workloads.probing.bench import CPU, Reading
        from workloads.streams import generator

        [place] = [place for place in bench.layout.places if place.name == "positions.table"]
        rng = generator(bench.seed, "probe/positions", device=CPU)
        for repeat in range(self.repeats):
            rows = bench.rows.clone()
            table = place.view(rows)  # (K, T, D)
            table.copy_(table[:, torch.randperm(table.shape[1], generator=rng)].clone())
            bench.bind(rows)
            for metric, values in bench.scores(bench.answers()).items():
                yield Reading(metric=metric, values=values, item=str(repeat))
        bench.bind(bench.rows)


class Embedding(Intervention):
    """Vectors of the words that occur among the examples: their norms and principal components; and of positions.

    Where words are numbers, items are those numbers, and there are three readings more: the correlation of norms of v
    and -v (`norm_symmetry`), and the sizes of the correlations of the first two components with |v| and with v's sign.
    Where the task knows groups of positions, `position_cosine` is the mean cosine of pairs, by group.

    Attributes:
        components: principal components, of the vectors less their mean.
    """

    name: Literal["embedding"] = "embedding"
    components: int = Field(2, ge=0, le=16)

    def unfit(self, spec: RunSpec, model: nn.Module) -> str:
        """Words there must be."""
        return (
            "" if spec.task.shapes().vocabulary is not None and hasattr(model, "embed") else "a model that reads words"
        )

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """Item by item."""
        from workloads.probing.bench import Reading

        words = bench.batch["x"].unique()
        table = bench.model.embed.table[:, words].double()  # (K, W, D)
        norms, parts = table.norm(dim=-1), principal(table, components=self.components)
        numbers = bench.spec.task.word_values(words) if hasattr(bench.spec.task, "word_values") else None
        for index, word in enumerate(words.tolist()):
            item = str(word) if numbers is None else _called(float(numbers[index]))
            yield Reading(metric="norm", values=norms[:, index], item=item)
            for component in range(parts.shape[-1]):
                yield Reading(metric=f"component_{component + 1}", values=parts[:, index, component], item=item)
        if numbers is not None:
            yield from _of_numbers(numbers, norms, parts)
        if _positions(bench.model) is not None and hasattr(bench.spec.task, "position_groups"):
            yield from _of_positions(bench)


def principal(vectors: torch.Tensor, *, components: int) -> torch.Tensor:
    """Coordinates on the first principal axes `(K, W, D)`: `(K, W, components)`; an axis points to its largest."""
    import torch

    centred = vectors - vectors.mean(1, keepdim=True)
    components = min(components, *centred.shape[1:])
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    found = left[..., :components] * sizes[:, None, :components]
    largest = found.gather(1, found.abs().argmax(1, keepdim=True))
    return found * torch.where(largest < 0, -1.0, 1.0)


def _of_numbers(numbers: torch.Tensor, norms: torch.Tensor, parts: torch.Tensor) -> Iterator[Reading]:
    import torch

    from workloads.probing.bench import Reading

    is_number = torch.isfinite(numbers)
    values, norms, parts = numbers[is_number].double(), norms[:, is_number], parts[:, is_number]
    steps = (values / values.abs()[values != 0].min()).round().long().tolist()
    at = {step: index for index, step in enumerate(steps)}
    pairs = [(at[step], at[-step]) for step in steps if step > 0 and -step in at]
    if len(pairs) > 2:
        up, down = (norms[:, list(side)] for side in zip(*pairs, strict=True))
        yield Reading(metric="norm_symmetry", values=correlation(up, down))
    for component, name, wanted in ((0, "size", values.abs()), (1, "sign", values.sign())):
        if component < parts.shape[-1]:
            found = correlation(parts[..., component], wanted[None].expand(len(parts), -1))
            yield Reading(metric=f"component_{component + 1}_on_{name}", values=found.abs())


def _of_positions(bench: Bench) -> Iterator[Reading]:
    import torch

    from workloads.probing.bench import Reading

    table = bench.model.positions.table.double()
    units = torch.nn.functional.normalize(table - table.mean(1, keepdim=True), dim=-1)
    cosines = units @ units.mT  # (K, T, T)
    for item, group in bench.spec.task.position_groups().items():
        if group.any():
            yield Reading(metric="position_cosine", values=cosines[:, group].mean(1), item=item)


def correlation(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Pearson's, over the last axis; not a number where either does not vary."""
    left, right = (side - side.mean(-1, keepdim=True) for side in (left, right))
    return (left * right).sum(-1) / (left.square().sum(-1) * right.square().sum(-1)).sqrt()


def _called(number: float) -> str:
    return f"{number:g}" if number == number else "missing"  # noqa: PLR0124  (NaN is what has no number)


def _positions(model: nn.Module) -> nn.Module | None:
    from workloads.layers import Vectors

    found = getattr(model, "positions", None)
    return found if isinstance(found, Vectors) else None
