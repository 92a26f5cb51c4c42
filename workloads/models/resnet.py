"""`resnet`: convolutions with residual branches, the baseline that needs no plateau.

Two 3×3 convolutions a block, four stages, a 7×7 stem with stride 2 and pooling. Batch norms use the batch at hand, when
measures are taken too: there are no running statistics, which would be state of a run beside its weights.

Source: He et al. 2016, arXiv 1512.03385; shapes and first values as in torchvision; [1, 1, 1, 1] blocks, which makes 9
layers and a read-out, is the small baseline of Hoffmann et al. 2024, arXiv 2310.12956.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.fields import static
from workloads.models.model import Steady
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.convolution import Residual

BLOCKS = {9: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class ResNet(Steady):
    """Shape of the network.

    Attributes:
        depth: which of the family.
        width: channels of the first stage; each further stage has twice as many.
    """

    READS: ClassVar[str] = "pictures"
    ANSWERS: ClassVar[str] = "example"

    name: Literal["resnet"] = static("resnet")
    version: Literal[1] = static(1)
    depth: Literal[9, 18, 34] = static(18)
    width: int = static(64, ge=1)

    @property
    def init_std(self) -> float:
        """Layers scale their own weights."""
        return 1.0

    def build(self, shapes: Shapes) -> Residual:
        """Layers for a task's pictures, parameters still without values."""
        from workloads.models.convolution import Residual

        return Residual(self, shapes)
