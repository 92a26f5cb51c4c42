"""What a model's spec promises, and its plainest form.

**Importable without torch.** Layers are imported when `build` is called.

**One run.** Layers are declared and written for one run; `workloads/layers.py` carries the cohort's axis.

A spec says which MEASURES it takes from what a forward pass showed, whether it shows anything (`IS_OPEN`), which PARTS
of its weights may have learning rates of their own, and which values change from step to step (`controls`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from workloads.fields import Frozen

if TYPE_CHECKING:
    from workloads.seen import Seen
    from workloads.tasks.task import Batch


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
