"""Applies an optimiser to rows: each member with its own hyperparameters, no arithmetic across rows.

Two routes with the same formulas. On CPU every row gets one call of torch's fused kernel, which
reads and writes each value once; elsewhere whole `(K, P)` buffers move together, with what each step
needs in `(K, 1)` columns that were on the device before it began. The routes round differently, so a
device keeps to its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from workloads.optimisers import SGD, SGDYZ, AdamW, OptimSpec
from workloads.rows import NO_DECAY, Segment

STATE_NAMES: dict[str, tuple[str, ...]] = {
    "adamw": ("mean", "square"),
    "adam": ("mean", "square"),
    "adam_yz": ("mean", "square"),
    "sgd": ("velocity",),
    "sgd_yz": ("velocity",),
}
Turn = tuple[int, OptimSpec, int, int]  # slot, optimiser, step, budget steps


class RowOptimiser:
    """Optimiser state of a cohort, one row a member.

    Args:
        name: the optimiser that every member uses.
        like: the parameter rows `(K, P)`.
        segments: the groups of parameters, which may have learning rates of their own.

    Attributes:
        frozen: of each slot, the segments that do not move.
    """

    def __init__(self, name: str, like: Tensor, segments: Sequence[Segment]):
        self.name, self.segments = name, tuple(segments)
        self.frozen = [frozenset[int]()] * len(like)
        self.state = {part: torch.zeros_like(like) for part in STATE_NAMES[name]}
        lengths = [segment.stop - segment.start for segment in self.segments]
        self._lengths = torch.tensor(lengths, device=like.device)
        decays = torch.tensor([float(segment.group != NO_DECAY) for segment in self.segments], device=like.device)
        self._decayed = None if decays.all() else decays.repeat_interleave(self._lengths)  # (P,)

    def step_rows(self, rows: Tensor, grads: Tensor, norms: Tensor, turns: Sequence[Turn]) -> None:
        """One update of the rows that `turns` lists, in place, from the specs; other rows do not move."""
        for slot, optim, step, budget_steps in turns:
            if optim.clip_norm is not None:
                grads[slot].mul_((optim.clip_norm / (norms[slot] + CLIP_EPS)).clamp_max(1.0))
            buffers = [rows[slot], grads[slot], *(self.state[part][slot] for part in STATE_NAMES[self.name])]
            for index, segment in enumerate(self.segments):
                if index in self.frozen[slot]:
                    continue
                lr = optim.rate(step=step, budget_steps=budget_steps, group=segment.group)
                whole = len(self.segments) == 1
                parts = buffers if whole else [buffer[segment.start : segment.stop] for buffer in buffers]
                decay = 0.0 if segment.group == NO_DECAY else optim.weight_decay
                _fused(parts, optim, lr=lr, decay=decay, step=step)

    def step_columns(self, rows: Tensor, grads: Tensor, norms: Tensor, columns: Tensor) -> None:
        """The same formulas on whole buffers, from `columns_of` every row `(K, columns)`."""
        common, own = columns[:, : len(COLUMNS)], columns[:, len(COLUMNS) :]
        decay, beta1, beta2, eps, first, root, most = common[:, :, None].unbind(1)  # (K, 1) each
        lr = own if len(self.segments) == 1 else own.repeat_interleave(self._lengths, dim=1, output_size=rows.shape[1])
        grads.mul_((most / (norms[:, None] + CLIP_EPS)).clamp_max(1.0))
        if self._decayed is not None:
            decay = decay * self._decayed
        if self.name == "adamw":
            rows.mul_(1.0 - lr * decay)
        else:
            grads = torch.addcmul(grads, rows, decay)
        if "velocity" in self.state:
            velocity = self.state["velocity"]
            velocity.mul_(beta1).add_(grads)
            rows.addcmul_(velocity, -lr)
            return
        mean, square = self.state["mean"], self.state["square"]
        mean.mul_(beta1).addcmul_(grads, 1.0 - beta1)
        square.mul_(beta2).addcmul_(grads * grads, 1.0 - beta2)
        rows.addcdiv_(mean * (-lr * first), square.sqrt().mul_(root).add_(eps))


def _fused(buffers: Sequence[Tensor], optim: OptimSpec, *, lr: float, decay: float, step: int) -> None:
    """One call of torch's kernel on part of a row: weights, gradient, state."""
    row, grad, *state = buffers
    if isinstance(optim, SGD | SGDYZ):
        velocity = state if optim.momentum else []  # the kernel refuses one that it does not need
        torch._fused_sgd_(
            [row], [grad], velocity, weight_decay=decay, momentum=optim.momentum, lr=lr,
            dampening=0.0, nesterov=False, maximize=False, is_first_step=False,
        )  # fmt: skip
        return
    kernel: Any = torch._fused_adamw_ if isinstance(optim, AdamW) else torch._fused_adam_
    kernel(
        [row], [grad], *([part] for part in state), [], [torch.tensor(float(step + 1))], lr=lr, beta1=optim.beta1,
        beta2=optim.beta2, weight_decay=decay, eps=optim.eps, amsgrad=False, maximize=False,
    )  # fmt: skip


CLIP_EPS = 1e-6  # as torch.nn.utils.clip_grad_norm_ has it
COLUMNS = ("decay", "beta1", "beta2", "eps", "first", "root", "clip_norm")  # and then a rate for each segment


def columns_of(
    optim: OptimSpec,
    segments: Sequence[Segment],
    *,
    step: int,
    budget_steps: int,
    frozen: Collection[int] = (),
) -> tuple[float, ...]:
    """What a step's update is made of, bias corrections included: `COLUMNS`, then the segments' learning rates.

    Segments that are frozen have a rate of 0, with which nothing of them moves.

    Clipping follows Pascanu et al. 2013, arXiv 1211.5063.
    """
    most = float("inf") if optim.clip_norm is None else optim.clip_norm
    rates = [
        0.0 if index in frozen else optim.rate(step=step, budget_steps=budget_steps, group=segment.group)
        for index, segment in enumerate(segments)
    ]
    if isinstance(optim, SGD | SGDYZ):
        return (optim.weight_decay, optim.momentum, 0.0, 0.0, 1.0, 1.0, most, *rates)
    first = 1.0 / (1.0 - optim.beta1 ** (step + 1))
    root = (1.0 - optim.beta2 ** (step + 1)) ** -0.5
    return (optim.weight_decay, optim.beta1, optim.beta2, optim.eps, first, root, most, *rates)
