"""Pre-LN transformer encoder with a read-out token; reads like single-run code.

The spec is importable without torch; `build` makes the layers.

Source: pre-LN block of Xiong et al. 2020 (arXiv 2002.04745); read-out token and shapes as in
Dosovitskiy et al. 2021 (arXiv 2010.11929); relative positions as in Shaw et al. 2018 (arXiv 1803.02155), of keys alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from workloads.attention import AttentionSpec, Softmax
from workloads.fields import per_member, static
from workloads.models.model import Attentive
from workloads.tasks.task import Shapes

if TYPE_CHECKING:
    from workloads.models.encoder import Encoder


class Transformer(Attentive):
    """Shape and variant of the encoder.

    Attributes:
        width: residual width D.
        layers: blocks.
        heads: attention heads; D is a multiple of it.
        mlp_ratio: hidden width of the MLP, in units of D.
        positions: what tells positions apart: vectors added to tokens; or `relative`, vectors added to a head's keys,
            one for each distance that a query looks back.
        activation: of the MLP; `gelu` is the exact (erf) form.
        qkv_bias: biases on the query, key and value maps.
        norm_eps: of the layer norms.
        init_std: standard deviation of the normal that weights, positions and the read-out token start from.
        causal: a position attends to itself and those before it alone.
        norm: `layer` before attention, MLP and read-out; or `none` anywhere.
        has_mlp: False is attention alone.
        clamp: `previous_token` makes the first layer's first head look at the position before, from the first step on.
        init: `same` standard deviation everywhere; `scaled` divides it by sqrt(2 layers) in the maps that write to the
            residual stream (attention's output, the MLP's second), as GPT-2 does.
    """

    name: Literal["transformer"] = static("transformer")
    version: Literal[1] = static(1)
    width: int = static(32, ge=1)
    layers: int = static(2, ge=1)
    heads: int = static(4, ge=1)
    mlp_ratio: float = static(4.0, gt=0.0)
    positions: Literal["learned", "sinusoidal", "relative", "none"] = static("learned")
    activation: Literal["gelu", "relu"] = static("gelu")
    qkv_bias: bool = static(False)
    norm_eps: float = static(1e-6, gt=0.0)
    init_std: float = per_member(0.02, gt=0.0)
    attention: AttentionSpec = static(Softmax())
    causal: bool = static(False, later=True)
    norm: Literal["layer", "none"] = static("layer", later=True)
    has_mlp: bool = static(True, later=True)
    clamp: Literal["none", "previous_token"] = static("none", later=True)
    init: Literal["same", "scaled"] = static("same", later=True)

    @model_validator(mode="after")
    def _relative_positions_look_back(self) -> Transformer:
        if self.positions == "relative" and not self.causal:
            raise ValueError("causal to be true where positions are relative, since distances are counted backwards")
        return self

    def build(self, shapes: Shapes) -> Encoder:
        """Layers for a task's shapes, parameters still without values."""
        from workloads.models.encoder import Encoder

        return Encoder(self, shapes)
