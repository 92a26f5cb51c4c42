"""Applies an optimiser to rows: each member with its own hyperparameters, no arithmetic across rows.

Two routes with the same formulas. On CPU every row gets one call of torch's fused kernel, which
reads and writes each value once; elsewhere whole `(K, P)` buffers move together and the
hyperparameters are `(K, 1)` columns. The routes round differently, so a device keeps to its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workloads.optimisers import SGD, Adam, AdamW, OptimSpec

STATE_NAMES: dict[str, tuple[str, ...]] = {
    "adamw": ("mean", "square"),
    "adam": ("mean", "square"),
    "sgd": ("velocity",),
}
Turn = tuple[int, OptimSpec, int, int]  # slot, optimiser, step, budget steps


class RowOptimiser:
    """Optimiser state of a cohort, one row a member.

    Args:
        name: the optimiser that every member uses.
        like: the parameter rows `(K, P)`.
    """

    def __init__(self, name: str, like: Tensor):
        self.name = name
        self.state = {part: torch.zeros_like(like) for part in STATE_NAMES[name]}

    def step(self, rows: Tensor, grads: Tensor, turns: Sequence[Turn]) -> None:
        """One update of the rows that `turns` lists, in place; other rows do not move."""
        if rows.device.type == "cpu":
            for turn in turns:
                self._fused_row(rows[turn[0]], grads[turn[0]], turn)
        elif turns:
            self._all_rows(rows, grads, turns)

    def _fused_row(self, row: Tensor, grad: Tensor, turn: Turn) -> None:
        slot, optim, step, budget_steps = turn
        lr = optim.rate(step=step, budget_steps=budget_steps)
        state: list[Any] = [[self.state[part][slot]] for part in STATE_NAMES[self.name]]
        if isinstance(optim, SGD):
            velocity = state[0] if optim.momentum else []  # the kernel refuses one that it does not need
            torch._fused_sgd_(
                [row], [grad], velocity, weight_decay=optim.weight_decay, momentum=optim.momentum, lr=lr,
                dampening=0.0, nesterov=False, maximize=False, is_first_step=False,
            )  # fmt: skip
            return
        kernel: Any = torch._fused_adamw_ if isinstance(optim, AdamW) else torch._fused_adam_
        kernel(
            [row], [grad], *state, [], [torch.tensor(float(step + 1))], lr=lr, beta1=optim.beta1, beta2=optim.beta2,
            weight_decay=optim.weight_decay, eps=optim.eps, amsgrad=False, maximize=False,
        )  # fmt: skip

    def _all_rows(self, rows: Tensor, grads: Tensor, turns: Sequence[Turn]) -> None:
        """The same on buffers; slots without a turn have rate 0 and decay 0."""
        width = rows.shape[0]

        def column(values: Sequence[float], empty: float) -> Tensor:
            full = [empty] * width
            for (slot, *_), value in zip(turns, values, strict=True):
                full[slot] = value
            return torch.tensor(full, dtype=rows.dtype, device=rows.device)[:, None]

        specs = [optim for _, optim, _, _ in turns]
        rates = [optim.rate(step=step, budget_steps=budget) for _, optim, step, budget in turns]
        decay = [optim.weight_decay for optim in specs]
        if self.name == "adamw":
            rows.mul_(column([1.0 - lr * wd for lr, wd in zip(rates, decay, strict=True)], 1.0))
        else:
            grads = torch.addcmul(grads, rows, column(decay, 0.0))
        if self.name == "sgd":
            velocity = self.state["velocity"]
            velocity.mul_(column([optim.momentum for optim in specs if isinstance(optim, SGD)], 0.0)).add_(grads)
            rows.addcmul_(velocity, column([-lr for lr in rates], 0.0))
            return
        adams = [(optim, step + 1) for _, optim, step, _ in turns if isinstance(optim, AdamW | Adam)]
        mean, square = self.state["mean"], self.state["square"]
        mean.lerp_(grads, column([1.0 - optim.beta1 for optim, _ in adams], 0.0))
        square.mul_(column([optim.beta2 for optim, _ in adams], 1.0))
        square.addcmul_(grads * grads, column([1.0 - optim.beta2 for optim, _ in adams], 0.0))
        root = square.sqrt().mul_(column([(1.0 - optim.beta2**t) ** -0.5 for optim, t in adams], 1.0))
        root.add_(column([optim.eps for optim, _ in adams], 1.0))
        scale = [-lr / (1.0 - optim.beta1**t) for lr, (optim, t) in zip(rates, adams, strict=True)]
        rows.addcmul_(mean / root, column(scale, 0.0))


def clip(grads: Tensor, norms: Tensor, turns: Sequence[Turn]) -> None:
    """Scale each listed row of gradients `(K, P)` down to its member's `clip_norm`, in place.

    Args:
        grads: gradients.
        norms: their norms `(K,)`.
        turns: members that take a step.

    Source: Pascanu et al. 2013, arXiv 1211.5063.
    """
    for slot, optim, _, _ in turns:
        if optim.clip_norm is not None:
            grads[slot].mul_((optim.clip_norm / (norms[slot] + 1e-6)).clamp_max(1.0))
