"""`declared`: nothing is learned; whether and when a run has its event is declared, by formulas over its settings.

The loss of a run whose event was drawn to be at step 300:

    loss  1.0 ────────────────╮
                              │╲              chance: expit(3 - 2 * (log10(optim.lr) + 3)**2)
          0.1 ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┼─╰──────      median_steps: 300 * (optim.lr / 1e-3)**-0.3
              0              300   steps

So whatever looks for probabilities and times (a search, an estimate, a report) can be held against the truth, through
the same engine, store and detector as any run. Luck is drawn from the run's seeds and settings together, so that
runs of different configs are independent also where they share a seed. The model `declared` goes with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from workloads.fields import Frozen, digest, static
from workloads.formula import unreadable, value_of
from workloads.tasks.task import Levels, Shapes

if TYPE_CHECKING:
    import torch

    from workloads.seen import Seen
    from workloads.spec import RunSpec
    from workloads.tasks.task import Batch

PLATEAU, FLOOR = 1.0, 0.1  # loss [nats]
DIVERGED_AT_STEP = 16
_NORMAL = NormalDist()


def _readable(text: str) -> str:
    if wrong := unreadable(text):
        raise ValueError(f"a formula over the run's fields: {wrong}")
    return text


Formula = Annotated[str, AfterValidator(_readable)]


class Declared(Frozen):
    """The declaration. Formulas read any number of the run by its dotted name; see `workloads/formula.py`.

    Attributes:
        version: raised when the meaning of the data changes.
        chance: that a run ever has its event, if it does not diverge.
        median_steps: of the event's step, among the runs that have it [optimiser steps].
        law: of the event's step: `lognormal`, or `exponential`, which begins at half the median.
        spread: lognormal: standard deviation of the step's logarithm [1].
        diverges: chance that a run's loss becomes infinite, at step 16.
        drop_steps: how long the loss takes from 90 to 10 % of its way down [steps].
        noise: of one example's loss, relative to the mean (its logarithm's standard deviation) [1].
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    MEASURES: ClassVar[tuple[str, ...]] = ()

    name: Literal["declared"] = static("declared")
    version: Literal[1] = static(1)
    chance: Formula = static("0.5")
    median_steps: Formula = static("200")
    law: Literal["lognormal", "exponential"] = static("lognormal")
    spread: float = static(0.4, gt=0.0)
    diverges: Formula = static("0")
    drop_steps: float = static(16.0, gt=0.0)
    noise: float = static(0.1, ge=0.0)

    def shapes(self) -> Shapes:
        """One number of noise; answered by the step that it is."""
        return Shapes(positions=1, features=1, classes=1, is_declared=True)

    def levels(self) -> Levels:
        """As declared."""
        return Levels(
            loss_chance=PLATEAU,
            loss_plateau=PLATEAU,
            loss_floor=FLOOR,
            accuracy_chance=0.5,
            accuracy_plateau=0.5,
            accuracy_ceiling=1.0,
        )

    def unfit(self, settings: Mapping[str, Any]) -> str:
        """What would have to be otherwise for formulas to have values, as the end of a sentence; empty if nothing."""
        for field, most in (("chance", 1.0), ("median_steps", math.inf), ("diverges", 1.0)):
            try:
                value = value_of(getattr(self, field), settings)
            except ValueError as error:
                return f"task.{field} to have a value for every run; {error}"
            if not 0.0 <= value <= most or (field == "median_steps" and value == 0.0):
                return f"task.{field} to lie in {'[0, 1]' if most == 1.0 else '(0, inf)'}; it is {value:g} here"
        return ""

    def world(self, rng: torch.Generator) -> Batch:
        """A run of no settings in particular: one whose event never comes."""
        import torch

        return {"fate": torch.full((2,), torch.inf, device=rng.device)}

    def world_of(self, spec: RunSpec, rng: torch.Generator) -> Batch:
        """The steps of a run's event and divergence, infinite where it has none: `fate (2,)`."""
        import torch

        from workloads.streams import generator

        law = truth(spec)
        settings = "/".join(digest(part) for part in (spec.task, spec.model, spec.optim))
        purpose = f"luck/{spec.seed.init}/{settings}"
        rng_of_luck = generator(spec.seed.data, purpose, device=torch.device("cpu"))
        luck = torch.rand(2, generator=rng_of_luck, dtype=torch.float64)
        event, lost = luck.tolist()
        fate = [law.ever_quantile(event), float(DIVERGED_AT_STEP) if lost < law.diverges else math.inf]
        return {"fate": torch.tensor(fate, dtype=torch.float32, device=rng.device)}

    def sample(self, world: Batch, rng: torch.Generator, *, steps: int, batch: int) -> Batch:
        """Noise `x (S, B, 1, 1)`, again as `y (S, B, 1)`, and the run's `fate (S, B, 2)`."""
        import torch

        x = torch.randn(steps, batch, 1, 1, generator=rng, device=rng.device)
        return {"x": x, "y": x[..., 0], "fate": world["fate"].expand(steps, batch, 2).clone()}

    def objective(self, output: torch.Tensor, batch: Batch) -> Batch:
        """The declared loss and accuracy of the step `(K, B, 1)` that the model says it is."""
        import torch

        at_step, event, diverged = output[..., 0], batch["fate"][..., 0], batch["fate"][..., 1]
        up = torch.sigmoid((event - at_step) * (2.0 * math.log(9.0) / self.drop_steps))  # 1 before the event, 0 behind
        rough = torch.exp(self.noise * batch["y"][..., 0] - 0.5 * self.noise**2)  # mean 1
        loss = (FLOOR + (PLATEAU - FLOOR) * up) * rough
        loss = torch.where(at_step.detach() >= diverged, torch.inf, loss)
        return {"loss": loss.mean(-1), "accuracy": (1.0 - 0.5 * up).mean(-1)}

    def measures(self, seen: Seen, batch: Batch) -> Batch:
        """None."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The law of a config's event, exactly: of the step at which its loss is half-way down.

    The online rule sees a fall one half-life late (`stop.half_life_steps`), and one less than `stop.sustained_steps`
    before the budget's end not at all.

    Attributes:
        chance: that a run ever has its event, diverging ones counted.
        diverges: chance that it diverges.
        median_steps: of those that have it [steps].
        law, spread: as declared.
    """

    chance: float
    diverges: float
    median_steps: float
    law: str
    spread: float

    def share_by(self, step: float) -> float:
        """Of the runs that ever have their event, those that have it by a step [fraction]."""
        if step <= 0:
            return 0.0
        if self.law == "lognormal":
            return _NORMAL.cdf(math.log(step / self.median_steps) / self.spread)
        delay = 0.5 * self.median_steps
        return 1.0 - math.exp(-math.log(2.0) * max(0.0, step / delay - 1.0))

    def chance_by(self, step: float) -> float:
        """P(event by that step) [fraction]."""
        return self.chance * self.share_by(step)

    def quantile(self, share: float) -> float:
        """The step by which that share of all runs have had their event; infinite where they never do."""
        return self._at(share / self.chance) if share < self.chance else math.inf

    @property
    def median(self) -> float:
        """The step by which half of all runs have had their event; infinite where they never do."""
        return self.quantile(0.5)

    def rmst(self, step: float) -> float:
        """Mean of the event's step or `step`, whichever is first, over all runs [steps].

        A run that diverges counts as one without an event.

        Checked by: test_declared.py::test_restricted_means_equal_an_integral
        """
        return step - self.chance * self._area(step)

    def ever_quantile(self, luck: float) -> float:
        """The event's step of a run with that luck, uniform in [0, 1), if it does not diverge."""
        ever = self.chance / (1.0 - self.diverges) if self.diverges < 1.0 else 0.0
        return self._at(luck / ever) if luck < ever else math.inf

    def _at(self, share: float) -> float:
        if share >= 1.0:
            return math.inf
        if self.law == "lognormal":
            return self.median_steps * math.exp(self.spread * _NORMAL.inv_cdf(share)) if share > 0.0 else 0.0
        return 0.5 * self.median_steps * (1.0 - math.log2(1.0 - share))

    def _area(self, step: float) -> float:
        """Integral of `share_by` from 0 to a step [steps]."""
        if step <= 0:
            return 0.0
        if self.law == "lognormal":  # E[(step - T)+], as the price of an option
            z = math.log(step / self.median_steps) / self.spread
            mean = self.median_steps * math.exp(0.5 * self.spread**2)
            return step * _NORMAL.cdf(z) - mean * _NORMAL.cdf(z - self.spread)
        delay = 0.5 * self.median_steps
        late = max(0.0, step - delay)
        return late - delay / math.log(2.0) * (1.0 - math.exp(-math.log(2.0) * late / delay))


def truth(spec: RunSpec) -> Truth:
    """What the formulas of a run's task say of its config."""
    task, settings = spec.task, spec.columns()
    diverges = value_of(task.diverges, settings)
    return Truth(
        chance=(1.0 - diverges) * value_of(task.chance, settings),
        diverges=diverges,
        median_steps=value_of(task.median_steps, settings),
        law=task.law,
        spread=task.spread,
    )
