"""The layers that models are made of, which carry the cohort's axis K by hand (so do `functions.py` and `scores.py`).

A model is written for one run: its parameters are declared without K, and its code addresses
trailing axes only. `workloads/rows.py` then backs each parameter with a `(K, …)` view of one flat
buffer, so activations come in as `(K, T, B, D)` and members never mix: no operation here reduces
over K.

Attention has two routes. Over few positions the examples are vector lanes: on one AVX-512 core at T=6,
d=8, B=64 that took 0.12 ms a run, forward and backward, against 0.5 ms for batched 6×6 matrix products
(and for the fused kernel, whose backward moreover gave other bits in other company, torch 2.13). Over
many positions the products win: at T=20, d=16, B=64 they took 0.8 ms, the lanes 1.6 ms.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.functions import Evened, Mix, Scores, settled
from workloads.seen import Seen

Init = Literal["normal", "truncated", "zeros", "ones", "own"]
Sources = tuple[tuple[int, ...], ...] | None
LANES_UP_TO = 12  # positions; beyond, batched matrix products win
SMALLEST_STATISTIC = 1e-6  # a query whose scores are all equal has no spread to divide by


class Layer(nn.Module):
    """A module whose parameters are declared for one run, with the rule that fills them.

    Attributes:
        init_scale: of what is drawn normal, in units of the run's initial scale.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inits: dict[str, Init] = {}
        self.groups: dict[str, str] = {}
        self.init_scale = 1.0

    def declare(self, name: str, *shape: int, init: Init, group: str = "") -> None:
        """One parameter of one run; it gets its storage, with K in front, when the cohort is made.

        Args:
            name: attribute of the layer.
            *shape: without K.
            init: the rule that fills it.
            group: what optimisers may tell apart, such as parts with learning rates of their own.
        """
        self.register_parameter(name, nn.Parameter(torch.empty(shape, device="meta")))
        self.inits[name], self.groups[name] = init, group


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
        if self.weight.shape[-1] == 1:  # a product with one column takes another route for one member than for several
            out = (rows * self.weight.mT).sum(-1, keepdim=True)
            out = out if self.bias is None else out + self.bias[:, None]
        elif self.bias is None:
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


class Words(Layer):
    """A learned vector for each word of a vocabulary."""

    table: nn.Parameter

    def __init__(self, vocabulary: int, width: int):
        super().__init__()
        self.declare("table", vocabulary, width, init="normal")

    def forward(self, words: Tensor) -> Tensor:
        """Words `(K, …)` to vectors `(K, …, D)`."""
        k, vocabulary, width = self.table.shape
        offsets = torch.arange(0, k * vocabulary, vocabulary, device=words.device).view(k, *[1] * (words.dim() - 1))
        index, table = words + offsets, self.table.flatten(0, 1)
        if words.is_cuda:
            return F.embedding(index, table)  # its backward sums in a fixed order there
        return table.index_select(0, index.flatten()).view(*words.shape, width)  # a third of the time here


class SelfAttention(Layer):
    """Multi-head self-attention; each member has its own multiplier c of the scores.

    Args:
        width: residual width D.
        heads: heads H.
        statistic: `none` for softmax(c·S); `var`, `std` for softmax(S / min(1/c, statistic)); `linear` for c·S itself.
        qkv_bias: biases on the query, key and value maps.
        causal: a position attends to itself and those before it alone.
        sources: for each position, those that its answer comes from; `linear` weights on them can be favoured.
        looks_back: the first head looks at the position before alone, whatever its scores (position 0 at itself).
        gradient: how sizes of the gradients of queries, keys and values are evened out; see `Evened`.
        distances: keys get a learned vector for each of so many distances, 0 the first; 0 is none. Causal alone.
    """

    qkv: nn.Parameter
    qkv_bias: nn.Parameter | None
    back: nn.Parameter | None

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        statistic: str,
        qkv_bias: bool,
        causal: bool = False,
        sources: Sources = None,
        looks_back: bool = False,
        gradient: str = "plain",
        distances: int = 0,
    ):
        super().__init__()
        self.looks_back, self.gradient = looks_back, gradient
        self.heads, self.statistic, self.causal, self.sources = heads, statistic, causal, sources
        self.declare("qkv", width, 3 * width, init="normal")
        if qkv_bias:
            self.declare("qkv_bias", 3 * width, init="zeros")
        else:
            self.register_parameter("qkv_bias", None)
        self.out = Linear(width, width)
        if distances:
            self.declare("back", distances, width, init="normal")
        else:
            self.register_parameter("back", None)

    def forward(
        self,
        x: Tensor,
        multiplier: Tensor,
        *,
        favour: Tensor | None = None,
        queries: int | None = None,
        seen: Seen | None = None,
    ) -> Tensor:
        """Mix positions.

        Args:
            x: `(K, T, B, D)`.
            multiplier: c of each member `(K,)`.
            favour: further multiplier `(K,)` of linear weights on an answer's sources.
            queries: only the first so many positions ask; None is all of them.
            seen: receives the weights `(K, B, H, queries, T)` if given.

        Returns:
            `(K, queries, B, D)`.
        """
        by_lanes = x.shape[1] <= LANES_UP_TO and self.back is None
        c = multiplier.view(-1, 1, 1, 1, 1)
        if favour is not None and self.sources is not None:
            marks = marked(self.sources, -2 if by_lanes else -1, x.device)
            c = c * (1.0 + (favour.view(-1, 1, 1, 1, 1) - 1.0) * marks[:queries])
        qkv = self.qkv if self.gradient == "plain" else Evened.apply(self.qkv, self.heads, self.gradient)
        return self.out((self._by_lanes if by_lanes else self._by_products)(x, qkv, c, queries, seen))

    def _by_lanes(self, x: Tensor, qkv: Tensor, c: Tensor, queries: int | None, seen: Seen | None) -> Tensor:
        """Examples last, so that every sum over features or keys runs over whole vectors of them."""
        q = self._columns(x[:, :queries], qkv, 0, 1)[:, 0]  # (K, H, d, Q, B)
        key, v = self._columns(x, qkv, 1, 3).unbind(1)  # (K, H, d, T, B) each
        weights = self._weights(Scores.apply(q, key), c, keys_axis=3)  # (K, H, Q, T, B)
        if seen is not None:
            seen.attention.append(weights.permute(0, 4, 1, 2, 3))
        mixed = Mix.apply(weights, v)  # (K, H, d, Q, B)
        return mixed.flatten(3).flatten(1, 2).transpose(1, 2).unflatten(1, mixed.shape[3:])

    def _columns(self, x: Tensor, qkv: Tensor, first: int, last: int) -> Tensor:
        """Thirds `first` to `last` of the query, key and value maps: `(K, thirds, H, d, T, B)`."""
        k, t, b, d = x.shape
        weight = qkv[:, :, first * d : last * d].transpose(1, 2)
        columns = x.flatten(1, 2).transpose(1, 2)
        if self.qkv_bias is None:
            out = torch.bmm(weight, columns)
        else:
            out = torch.baddbmm(self.qkv_bias[:, first * d : last * d, None], weight, columns)
        return out.view(k, last - first, self.heads, d // self.heads, t, b)

    def _by_products(self, x: Tensor, qkv: Tensor, c: Tensor, queries: int | None, seen: Seen | None) -> Tensor:
        """A matrix product for every example and head."""
        if queries is None:
            q, key, v = self._heads(x, qkv, 0, 3).unbind(0)  # (K, B, H, T, d) each
        else:
            [q], (key, v) = self._heads(x[:, :queries], qkv, 0, 1), self._heads(x, qkv, 1, 3)
        scores = q @ key.mT
        if self.back is not None:
            scores = scores + self._by_distance(q, self.back)
        weights = self._weights(scores, c, keys_axis=4)  # (K, B, H, Q, T)
        if seen is not None:
            seen.attention.append(weights)
        return settled((weights @ v).permute(0, 3, 1, 2, 4)).flatten(3)

    def _by_distance(self, q: Tensor, back: Tensor) -> Tensor:
        """q·r, r the vector of the distance from query to key: `(K, B, H, T, d)` to `(K, B, H, T, T)`.

        The vectors `(K, distances, D)` lie with the farthest first. Behind the diagonal the result means nothing.
        """
        k, b, h, t, d = q.shape
        rows = settled(q.transpose(1, 2)).view(k * h, b * t, d)
        vectors = settled(back[:, -t:].unflatten(2, (h, d)).permute(0, 2, 3, 1)).view(k * h, d, t)
        scores = torch.bmm(rows, vectors).view(k, h, b, t, t).transpose(1, 2)
        # with one column more, and read in rows of t, each query's row moves by one against the one before
        return F.pad(scores, (1, 0)).reshape(k, b, h, t + 1, t)[..., 1:, :]

    def _heads(self, x: Tensor, qkv: Tensor, first: int, last: int) -> Tensor:
        """Thirds `first` to `last` of the query, key and value maps: `(thirds, K, B, H, T, d)`."""
        d = x.shape[-1]
        rows, weight = x.flatten(1, 2), qkv[:, :, first * d : last * d]
        if self.qkv_bias is None:
            out = torch.bmm(rows, weight)
        else:
            out = torch.baddbmm(self.qkv_bias[:, None, first * d : last * d], rows, weight)
        thirds = out.view(*x.shape[:3], last - first, self.heads, d // self.heads)
        return settled(thirds.permute(3, 0, 2, 4, 1, 5))

    def _weights(self, scores: Tensor, c: Tensor, *, keys_axis: int) -> Tensor:
        if not self.looks_back:
            return self._free_weights(scores, c, keys_axis=keys_axis)
        before = tuple((max(0, at - 1),) for at in range(scores.shape[keys_axis]))
        heads_axis = keys_axis - 2
        clamped, free = scores.narrow(heads_axis, 0, 1), scores.narrow(heads_axis, 1, self.heads - 1)
        back = marked(before, keys_axis - scores.dim(), scores.device).expand_as(clamped)
        return torch.cat([back, self._free_weights(free, c, keys_axis=keys_axis)], heads_axis)

    def _free_weights(self, scores: Tensor, c: Tensor, *, keys_axis: int) -> Tensor:
        barred = None
        if self.causal:
            barred = causal_bar(scores.shape[keys_axis], keys_axis - scores.dim(), scores.device)
        if self.statistic == "linear":
            return scores * (c if barred is None else c * barred.exp())
        if self.statistic != "none":
            scores = scores / torch.minimum(1.0 / c, self._spread(scores, barred, keys_axis))
            return (scores if barred is None else scores + barred).softmax(keys_axis)
        return (scores * c if barred is None else torch.addcmul(barred, scores, c)).softmax(keys_axis)

    def _spread(self, scores: Tensor, barred: Tensor | None, keys_axis: int) -> Tensor:
        """The statistic over each query's keys, those alone that it may look at."""
        correction = int(self.statistic == "std")
        if barred is None:
            spread = scores.var(keys_axis, correction=correction, keepdim=True)
        else:
            allowed = barred.exp()
            n = allowed.sum(keys_axis - scores.dim(), keepdim=True)
            centred = (scores - (scores * allowed).sum(keys_axis, keepdim=True) / n) * allowed
            spread = centred.square().sum(keys_axis, keepdim=True) / (n - correction).clamp_min(1.0)
        if self.statistic == "std":
            spread = spread.clamp_min(SMALLEST_STATISTIC**2).sqrt()
        return spread.clamp_min(SMALLEST_STATISTIC)


@functools.cache
def causal_bar(positions: int, keys_axis: int, device: torch.device) -> Tensor:
    """0 where a query may look, -inf where not: `(Q, T)`, or `(Q, T, 1)` where keys are the last axis but one."""
    bar = torch.full((positions, positions), -torch.inf, device=device).triu(1)
    return bar if keys_axis == -1 else bar[..., None]


@functools.cache
def marked(sources: tuple[tuple[int, ...], ...], keys_axis: int, device: torch.device) -> Tensor:
    """1 where a query's answer comes from, 0 elsewhere: in the shapes of `causal_bar`."""
    marks = torch.tensor([[float(key in keys) for key in range(len(sources))] for keys in sources], device=device)
    return marks if keys_axis == -1 else marks[..., None]


def per_run(values: Tensor, *, like: Tensor) -> Tensor:
    """`(K, D)` shaped to combine with `(K, …, D)`."""
    return values.view(values.shape[0], *[1] * (like.dim() - 2), values.shape[-1])
