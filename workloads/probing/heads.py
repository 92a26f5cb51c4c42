"""Interventions on attention heads: what they attend to, ablation by fixed maps, patching of what they write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from workloads.probing.intervention import Intervention, absent_layers, chosen_layers, no_attention

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workloads.probing.bench import Bench, Reading
    from workloads.spec import RunSpec
    from workloads.tasks.task import Batch


class Attention(Intervention):
    """Where every head attends: the entropy of its rows [nats], and its shares by kind, where the task knows kinds."""

    name: Literal["attention"] = "attention"

    def unfit(self, spec: RunSpec, model: nn.Module) -> str:
        """Attention there must be."""
        return no_attention(model)

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """A reading for each layer, head and kind."""
        import torch

        from workloads.probing.bench import Reading
        from workloads.scores import shares

        task = bench.spec.task
        for layer, weights in enumerate(bench.attention()):  # (K, B, H, Q, T)
            found = {"entropy": torch.special.entr(shares(weights)).sum(-1).mean((1, 3))}
            if hasattr(task, "attention_kinds"):
                found |= task.attention_kinds(weights, bench.batch)
            for metric, values in found.items():  # (K, H)
                for head in range(values.shape[1]):
                    yield Reading(metric=metric, values=values[:, head], layer=layer, head=head)


class AblateHeads(Intervention):
    """Heads attend by a fixed map in place of their own: their mean map over examples, or evenly to all they may see.

    Attributes:
        how: `mean` or `uniform`.
        heads: `each` in turn, `all` at once, or `layer.head` from 0, such as `2.1, 2.2 3.0`: groups apart by commas.

    Source: Gopalani, Lubana and Hu 2024, arXiv 2410.22244 (their "uniform" ablation takes mean maps).
    """

    name: Literal["ablate_heads"] = "ablate_heads"
    how: Literal["mean", "uniform"] = "mean"
    heads: str = Field("each", pattern=r"^(each|all|\d+\.\d+(( |, )\d+\.\d+)*)$")

    def unfit(self, spec: RunSpec, model: nn.Module) -> str:
        """The heads named must be there."""
        from workloads.probing.taps import attentions

        layers = attentions(model)
        for group in self._groups([layer.heads for layer in layers]) if layers else ():
            for layer, head in group:
                if layer >= len(layers) or head >= layers[layer].heads:
                    return f"heads from 0.0 to {len(layers) - 1}.{layers[-1].heads - 1}; got '{layer}.{head}'"
        return no_attention(model)

    def _groups(self, counts: list[int]) -> list[list[tuple[int, int]]]:
        every = [(layer, head) for layer, count in enumerate(counts) for head in range(count)]
        if self.heads in ("each", "all"):
            return [[one] for one in every] if self.heads == "each" else [every]
        pairs = [[word.split(".") for word in group.split()] for group in self.heads.split(",")]
        return [[(int(layer), int(head)) for layer, head in group] for group in pairs]

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """The task's metrics, a group of heads at a time."""
        from workloads.probing.bench import Reading
        from workloads.probing.taps import attentions

        layers = attentions(bench.model)
        fixed = [
            self._map(weights, is_causal=layer.causal) for layer, weights in zip(layers, bench.attention(), strict=True)
        ]
        for group in self._groups([layer.heads for layer in layers]):
            place = dict(zip(("layer", "head"), group[0], strict=True)) if len(group) == 1 else {}
            item = "" if place else " ".join(f"{layer}.{head}" for layer, head in group)
            for metric, values in bench.scores(ablated(bench, fixed, group)).items():
                yield Reading(metric=metric, values=values, item=item, **place)

    def _map(self, weights: torch.Tensor, *, is_causal: bool) -> torch.Tensor:
        """`(K, B, H, Q, T)` to the fixed maps `(K, H, Q, T)`."""
        import torch

        mean = weights.mean(1)
        if self.how == "mean":
            return mean
        allowed = torch.ones_like(mean).tril() if is_causal else torch.ones_like(mean)
        return allowed / allowed.sum(-1, keepdim=True)


def ablated(bench: Bench, fixed: list[torch.Tensor], group: list[tuple[int, int]]) -> torch.Tensor:
    """Answers where a group of heads attends by the fixed maps of the layers `(K, H, Q, T)`."""
    from workloads.probing.taps import attentions, maps_replaced

    with ExitStack() as stack:
        for depth, attention in enumerate(attentions(bench.model)):
            if maps := {head: fixed[depth][:, head] for layer, head in group if layer == depth}:
                stack.enter_context(maps_replaced(attention, maps))
        return bench.answers()


def _always(clean: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return clean


class Patch(Intervention):
    """What a layer's heads write for one example is put in where the model reads another.

    Readings are scored against the example that the heads saw (`clean`) and the one that was read (`corrupted`), for
    the patched layers and, without a layer, for the corrupted example as it is.

    Attributes:
        layers: `each` in turn, `last`, or some, from 0, in turn.
        corrupted: `other`, the next example; or `negated`, where the task can negate one (X and -X, the same mask).

    Source: Gopalani, Lubana and Hu 2024, arXiv 2410.22244, who patch the last layer and negate.
    """

    name: Literal["patch"] = "patch"
    layers: str = Field("each", pattern=r"^(each|last|\d+( \d+)*)$")
    corrupted: Literal["other", "negated"] = "other"

    def unfit(self, spec: RunSpec, model: nn.Module) -> str:
        """Layers must be there, and a way to corrupt."""
        from workloads.probing.taps import attentions

        if self.corrupted == "negated" and not hasattr(spec.task, "negated"):
            return f"corrupted to be other, since examples of {spec.task.name} cannot be negated"
        return no_attention(model) or absent_layers(self.layers, layers=len(attentions(model)))

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """Both scores of the corrupted pass, then of each patched one."""
        from workloads.probing.taps import attentions, heads_changed, heads_read

        corrupted = self._corrupted(bench)
        yield from self._scored(bench, bench.answers(corrupted), corrupted, layer=None)
        layers = attentions(bench.model)
        for layer in chosen_layers(self.layers, layers=len(layers)):
            with heads_read(layers[layer]) as written:
                bench.answers()
            [clean] = written
            with heads_changed(layers[layer], partial(_always, clean)):
                output = bench.answers(corrupted)
            yield from self._scored(bench, output, corrupted, layer=layer)

    def _corrupted(self, bench: Bench) -> Batch:
        if self.corrupted == "negated":
            negated: Batch = bench.spec.task.negated(bench.batch)
            return negated
        return {name: values.roll(1, dims=1) for name, values in bench.batch.items()}

    def _scored(self, bench: Bench, output: torch.Tensor, corrupted: Batch, *, layer: int | None) -> Iterator[Reading]:
        from workloads.probing.bench import Reading

        for item, batch in (("clean", bench.batch), ("corrupted", corrupted)):
            for metric, values in bench.scores(output, batch).items():
                yield Reading(metric=metric, values=values, layer=layer, item=item)
