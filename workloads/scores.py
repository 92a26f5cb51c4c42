"""Losses, accuracies and measures of each member: nothing here sums over K."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each member [nats]: logits `(K, …, C)`, labels `(K, …)` to `(K,)`."""
    losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return losses.view(len(labels), -1).mean(1)


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: Tensor) -> Tensor:
    """Mean cross-entropy of each member with labels spread over all classes [nats].

    (1-s)·(-log p_label) + s·mean over classes of (-log p): logits `(K, B, C)`, labels and s `(K, B)`, to `(K,)`.

    Source: Szegedy et al. 2016, arXiv 1512.00567, section 7.
    """
    surprise = -logits.log_softmax(-1)
    on_label = surprise.gather(-1, labels[..., None])[..., 0]
    losses = torch.lerp(on_label, surprise.mean(-1), smoothing)
    return losses.flatten(1).mean(1)


def top_accuracy(logits: Tensor, labels: Tensor, *, best: int) -> Tensor:
    """How often the label is among so many best answers [fraction]: `(K, …, C)`, `(K, …)` to `(K,)`."""
    better = (logits > logits.gather(-1, labels[..., None])).sum(-1)
    return (better < best).float().flatten(1).mean(1)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of right answers of each member [fraction]: `(K, …, C)`, `(K, …)` to `(K,)`."""
    return (logits.argmax(-1) == labels).float().flatten(1).mean(1)


def squared_error(output: Tensor, wanted: Tensor) -> Tensor:
    """Half the squared length of each member's mean error: `(K, B, C)`, the same, to `(K,)`."""
    return 0.5 * (output - wanted).square().sum(-1).flatten(1).mean(1)


def shares(weights: Tensor) -> Tensor:
    """Sizes of each query's weights, made to add up to 1; a query without any weight has none."""
    sizes = weights.abs()
    return sizes / sizes.sum(-1, keepdim=True).clamp_min(torch.finfo(sizes.dtype).tiny)


def attention_entropy(weights: Tensor) -> Tensor:
    """Mean entropy of each member's attention rows [nats]: `(K, B, H, T, T)` to `(K,)`."""
    return torch.special.entr(weights).sum(-1).flatten(1).mean(1)
