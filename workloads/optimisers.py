"""Optimisers and learning-rate schedules as frozen specs; `workloads/update.py` applies them to rows."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workloads.fields import Frozen, per_member, static


class Constant(Frozen):
    """Linear warm-up over `warmup_steps`, then the learning rate as given."""

    name: Literal["constant"] = per_member("constant")
    warmup_steps: int = per_member(0, ge=0)

    def factor(self, *, step: int, budget_steps: int) -> float:
        """Multiplier of the learning rate at a step, in (0, 1]."""
        return min(1.0, (step + 1) / (self.warmup_steps + 1))


class Cosine(Frozen):
    """Linear warm-up, then a cosine from the full rate to `end_factor` of it at the budget's end.

    The fall is tied to the budget: runs with different budgets are then different treatments.

    Attributes:
        warmup_steps: length of the warm-up.
        end_factor: of the rate at the budget's end.
        warmup_from: factor of the very first step; None begins one of `warmup_steps` + 1 equal stairs above 0.
        epoch_steps: the rate changes once in so many steps.

    Source: Loshchilov and Hutter 2017, SGDR, arXiv 1608.03983.
    """

    name: Literal["cosine"] = per_member("cosine")
    warmup_steps: int = per_member(0, ge=0)
    end_factor: float = per_member(0.0, ge=0.0, le=1.0)
    warmup_from: float | None = per_member(None, later=True, ge=0.0, le=1.0)
    epoch_steps: int = per_member(1, later=True, ge=1)

    def factor(self, *, step: int, budget_steps: int) -> float:
        """Multiplier of the learning rate at a step, in [end_factor, 1] after the warm-up."""
        step -= step % self.epoch_steps
        if step < self.warmup_steps:
            if self.warmup_from is not None:
                return self.warmup_from + (1.0 - self.warmup_from) * step / self.warmup_steps
            return (step + 1) / (self.warmup_steps + 1)
        span = max(1, budget_steps - self.warmup_steps)
        done = min(1.0, (step - self.warmup_steps) / span)
        return self.end_factor + 0.5 * (1.0 - self.end_factor) * (1.0 + math.cos(math.pi * done))


ScheduleSpec = Annotated[Constant | Cosine, Field(discriminator="name")]


class _Rates(Frozen):
    """Learning rates, the same for every parameter or one for each part of a model."""

    PARTS: ClassVar[tuple[str, ...]] = ()  # parts that a model must have, since they have rates of their own

    def rate(self, *, step: int, budget_steps: int, group: str = "") -> float:
        """Learning rate of a group of parameters at a step."""
        schedule: Constant | Cosine = self.schedule  # type: ignore[attr-defined]  # every optimiser has one
        return self.lr_of(group) * schedule.factor(step=step, budget_steps=budget_steps)

    @abstractmethod
    def lr_of(self, group: str) -> float:
        """Full learning rate of a group of parameters."""


class _Optimiser(_Rates):
    """What every optimiser with one learning rate has.

    Attributes:
        lr: learning rate at the schedule's full height.
        weight_decay: decoupled in AdamW, added to the gradient in Adam and SGD.
        clip_norm: largest norm of a run's whole gradient; None leaves gradients alone.
        schedule: how the learning rate moves over the budget.
    """

    lr: float = per_member(gt=0.0)
    weight_decay: float = per_member(0.0, ge=0.0)
    clip_norm: float | None = per_member(None, gt=0.0)
    schedule: ScheduleSpec = static(Constant())

    def lr_of(self, group: str) -> float:
        """The same for all."""
        return self.lr


class _OfTables(_Rates):
    """What the optimisers of a table of scores and a table of answers have.

    Attributes:
        lr_z: learning rate of the scores, at the schedule's full height.
        lr_y: of the answers.
        weight_decay, clip_norm, schedule: as of every optimiser.
    """

    PARTS: ClassVar[tuple[str, ...]] = ("z", "y")

    lr_z: float = per_member(gt=0.0)
    lr_y: float = per_member(gt=0.0)
    weight_decay: float = per_member(0.0, ge=0.0)
    clip_norm: float | None = per_member(None, gt=0.0)
    schedule: ScheduleSpec = static(Constant())

    def lr_of(self, group: str) -> float:
        """Each table's own."""
        return {"z": self.lr_z, "y": self.lr_y}[group]


class AdamW(_Optimiser):
    """Adam with decoupled weight decay.

    Source: Loshchilov and Hutter 2019, arXiv 1711.05101.
    """

    name: Literal["adamw"] = static("adamw")
    weight_decay: float = per_member(0.01, ge=0.0)
    beta1: float = per_member(0.9, ge=0.0, lt=1.0)
    beta2: float = per_member(0.999, ge=0.0, lt=1.0)
    eps: float = per_member(1e-8, gt=0.0)


class Adam(_Optimiser):
    """Adam; weight decay, if any, is added to the gradient.

    Source: Kingma and Ba 2015, arXiv 1412.6980.
    """

    name: Literal["adam"] = static("adam")
    beta1: float = per_member(0.9, ge=0.0, lt=1.0)
    beta2: float = per_member(0.999, ge=0.0, lt=1.0)
    eps: float = per_member(1e-8, gt=0.0)


class SGD(_Optimiser):
    """Stochastic gradient descent with momentum: v = momentum·v + g, w = w - lr·v."""

    name: Literal["sgd"] = static("sgd")
    momentum: float = per_member(0.0, ge=0.0, lt=1.0)


class AdamYZ(_OfTables):
    """Adam with a learning rate for each table of the model `scan_snap`."""

    name: Literal["adam_yz"] = static("adam_yz")
    version: Literal[1] = static(1)
    beta1: float = per_member(0.9, ge=0.0, lt=1.0)
    beta2: float = per_member(0.999, ge=0.0, lt=1.0)
    eps: float = per_member(1e-8, gt=0.0)


class SGDYZ(_OfTables):
    """SGD with a learning rate for each table of the model `scan_snap`.

    Source: Tian et al. 2023, Scan and Snap, arXiv 2305.16380.
    """

    name: Literal["sgd_yz"] = static("sgd_yz")
    version: Literal[1] = static(1)
    momentum: float = per_member(0.0, ge=0.0, lt=1.0)


OptimSpec = Annotated[AdamW | Adam | SGD | AdamYZ | SGDYZ, Field(discriminator="name")]
