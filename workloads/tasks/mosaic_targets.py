"""What probes ask of a mosaic: six labels an example, as class numbers from 0.

| target | classes |
|---|---|
| `class_top_left` … `class_bottom_right` | of the picture in each cell; black is one more |
| `location` | the cell that answers, in reading order |
| `label` | the task's |

Where two sets are shown (`shuffled`), a class of the one and of the other have the same number.

Source: Hoffmann et al. 2024, arXiv 2310.12956, whose six probes ask the same of two possible locations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from workloads.images import CLASSES
from workloads.tasks.mosaic_draws import ANSWER
from workloads.tasks.pictures import pool_of

if TYPE_CHECKING:
    from workloads.tasks.mosaic import Mosaic
    from workloads.tasks.task import Batch

CELLS = ("top_left", "top_right", "bottom_left", "bottom_right")


def targets(task: Mosaic, batch: Batch, split: Literal["train", "test"]) -> Batch:
    """Each target of each example `(…, B)`.

    Args:
        task: of the batch.
        batch: one split's `image`, `role (…, B, 4)` and `y (…, B)`.
        split: whose pictures `image` counts.
    """
    image, role = batch["image"], batch["role"]
    labels = pool_of(task.parts(), split, image.device).labels[image]
    kinds = labels.where(labels >= 0, CLASSES).unbind(-1)
    shown = {f"class_{cell}": kind for cell, kind in zip(CELLS, kinds, strict=True)}
    return shown | {"location": (role == ANSWER).int().argmax(-1).long(), "label": batch["y"]}
