"""What a task promises: its shapes, its known levels, and the data of one run.

**Determinism.** `world` and `sample` draw from the generator they are handed and from nothing else.

**One run.** Neither sees the cohort: `sample` draws a block of steps for one run.

**Levels.** Loss and accuracy of the three answers that every eureka-task has: knowing nothing
(chance), the best answer without the hidden step (plateau), and the best answer (floor, ceiling).
They anchor the online stop rule and the detector, and tests check them by brute force.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import torch

    from workloads.seen import Seen
    from workloads.spec import RunSpec

    Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What a model must accept and give.

    Attributes:
        positions: tokens of an example.
        classes: values of an answer; or floats of one, where a task's `y` holds floats.
        features: tokens are so many floats, `x (B, positions, features)`; or None, and
        vocabulary: tokens are one of so many words, `x (B, positions)`; or None.
        answers: `example` for one answer `(B, classes)`, `position` for one a token `(B, positions, classes)`.
        sources: for each position, those that its answer comes from (none for what cannot be known); or None.
        picture: positions are the pixels of a picture `(height, width)` in reading order; or None.
        is_declared: there is nothing to read; the model `declared` alone suits.
    """

    positions: int
    classes: int
    features: int | None = None
    vocabulary: int | None = None
    answers: Literal["example", "position"] = "example"
    sources: tuple[tuple[int, ...], ...] | None = None
    picture: tuple[int, int] | None = None
    is_declared: bool = False


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Known levels of a task: losses [nats], accuracies [fraction], and what else a task knows of its own metrics.

    Attributes:
        others: by name, `kl_plateau` or so; the ledger keeps each as `level.NAME`, for detectors that read them.
    """

    loss_chance: float
    loss_plateau: float
    loss_floor: float
    accuracy_chance: float
    accuracy_plateau: float
    accuracy_ceiling: float
    others: Mapping[str, float] = field(default_factory=dict)

    def named(self) -> dict[str, float]:
        """Every level by its name."""
        known = asdict(self)
        others = known.pop("others")
        return known | others


class Task(Protocol):
    """A frozen spec that can also make its data; see the module's promises."""

    METRICS: ClassVar[tuple[str, ...]]
    MEASURES: ClassVar[tuple[str, ...]]

    def shapes(self) -> Shapes:
        """Shapes of one example."""

    def levels(self) -> Levels:
        """The three known answers."""

    def world(self, rng: torch.Generator) -> Batch:
        """What stays fixed for a whole run: prototypes, tables, pools."""

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Fresh data of consecutive steps: every tensor leads with `(steps, batch, …)`; `x` and `y` at least."""

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """What a step is scored by: `loss (K,)` first, which is minimised, then other metrics `(K,)`."""

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """Progress measures from what a forward pass showed: name -> `(K,)`."""


def composed(task: Task, batch: Batch) -> Batch:
    """A step's data as the model takes them: a task may draw indices alone, and have its `compose` look them up.

    `compose` gets tensors that lead with any axes, and gives them with `x`; it draws nothing.
    """
    compose = getattr(task, "compose", None)
    found: Batch = batch if compose is None else compose(batch)
    return found


def drawn_from(task: Task, world: Batch, rng: torch.Generator, *, first_step: int, steps: int, batch: int) -> Batch:
    """Data of consecutive steps from one on: a task whose data change as it is taught says how in a `sample_from`."""
    if hasattr(task, "sample_from"):
        found: Batch = task.sample_from(world, rng, first_step=first_step, steps=steps, batch=batch)
        return found
    return task.sample(world, rng, steps=steps, batch=batch)


def world_of(spec: RunSpec, rng: torch.Generator) -> Batch:
    """What stays fixed for a run: a task may make it of the run's other settings, too, in a `world_of` of its own."""
    found: Batch = spec.task.world_of(spec, rng) if hasattr(spec.task, "world_of") else spec.task.world(rng)
    return found


def require_files(task: Task) -> None:
    """What a task reads from files is there and whole: a task that needs any has a `require_files` that says so.

    Raises:
        WorkloadError: in one line, with the way out.
    """
    require = getattr(task, "require_files", None)
    if require is not None:
        require()


def not_shown(names: Iterable[str], batch: Batch) -> Batch:
    """Measures of a model that does not show what they need: not a number, `(K,)` each."""
    import torch

    return dict.fromkeys(names, torch.full((len(batch["y"]),), torch.nan, device=batch["y"].device))


def of_the_best_head(shares: Sequence[torch.Tensor]) -> torch.Tensor:
    """The largest of every layer's shares `(K, H)`, head by head: `(K,)`."""
    import torch

    return torch.cat(list(shares), dim=1).amax(1)
