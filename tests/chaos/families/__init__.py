"""Every kind of fault, a file a family: those of a second each, and those that play a sweep of their own."""

from __future__ import annotations

from tests.chaos.families import clocks, damage, disks, gateways, kills, memory, nodes, pauses, signals, twins, versions
from tests.chaos.scene import Fault

ALL: tuple[Fault, ...] = (
    *kills.FAULTS,
    *pauses.FAULTS,
    *signals.FAULTS,
    *disks.FAULTS,
    *damage.FAULTS,
    *clocks.FAULTS,
    *twins.FAULTS,
    *memory.FAULTS,
    *versions.FAULTS,
    *nodes.FAULTS,
    *gateways.FAULTS,
)
CHEAP = tuple(fault for fault in ALL if not fault.is_whole)
DEAR = tuple(fault for fault in ALL if fault.is_whole)
