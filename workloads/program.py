"""How losses become gradients: three programs with one promise, and the spec says which.

`eager` runs torch's own kernels over all lanes at once. `compiled` is, on CPU, machine code made for one run of the
shape and called lane after lane (`compiled.py`): company cannot matter, and lanes without a run cost nothing. On a GPU
it is Inductor's code for all lanes. Programs round differently, which is why a run's spec names its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workloads.update import Turn

if TYPE_CHECKING:
    from workloads.lanes import Lanes
    from workloads.rows import Layout
    from workloads.spec import RunSpec
    from workloads.tasks.task import Batch

Program = Callable[["Lanes", Sequence[Turn]], Tensor]  # fills the gradients, gives the task's metrics (K, M)


def build_program(lanes: Lanes) -> Program:
    """The program that the lanes' spec names."""
    if lanes.spec.compute.program == "eager":
        return Eager(lanes)
    if lanes.device.type == "cpu":
        from workloads.compiled import Compiled

        return Compiled(lanes)
    return Inductor(lanes)


class Eager:
    """All lanes at once, by torch's kernels and its autograd."""

    def __init__(self, lanes: Lanes):
        self.parameters = lanes.layout.bind(lanes.rows, trained=True)
        self.gradients = lanes.layout.views(lanes.grads)

    def __call__(self, lanes: Lanes, turns: Sequence[Turn]) -> Tensor:
        """Every lane, those without a run too."""
        batch = lanes.batch()
        with precision(lanes.spec, lanes.device):
            output = lanes.model(batch["x"], **told(lanes.spec, batch, lanes.controls()))
        scores = lanes.task.objective(output, batch)
        gradients = torch.autograd.grad(scores["loss"].sum(), self.parameters)
        with torch.no_grad():
            torch._foreach_copy_(self.gradients, gradients)  # `backward` would warn that rows are not its layout
            return torch.stack([scores[name] for name in lanes.task.METRICS], dim=1)


class Inductor:
    """All lanes at once, by code that Inductor makes at the first call."""

    def __init__(self, lanes: Lanes):
        function = gradients_function(lanes.spec, lanes.layout)
        self.call: Any = torch.compile(function, fullgraph=True, dynamic=False, options={"triton.cudagraphs": False})

    def __call__(self, lanes: Lanes, turns: Sequence[Turn]) -> Tensor:
        """Every lane, those without a run too."""
        with torch.no_grad():
            grads, scores = self.call(lanes.rows, lanes.batch(), lanes.controls())
            lanes.grads.copy_(grads)
            found: Tensor = scores
            return found


def gradients_function(spec: RunSpec, layout: Layout) -> Callable[[Tensor, Batch, Batch], tuple[Tensor, Tensor]]:
    """Rows `(K, P)`, data and controls to gradients `(K, P)` and metrics `(K, M)`, without side effects."""
    task, model = spec.task, layout.model
    names = [place.name for place in layout.places]

    def summed_loss(parameters: list[Tensor], batch: Batch, controls: Batch) -> tuple[Tensor, Tensor]:
        with precision(spec, batch["x"].device):
            named = dict(zip(names, parameters, strict=True))
            output = torch.func.functional_call(model, named, (batch["x"],), told(spec, batch, controls))
        scores = task.objective(output, batch)
        return scores["loss"].sum(), torch.stack([scores[name] for name in task.METRICS], dim=1)

    def gradients(rows: Tensor, batch: Batch, controls: Batch) -> tuple[Tensor, Tensor]:
        found, scores = torch.func.grad(summed_loss, has_aux=True)(layout.views(rows), batch, controls)
        return layout.gathered(found), scores

    return gradients


def drawn_for(model: Any) -> tuple[str, ...]:
    """Names of what a model's own randomness is, which comes with each block of data (`Vit.draws`); most have none."""
    names: tuple[str, ...] = getattr(model, "DRAWS", ())
    return names


def told(spec: RunSpec, batch: Batch, controls: Batch) -> Batch:
    """All that a model is told of a step beside its input."""
    return controls | {name: batch[name] for name in drawn_for(spec.model)}


def precision(spec: RunSpec, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 runs the model's products in it; weights, losses and updates stay in fp32."""
    if spec.compute.precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
