"""Lanes ready to train: on a GPU their whole step is one captured graph, kept for the next cohort of the shape.

Between captures and replays nothing may move, so captured lanes are never narrowed, and a refill writes rows in place.
Capturing costs a second or so; lanes whose cohort is done are parked, and the next cohort of the same shape and
width takes them over as they are.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence

import torch

from workloads.lanes import Lanes
from workloads.spec import RunSpec
from workloads.update import Turn

WARM_UP_STEPS = 3
MOST_PARKED = 4

_parked: dict[tuple[str, int, str], CapturedLanes] = {}


def ready_lanes(spec: RunSpec, *, width: int, device: torch.device) -> Lanes:
    """Lanes for runs of the spec's shape, new or taken over."""
    if device.type != "cuda":
        return Lanes(spec, width=width, device=device)
    return _parked.pop((spec.shape_key, width, str(device)), None) or CapturedLanes(spec, width=width, device=device)


def park(lanes: Lanes) -> None:
    """Keep captured lanes that nobody uses; the oldest go when there are too many."""
    if isinstance(lanes, CapturedLanes):
        _parked[lanes.spec.shape_key, lanes.width, str(lanes.device)] = lanes
        while len(_parked) > MOST_PARKED:
            _parked.pop(next(iter(_parked)))


def release() -> None:
    """Give back the memory of parked lanes, and what torch keeps of freed tensors."""
    _parked.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class CapturedLanes(Lanes):
    """Lanes on a GPU whose step is a graph: one launch, no work for the host."""

    def __init__(self, spec: RunSpec, *, width: int, device: torch.device):
        super().__init__(spec, width=width, device=device)
        self.graph = torch.cuda.CUDAGraph()
        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_STEPS):  # libraries set themselves up, Inductor compiles
                self.step_on_device(())
        torch.cuda.current_stream(device).wait_stream(aside)
        self.cursor.zero_()
        with torch.cuda.graph(self.graph):
            self.step_on_device(())
        self.cursor.zero_()

    def tick(self, turns: Sequence[Turn]) -> None:
        """Replay the step; what it reads was written to the device when each lane's block began."""
        self.graph.replay()
        self.filled += 1
