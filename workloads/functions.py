"""Functions with gradients of their own: sums over lanes of examples, gradients brought to one size, fixed layouts."""

from __future__ import annotations

import torch
from torch import Tensor


class Scores(torch.autograd.Function):
    """q·k for every pair of positions, examples as lanes: `(K, H, d, Q, B)`, `(K, H, d, T, B)` to `(K, H, Q, T, B)`."""

    @staticmethod
    def forward(q, key):  # type: ignore[no-untyped-def]  # noqa: D102
        return _contract_features(q, key)

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]  # noqa: D102
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # noqa: D102
        q, key = ctx.saved_tensors
        return _contract_keys(grad, key), _contract_queries(grad, q)


class Mix(torch.autograd.Function):
    """Weighted sum of values, examples as lanes: `(K, H, Q, T, B)`, `(K, H, d, T, B)` to `(K, H, d, Q, B)`."""

    @staticmethod
    def forward(weights, v):  # type: ignore[no-untyped-def]  # noqa: D102
        return _contract_keys(weights, v)

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]  # noqa: D102
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # noqa: D102
        weights, v = ctx.saved_tensors
        return _contract_features(grad, v), _contract_queries(weights, grad)


def _contract_features(q: Tensor, key: Tensor) -> Tensor:
    """Sum over d of q[d, i]·k[d, j]."""
    out = q[:, :, 0, :, None] * key[:, :, 0, None]
    for d in range(1, q.shape[2]):
        out.addcmul_(q[:, :, d, :, None], key[:, :, d, None])
    return out


def _contract_keys(pairs: Tensor, key: Tensor) -> Tensor:
    """Sum over j of pairs[i, j]·k[d, j]."""
    out = pairs[:, :, None, :, 0] * key[:, :, :, None, 0]
    for j in range(1, key.shape[3]):
        out.addcmul_(pairs[:, :, None, :, j], key[:, :, :, None, j])
    return out


def _contract_queries(pairs: Tensor, q: Tensor) -> Tensor:
    """Sum over i of pairs[i, j]·q[d, i]."""
    out = pairs[:, :, None, 0] * q[:, :, :, None, 0]
    for i in range(1, q.shape[3]):
        out.addcmul_(pairs[:, :, None, i], q[:, :, :, None, i])
    return out


class Evened(torch.autograd.Function):
    """The query, key and value maps `(K, D, 3·D)` as they are, with their gradients brought to one size.

    The size of a part is the mean of its absolute values; its gradient is multiplied by the wanted size over its own.
    `mean`: each third gets the mean size of all three; `value`: that of the values; `head_value`: so head by head.

    Source: Hoffmann et al. 2024, arXiv 2310.12956 (their baselines that rescale gradients).
    """

    @staticmethod
    def forward(qkv, heads, how):  # type: ignore[no-untyped-def]  # noqa: D102
        return qkv.view_as(qkv)

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]  # noqa: D102
        _, ctx.heads, ctx.how = inputs

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # noqa: D102
        k, width, _ = grad.shape
        parts = 1 if ctx.how in ("mean", "value") else ctx.heads
        split = grad.reshape(k, width, 3, parts, -1)
        rows = split.abs().permute(0, 2, 3, 1, 4).reshape(k * 3 * parts, -1)  # so that each sum is a row's
        sizes = rows.mean(1).view(k, 3, parts)
        wanted = sizes.mean(1, keepdim=True) if ctx.how == "mean" else sizes[:, 2:]
        factors = wanted / sizes.clamp_min(torch.finfo(grad.dtype).tiny)
        return (split * factors[:, None, :, :, None]).view(grad.shape), None, None


class Settled(torch.autograd.Function):
    """The same values, laid out contiguously both ways.

    With one head a permuted operand of one member happens to be contiguous and that of several is not;
    matrix products then take different routes, and their bits would depend on the company.
    """

    @staticmethod
    def forward(x):  # type: ignore[no-untyped-def]  # noqa: D102
        return x.contiguous()

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]  # noqa: D102
        pass

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # noqa: D102
        return grad.contiguous()


settled = Settled.apply
