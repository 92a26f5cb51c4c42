"""Reaching into a model's forward pass from outside, by module hooks: nothing of the engine knows of probes.

Attention writes its heads' outputs side by side and hands them to its map `out`; that is where they are read and
replaced, whichever way they were computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workloads.functions import settled
from workloads.layers import SelfAttention

Change = Callable[[Tensor], Tensor]  # heads' outputs (K, queries, B, H, d) to others


def attentions(model: nn.Module) -> list[SelfAttention]:
    """The model's attention layers, first to last."""
    return [module for module in model.modules() if isinstance(module, SelfAttention)]


@contextmanager
def heads_changed(attention: SelfAttention, change: Change) -> Iterator[None]:
    """Within, what the heads of a layer write is changed before it is read."""

    def before(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        mixed, *rest = given
        heads = mixed.unflatten(-1, (attention.heads, -1))
        return (settled(change(heads).flatten(-2)), *rest)

    with _hooked(attention.out.register_forward_pre_hook(before)):
        yield


@contextmanager
def heads_read(attention: SelfAttention) -> Iterator[list[Tensor]]:
    """Collects what the heads of a layer write in each pass `(K, queries, B, H, d)`."""
    found: list[Tensor] = []

    def keep(heads: Tensor) -> Tensor:
        found.append(heads)
        return heads

    with heads_changed(attention, keep):
        yield found


@contextmanager
def maps_replaced(attention: SelfAttention, maps: dict[int, Tensor]) -> Iterator[None]:
    """Within, some heads attend by given maps `(K, queries, T)`, by head, whatever they would attend to."""
    inputs: list[Tensor] = []

    def change(heads: Tensor) -> Tensor:
        values = values_of(attention, inputs.pop())  # (K, T, B, H, d)
        changed = settled(heads.clone())
        for head, weights in maps.items():
            pairs = zip(weights, values[..., head, :], strict=True)  # one by one: bits do not depend on the company
            changed[..., head, :] = torch.stack([torch.einsum("qt,tbd->qbd", *pair) for pair in pairs])
        return changed

    with ExitStack() as stack:
        hook = attention.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        stack.enter_context(_hooked(hook))
        stack.enter_context(heads_changed(attention, change))
        yield


def values_of(attention: SelfAttention, x: Tensor) -> Tensor:
    """What every position offers to those that attend to it: `(K, T, B, D)` to `(K, T, B, H, d)`."""
    width = x.shape[-1]
    pairs = zip(x, attention.qkv[..., 2 * width :], strict=True)
    values = torch.stack([torch.einsum("tbd,de->tbe", *pair) for pair in pairs])
    if attention.qkv_bias is not None:
        values = values + attention.qkv_bias[:, None, None, 2 * width :]
    return values.unflatten(-1, (attention.heads, -1))


@contextmanager
def states_read(model: Any) -> Iterator[list[Tensor]]:
    """Collects the residual stream before the first block and behind each `(K, T, B, D)`; one pass alone."""
    found: list[Tensor] = []
    with ExitStack() as stack:
        first = model.blocks[0].register_forward_pre_hook(lambda _, given: found.append(given[0]))
        stack.enter_context(_hooked(first))
        for block in model.blocks:
            stack.enter_context(_hooked(block.register_forward_hook(lambda _, __, out: found.append(out))))
        yield found


@contextmanager
def _hooked(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
