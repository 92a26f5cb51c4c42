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
REGIONS = ("indicators", "targets")
SENSITIVITIES = tuple(f"{part}_sensitivity_{region}" for part in ("query", "key", "value") for region in REGIONS)


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
        apart: gradients and sensitivities are recorded as means over layers; `layers` adds those of each, `heads` the
            sensitivities of each head, too.
    """

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
    apart: Literal["none", "layers", "heads"] = static("none", later=True)

    @property
    def MEASURES(self) -> tuple[str, ...]:  # type: ignore[override]
        """Means over layers, then what is told apart: `…_i` of layer i, `…_i_j` of its head j, both from 1."""
        layers = [f"_{i + 1}" for i in range(self.layers)] if self.apart != "none" else []
        heads = [f"{layer}_{j + 1}" for layer in layers for j in range(self.heads)] if self.apart == "heads" else []
        of_layers = tuple(f"{name}{layer}" for layer in layers for name in (*GRADIENTS, *SENSITIVITIES))
        of_heads = tuple(f"{name}{head}" for head in heads for name in SENSITIVITIES)
        return ("attention_entropy", *GRADIENTS, *SENSITIVITIES, *of_layers, *of_heads)

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
        """Mean entropy of attention rows [nats]; mean absolute gradients of their maps; sensitivities by region.

        `qkv_gradient` is of queries, keys and values together, the others of each third. `…_sensitivity_…` is the mean
        over the tokens of the cells that a task calls indicators, or targets (`sensitivity.py`), in each example;
        not a number where it names none. Layers are averaged, heads and examples, too.
        """
        import torch

        found = super().measures(seen)
        assert seen.gradients is not None
        maps = [gradient for name, gradient in seen.gradients().items() if name.endswith("attention.qkv")]
        thirds = [gradient.abs().mean(1).unflatten(1, (3, -1)).mean(2) for gradient in maps]  # (K, 3) each
        sizes = torch.stack([torch.cat([each.mean(1, keepdim=True), each], dim=1) for each in thirds])  # (L, K, 4)
        nothing = sizes.new_full((*sizes.shape[:2], len(SENSITIVITIES), self.heads), torch.nan)
        felt = by_region(seen, nothing=nothing)  # (L, K, 6, H)
        tables = {GRADIENTS: sizes, SENSITIVITIES: felt.mean(3)}
        for names, table in tables.items():
            found |= dict(zip(names, table.mean(0).unbind(1), strict=True))
            for layer, values in enumerate(table):
                found |= {f"{name}_{layer + 1}": value for name, value in zip(names, values.unbind(1), strict=True)}
        for layer, of_heads in enumerate(felt):
            for head, values in enumerate(of_heads.unbind(2)):
                parts = zip(SENSITIVITIES, values.unbind(1), strict=True)
                found |= {f"{name}_{layer + 1}_{head + 1}": value for name, value in parts}
        return {name: found[name] for name in self.MEASURES}


def by_region(seen: Seen, *, nothing: torch.Tensor) -> torch.Tensor:
    """Sensitivity of queries, keys and values to each region of the task's `(layers, K, 6, H)`; or what is given."""
    import torch

    from workloads.tasks.regions import quadrants

    if seen.sensitivities is None or not {*REGIONS} <= seen.regions.keys():
        return nothing
    found = []
    for layer in seen.sensitivities():
        cells = quadrants(layer)  # (3, K, B, H, 4)
        if cells is None:
            return nothing
        inside = [seen.regions[region][:, : layer.shape[2], None].to(cells.dtype) for region in REGIONS]  # (K, B, 1, 4)
        means = [(cells * of).sum(4).mean(2) / of.sum(3).mean(1) for of in inside]  # (3, K, H) each
        found.append(torch.stack(means, dim=1).flatten(0, 1).transpose(0, 1))
    return torch.stack(found)
