"""The one file that knows the cohort axis: every layer and loss here carries K by hand.

A model is written for one run: its parameters are declared without K, and its code addresses
trailing axes only. `workloads/rows.py` then backs each parameter with a `(K, …)` view of one flat
buffer, so activations come in as `(K, T, B, D)` and members never mix: no operation here reduces
over K.

Positions come before examples so that attention over short sequences can run with the examples
as vector lanes: on one AVX-512 core at T=6, d=8, B=64 that took 0.10 ms a run and step, forward
and backward, against 0.54 ms for batched 6×6 matrix products and 0.39 ms for the fused kernel,
whose backward moreover gave other bits in other company (torch 2.13).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Init = Literal["normal", "zeros", "ones"]
LANES_UP_TO = 32  # positions; beyond, batched matrix products win
SMALLEST_STATISTIC = 1e-6  # a query whose scores are all equal has no spread to divide by


class Layer(nn.Module):
    """A module whose parameters are declared for one run, with the rule that fills them."""

    def __init__(self) -> None:
        super().__init__()
        self.inits: dict[str, Init] = {}

    def declare(self, name: str, *shape: int, init: Init) -> None:
        """One parameter of one run; it gets its storage, with K in front, when the cohort is made."""
        self.register_parameter(name, nn.Parameter(torch.empty(shape, device="meta")))
        self.inits[name] = init


class Linear(Layer):
    """x W + b over the last axis."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, d_in: int, d_out: int, *, bias: bool = True):
        super().__init__()
        self.declare("weight", d_in, d_out, init="normal")
        if bias:
            self.declare("bias", d_out, init="zeros")
        else:
            self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        """`(K, …, d_in)` to `(K, …, d_out)`."""
        rows = x.flatten(1, -2)  # (K, N, d_in)
        if self.bias is None:
            out = torch.bmm(rows, self.weight)
        else:
            out = torch.baddbmm(self.bias[:, None], rows, self.weight)
        return out.view(*x.shape[:-1], out.shape[-1])


class LayerNorm(Layer):
    """Normalises the last axis, then scales and shifts by each member's own values."""

    gain: nn.Parameter
    shift: nn.Parameter

    def __init__(self, width: int, *, eps: float):
        super().__init__()
        self.eps = eps
        self.declare("gain", width, init="ones")
        self.declare("shift", width, init="zeros")

    def forward(self, x: Tensor) -> Tensor:
        """`(K, …, D)` to the same."""
        normed = F.layer_norm(x, x.shape[-1:], eps=self.eps)
        return torch.addcmul(per_run(self.shift, like=x), normed, per_run(self.gain, like=x))


class Vectors(Layer):
    """A learned `(rows, D)` table: positions, read-out tokens."""

    table: nn.Parameter

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.declare("table", rows, width, init="normal")

    def forward(self, batch: int) -> Tensor:
        """The table for every example: `(K, rows, B, D)`."""
        return self.table[:, :, None].expand(-1, -1, batch, -1)


class SelfAttention(Layer):
    """Multi-head self-attention; each member has its own multiplier c of the scores.

    Args:
        width: residual width D.
        heads: heads H.
        statistic: `none` for softmax(c·S); `var`, `std` for softmax(S / min(1/c, statistic)).
        qkv_bias: biases on the query, key and value maps.
    """

    qkv: nn.Parameter
    qkv_bias: nn.Parameter | None

    def __init__(self, width: int, heads: int, *, statistic: str, qkv_bias: bool):
        super().__init__()
        self.heads, self.statistic = heads, statistic
        self.declare("qkv", width, 3 * width, init="normal")
        if qkv_bias:
            self.declare("qkv_bias", 3 * width, init="zeros")
        else:
            self.register_parameter("qkv_bias", None)
        self.out = Linear(width, width)

    def forward(
        self, x: Tensor, multiplier: Tensor, *, queries: int | None = None, maps: list[Tensor] | None = None
    ) -> Tensor:
        """Mix positions.

        Args:
            x: `(K, T, B, D)`.
            multiplier: c of each member `(K,)`.
            queries: only the first so many positions ask; None is all of them.
            maps: receives the weights `(K, B, H, queries, T)` if given.

        Returns:
            `(K, queries, B, D)`.
        """
        q = self._project(x if queries is None else x[:, :queries], 0, 1)[:, 0]  # (K, H, d, Q, B)
        key, v = self._project(x, 1, 3).unbind(1)  # (K, H, d, T, B) each
        short = x.shape[1] <= LANES_UP_TO
        scores = Scores.apply(q, key) if short else _long_scores(q, key)
        weights = self._weights(scores, multiplier.view(-1, 1, 1, 1, 1), keys_axis=3 if short else 4)
        if maps is not None:
            maps.append(weights.permute(0, 4, 1, 2, 3) if short else weights.transpose(1, 2))
        mixed = Mix.apply(weights, v) if short else _long_mix(weights, v)  # (K, H, d, Q, B)
        rows = mixed.flatten(3).flatten(1, 2).transpose(1, 2)  # (K, Q·B, D)
        return self.out(rows).unflatten(1, mixed.shape[3:])

    def _project(self, x: Tensor, first: int, last: int) -> Tensor:
        """Thirds `first` to `last` of the query, key and value maps: `(K, thirds, H, d, T, B)`."""
        k, t, b, d = x.shape
        weight = self.qkv[:, :, first * d : last * d].transpose(1, 2)
        columns = x.flatten(1, 2).transpose(1, 2)
        if self.qkv_bias is None:
            out = torch.bmm(weight, columns)
        else:
            out = torch.baddbmm(self.qkv_bias[:, first * d : last * d, None], weight, columns)
        return out.view(k, last - first, self.heads, d // self.heads, t, b)

    def _weights(self, scores: Tensor, c: Tensor, *, keys_axis: int) -> Tensor:
        if self.statistic == "none":
            return (scores * c).softmax(keys_axis)
        if self.statistic == "var":
            spread = scores.var(keys_axis, correction=0, keepdim=True)
        else:
            spread = scores.var(keys_axis, correction=1, keepdim=True).clamp_min(SMALLEST_STATISTIC**2).sqrt()
        return (scores / torch.minimum(1.0 / c, spread.clamp_min(SMALLEST_STATISTIC))).softmax(keys_axis)


class Scores(torch.autograd.Function):
    """q·k for every pair of positions, examples as lanes: `(K, H, d, Q, B)`, `(K, H, d, T, B)` to `(K, H, Q, T, B)`."""

    @staticmethod
    def forward(ctx, q, key):  # type: ignore[no-untyped-def]  # noqa: D102
        ctx.save_for_backward(q, key)
        return _contract_features(q, key)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # noqa: D102
        q, key = ctx.saved_tensors
        return _contract_keys(grad, key), _contract_queries(grad, q)


class Mix(torch.autograd.Function):
    """Weighted sum of values, examples as lanes: `(K, H, Q, T, B)`, `(K, H, d, T, B)` to `(K, H, d, Q, B)`."""

    @staticmethod
    def forward(ctx, weights, v):  # type: ignore[no-untyped-def]  # noqa: D102
        ctx.save_for_backward(weights, v)
        return _contract_keys(weights, v)

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


class Settled(torch.autograd.Function):
    """The same values, laid out contiguously both ways.

    With one head a permuted operand of one member happens to be contiguous and that of several is not;
    matrix products then take different routes, and their bits would depend on the company.
    """

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]  # noqa: D102
        return x.contiguous()

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]  # noqa: D102
        return grad.contiguous()


settled = Settled.apply


def _long_scores(q: Tensor, key: Tensor) -> Tensor:
    """Like `Scores`, as batched matrix products: `(K, H, B, Q, T)`."""
    return settled(q.permute(0, 1, 4, 3, 2)) @ settled(key.permute(0, 1, 4, 2, 3))


def _long_mix(weights: Tensor, v: Tensor) -> Tensor:
    """Like `Mix`, for weights `(K, H, B, Q, T)`."""
    return settled(weights @ settled(v.permute(0, 1, 4, 3, 2))).permute(0, 1, 4, 3, 2)


def per_run(values: Tensor, *, like: Tensor) -> Tensor:
    """`(K, D)` shaped to combine with `(K, …, D)`."""
    return values.view(values.shape[0], *[1] * (like.dim() - 2), values.shape[-1])


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each member [nats]: logits `(K, B, C)`, labels `(K, B)` to `(K,)`."""
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(1)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of right answers of each member [fraction]: `(K, B, C)`, `(K, B)` to `(K,)`."""
    return (logits.argmax(-1) == labels).float().mean(1)


def attention_entropy(weights: Tensor) -> Tensor:
    """Mean entropy of each member's attention rows [nats]: `(K, B, H, T, T)` to `(K,)`."""
    return torch.special.entr(weights).sum(-1).flatten(1).mean(1)
