"""Linear probes: what a least-squares map reads from the hidden states of each layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from workloads.probing.intervention import Intervention

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workloads.probing.bench import Bench, Reading
    from workloads.spec import RunSpec
    from workloads.tasks.task import Batch

    Target = tuple[torch.Tensor, torch.Tensor | None]
    Examples = tuple[torch.Tensor, torch.Tensor]


ROUNDING = 1e-6  # directions in which states vary less, as a share of the most, are the rounding of single precision


class LinearProbe(Intervention):
    """The closed-form map without bias from a position's state to what is known of it, layer by layer.

    It is fitted on some examples and judged on others (`Bench.batch`). Layer 0 is what the first block reads. Targets
    are the task's (`probe_targets`), or the answers themselves. Readings, for each target as item: `mse`, the squared
    error of each of its numbers; `explained`, the share of their squares that is explained; `cosine`, the mean size of
    the cosine of probe and target, where a target is more than one number.

    Attributes:
        train_examples: what the map is fitted on.

    Source: Gopalani, Lubana and Hu 2024, arXiv 2410.22244 (element, row, singular vector; 2,048 and 256 matrices).
    Checked by: test_probing.py::test_a_linear_probe_finds_a_planted_feature
    """

    name: Literal["linear_probe"] = "linear_probe"
    train_examples: int = Field(2048, ge=1)

    def unfit(self, spec: RunSpec, model: nn.Module) -> str:
        """States by block, and answers by position."""
        if not hasattr(model, "blocks"):
            return f"a model of blocks; got {spec.model.name}"
        if spec.task.shapes().answers != "position":
            return f"a task that is answered at every position; got {spec.task.name}"
        return ""

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """Layer by layer and target by target."""
        import torch

        from workloads.probing.bench import Reading

        taught = bench.drawn("probe training", examples=self.train_examples)
        fit_states, fit_targets = _states(bench, taught), targets(bench, taught)
        states, wanted = _states(bench, bench.batch), targets(bench, bench.batch)
        for layer, (xs, xt) in enumerate(zip(fit_states, states, strict=True)):
            for item in wanted:
                pairs = ((_examples(xs, fit_targets[item], k), _examples(xt, wanted[item], k)) for k in range(len(xs)))
                found = [judged(fit, test) for fit, test in pairs]
                for metric in found[0]:
                    values = torch.tensor([each[metric] for each in found], dtype=torch.float64)
                    yield Reading(metric=metric, values=values, layer=layer, item=item)


def targets(bench: Bench, batch: Batch) -> dict[str, Target]:
    """What the task would have read `(K, B, T, n)`, and at which positions `(K, B, T)`, all of them where None."""
    import torch.nn.functional as F

    if hasattr(bench.spec.task, "probe_targets"):
        found: dict[str, Target] = bench.spec.task.probe_targets(batch)
        return found
    y = batch["y"]
    classes = bench.spec.task.shapes().classes
    return {"answer": (y if y.is_floating_point() else F.one_hot(y, classes).float(), None)}


def _states(bench: Bench, batch: Batch) -> list[torch.Tensor]:
    """Residual stream before the first block and behind each: `(K, B, T, D)`."""
    from workloads.probing.taps import states_read

    with states_read(bench.model) as found:
        bench.answers(batch)
    return [state.permute(0, 2, 1, 3) for state in found]


def judged(fit: Examples, test: Examples) -> dict[str, float]:
    """Readings of one probe: states `(N, D)` and targets `(N, n)` to fit it on, and others to judge it by."""
    import torch

    weights = torch.linalg.lstsq(*fit, rcond=ROUNDING, driver="gelsd").solution
    found, wanted = test[0] @ weights, test[1]
    squares, there = (found - wanted).square().mean().item(), wanted.square().mean().item()
    readings = {"mse": squares, "explained": 1.0 - squares / there if there else float("nan")}
    if wanted.shape[1] > 1:
        is_any = wanted.square().sum(1) > 0
        cosines = torch.nn.functional.cosine_similarity(found[is_any], wanted[is_any], dim=1)
        readings["cosine"] = cosines.abs().mean().item()
    return readings


def _examples(states: torch.Tensor, target: Target, k: int) -> Examples:
    """States and targets of one snapshot, at the positions that count."""
    values, where = target
    own, states = values[k].flatten(0, 1).double(), states[k].flatten(0, 1).double()
    return (states, own) if where is None else (states[where[k].flatten()], own[where[k].flatten()])
