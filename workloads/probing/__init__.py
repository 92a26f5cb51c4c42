"""Interventions on snapshots, one kind a file. A new one is a class beside these and a name in `INTERVENTIONS`.

The specs alone live at import time; torch is imported when a snapshot is probed.
"""

from __future__ import annotations

from workloads.probing.classes import ClassProbe
from workloads.probing.examples import Alter, Plain, Substitute
from workloads.probing.heads import AblateHeads, Attention, Patch
from workloads.probing.intervention import Intervention
from workloads.probing.linear import LinearProbe
from workloads.probing.parts import Embedding, PermutePositions, Stitch

INTERVENTIONS: tuple[type[Intervention], ...] = (
    Plain,
    Attention,
    AblateHeads,
    Patch,
    Stitch,
    LinearProbe,
    ClassProbe,
    Substitute,
    Alter,
    PermutePositions,
    Embedding,
)

__all__ = [
    "INTERVENTIONS",
    "AblateHeads",
    "Alter",
    "Attention",
    "ClassProbe",
    "Embedding",
    "Intervention",
    "LinearProbe",
    "Patch",
    "PermutePositions",
    "Plain",
    "Stitch",
    "Substitute",
]
