"""Every task, one a file. A new one is a file beside this and a name in `TASKS`."""

from __future__ import annotations

from workloads.tasks.two_step import TwoStep

TASKS = (TwoStep,)

__all__ = ["TASKS", "TwoStep"]
