"""What a model's spec promises, and what several models have in common.

**Importable without torch.** Layers are imported when `build` is called.

**One run.** Layers are declared and written for one run; `workloads/layers.py` carries the cohort's axis.

A spec says which MEASURES it takes from what a forward pass showed, whether it shows anything (`IS_OPEN`), which PARTS
of its weights may have learning rates of their own, which values change from step to step (`controls`), and, where not
every task will do, what it READS (words, floats, pictures; settings, where all is declared) and whether it ANSWERS
once an example or at every position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from workloads.attention import AttentionSpec, LinearAttention
from workloads.fields import Frozen

if TYPE_CHECKING:
    from workloads.seen import Seen
    from workloads.tasks.task import Batch, Shapes


_HOW = {"position": "at every position", "example": "once an example"}


def misfit(model: Any, shapes: Shapes) -> str:
    """What would have to be otherwise for a model to suit a task, as the end of a sentence; empty where it does.

    Args:
        model: its spec has READS and ANSWERS, and may have an `unfit` that knows more.
        shapes: of the task.
    """
    shown: dict[str, Any] = {"words": shapes.vocabulary, "floats": shapes.features, "pictures": shapes.picture}
    if shapes.is_declared:
        shown = {"settings": True}
    if shown.get(model.READS) is None or shapes.answers != model.ANSWERS:
        given = " and ".join(kind for kind, there in shown.items() if there is not None)
        what = f"{model.name} reads {model.READS} and answers {_HOW[model.ANSWERS]}"
        return f"model.name to suit a task of {given} with answers {_HOW[shapes.answers]}; {what}"
    unfit: str = model.unfit(shapes) if hasattr(model, "unfit") else ""
    return unfit


class Steady(Frozen):
    """A model that computes the same at every step, and leaves measuring to its task."""

    MEASURES: ClassVar[tuple[str, ...]] = ()
    IS_OPEN: ClassVar[bool] = True
    PARTS: ClassVar[tuple[str, ...]] = ()

    def controls(self, *, step: int, budget_steps: int) -> dict[str, Any]:
        """Nothing changes from step to step."""
        return {}

    def measures(self, seen: Seen) -> Batch:
        """None."""
        return {}


class Attentive(Frozen):
    """A model of attention heads, whose spec has `width`, `heads` and `attention`."""

    MEASURES: ClassVar[tuple[str, ...]] = ("attention_entropy",)
    IS_OPEN: ClassVar[bool] = True

    if TYPE_CHECKING:
        width: int
        heads: int
        attention: AttentionSpec

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads to divide width; got width {self.width}, heads {self.heads}")
        return self

    def controls(self, *, step: int, budget_steps: int) -> dict[str, Any]:
        """Values that change from step to step: the attention's multiplier, and the favour of linear attention."""
        head_width = self.width // self.heads
        found = {"multiplier": self.attention.multiplier(step=step, budget_steps=budget_steps, head_width=head_width)}
        if isinstance(self.attention, LinearAttention):
            found["favour"] = self.attention.favour_at(step)
        return found

    def measures(self, seen: Seen) -> Batch:
        """Mean entropy of the attention rows, over layers, heads and queries [nats]; of linear ones, their shares."""
        import torch

        from workloads.scores import attention_entropy, shares

        maps = seen.attention
        if isinstance(self.attention, LinearAttention):
            maps = [shares(weights) for weights in maps]
        return {"attention_entropy": torch.stack([attention_entropy(weights) for weights in maps]).mean(0)}
