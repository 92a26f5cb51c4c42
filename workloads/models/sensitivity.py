"""What layers of attention read and make of it; and how much that would change with each token's part.

With z = softmax(c·S) v the answer of a head to every token, the sensitivity of a token is |d(sum of z's entries)/dX|, X
its query, key or value, the mean over X's numbers. Of values it is the attention that the token receives.

Source: Hoffmann et al. 2024, arXiv 2310.12956 (their scores of indicator and target regions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from workloads.layers import SelfAttention

MOST_EXAMPLES = 64  # of a batch: enough for a mean, and a fraction of the batch's memory


def sensitivities(model: nn.Module, x: Tensor, controls: Mapping[str, Tensor]) -> list[Tensor]:
    """Of each layer: `(3, K, B, H, T)`, queries, keys, values, for the first examples of pixels `x (K, B, …)`.

    Checked by: test_mosaic_measures.py::test_sensitivities_are_those_of_one_head_written_out
    """
    layers = [block.attention for block in model.blocks]  # type: ignore[union-attr]
    inputs = read_by(model, layers, x[:, :MOST_EXAMPLES], controls)
    found = []
    for layer, read in zip(layers, inputs, strict=True):
        with torch.enable_grad():
            heads = heads_of(layer, read, controls["multiplier"], trained=True)
            gradients = torch.autograd.grad(heads["z"].sum(), [heads[part] for part in "qkv"])
        found.append(torch.stack(gradients).abs().mean(-1))
    return found


def read_by(model: nn.Module, layers: Sequence[nn.Module], x: Tensor, controls: Mapping[str, Tensor]) -> list[Tensor]:
    """What each of some layers is handed first, while a model answers to `x`."""
    inputs: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for layer in layers]
    try:
        with torch.no_grad():
            model(x, **controls)
    finally:
        for hook in hooks:
            hook.remove()
    return inputs


def heads_of(attention: Any, x: Tensor, multiplier: Tensor, *, trained: bool = False) -> dict[str, Tensor]:
    """Queries `q`, keys `k`, values `v` and answers `z (K, B, H, T, d)` of a layer that reads `(K, T, B, D)`.

    Args:
        attention: the layer.
        x: what it reads.
        multiplier: of its scores, one a run `(K,)`.
        trained: gradients flow from z to q, k and v.
    """
    layer: SelfAttention = attention
    q, k, v = (part.detach().requires_grad_(trained) for part in layer._heads(x, layer.qkv, 0, 3).unbind(0))
    weights = layer._weights(q @ k.mT, multiplier.view(-1, 1, 1, 1, 1), keys_axis=4)
    return {"q": q, "k": k, "v": v, "z": weights @ v}
