"""`vit`: a transformer over the patches of a picture, with a read-out token.

Its layers are the transformer's; what it adds are patches, branches that are dropped at random while it trains
(stochastic depth), weights that do not decay, and gradients of queries and keys that can be made as large as others.

Source: Dosovitskiy et al. 2021, arXiv 2010.11929; settings of Hoffmann et al. 2024, arXiv 2310.12956.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from workloads.attention import AttentionSpec, Softmax
from workloads.fields import per_member, static
from workloads.models.model import Attentive
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    import torch

    from workloads.models.vision import VisionEncoder
    from workloads.seen import Seen
    from workloads.tasks.task import Batch


GRADIENTS = ("qkv_gradient", "query_gradient", "key_gradient", "value_gradient")


class Vit(Attentive):
    """Shape and variant; the defaults are the paper's (3,750,666 weights on 56×56 pixels and 10 classes).

    Attributes:
        width: residual width D.
        layers: blocks.
        heads: attention heads; D is a multiple of it.
        mlp_ratio: hidden width of the MLP, in units of D.
        patch: side of a patch [pixels].
        positions: what tells patches apart.
        activation: of the MLP; `gelu` is the exact (erf) form.
        qkv_bias: biases on the query, key and value maps.
        norm_eps: of the layer norms.
        init_std: of the normal, cut off at ±2, that linear maps, positions and the read-out token start from.
        stochastic_depth: how often the last block's branches are dropped; earlier blocks' less, the first's never.
        qkv_gradient: before the optimiser sees them, gradients of the query, key and value maps are made to have the
            mean size of all three (`mean`), of the layer's values (`value`), or of the head's own (`head_value`).
        init: as the transformer's.
    """

    MEASURES: ClassVar[tuple[str, ...]] = ("attention_entropy", *GRADIENTS)
    causal: ClassVar[bool] = False
    has_mlp: ClassVar[bool] = True
    norm: ClassVar[Literal["layer"]] = "layer"
    clamp: ClassVar[Literal["none"]] = "none"
    READS: ClassVar[str] = "pictures"
    ANSWERS: ClassVar[str] = "example"

    name: Literal["vit"] = static("vit")
    version: Literal[1] = static(1)
    width: int = static(256, ge=1)
    layers: int = static(7, ge=1)
    heads: int = static(4, ge=1)
    mlp_ratio: float = static(2.0, gt=0.0)
    patch: int = static(4, ge=1)
    positions: Literal["learned", "sinusoidal", "none"] = static("learned")
    activation: Literal["gelu", "relu"] = static("gelu")
    qkv_bias: bool = static(False)
    norm_eps: float = static(1e-6, gt=0.0)
    init_std: float = per_member(0.02, gt=0.0)
    stochastic_depth: float = static(0.1, ge=0.0, lt=1.0)
    qkv_gradient: Literal["plain", "mean", "value", "head_value"] = static("plain")
    attention: AttentionSpec = static(Softmax())
    init: Literal["same", "scaled"] = static("same")

    @property
    def DRAWS(self) -> tuple[str, ...]:
        """What comes with a block of data for the model's own use."""
        return ("branches",) if self.stochastic_depth else ()

    def draws(self, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Scale of each block's two branches in each example, 0 where one is dropped: `branches (S, B, 2·layers)`."""
        import torch

        if not self.stochastic_depth:
            return {}
        rates = [self.stochastic_depth * i / max(1, self.layers - 1) for i in range(self.layers)]
        kept = 1.0 - torch.tensor(rates, device=rng.device).repeat_interleave(2)
        chances = torch.rand(steps, batch, 2 * self.layers, generator=rng, device=rng.device)
        return {"branches": (chances < kept) / kept}

    def unfit(self, shapes: Shapes) -> str:
        """What would have to be otherwise for patches to divide a task's pictures; empty where they do."""
        assert shapes.picture is not None
        height, width = shapes.picture
        if height % self.patch == 0 and width % self.patch == 0:
            return ""
        return f"model.patch to divide the pictures' {height} and {width} pixels; got {self.patch}"

    def build(self, shapes: Shapes) -> VisionEncoder:
        """Layers for a task's pictures, parameters still without values."""
        from workloads.models.vision import VisionEncoder

        return VisionEncoder(self, shapes)

    def measures(self, seen: Seen) -> Batch:
        """Mean entropy of attention rows, over layers, heads and queries [nats]; mean absolute gradients of their maps.

        `qkv_gradient` is of queries, keys and values together, the others of each third; layers are averaged.
        """
        import torch

        found = super().measures(seen)
        assert seen.gradients is not None
        maps = [gradient for name, gradient in seen.gradients().items() if name.endswith("attention.qkv")]
        thirds = torch.stack([gradient.abs().mean(1).unflatten(1, (3, -1)).mean(2) for gradient in maps]).mean(
            0
        )  # (K, 3)
        sizes = torch.cat([thirds.mean(1, keepdim=True), thirds], dim=1).unbind(1)
        return found | dict(zip(GRADIENTS, sizes, strict=True))
