"""Interventions on what is shown: nothing, other data, a number in the place of what is missing, or the reverse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from workloads.probing.intervention import Intervention

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workloads.probing.bench import Bench, Reading
    from workloads.spec import RunSpec


class Plain(Intervention):
    """Nothing is changed, but for the data where `task` says so: what the other readings are held against."""

    name: Literal["plain"] = "plain"

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """The task's metrics."""
        from workloads.probing.bench import Reading

        for metric, values in bench.scores(bench.answers()).items():
            yield Reading(metric=metric, values=values)


class Substitute(Intervention):
    """A number is shown in the place of every missing entry: does the model say that number there, or the right one.

    Readings, for each number and, as item `missing`, for the word that says that an entry is missing: the task's
    metrics; the mean answer at missing entries (`answer_at_missing`); their mean squared distance to the number that
    was shown (`squares_to_shown`, to 0 for `missing`) and to the right one (`squares_to_right`); and the slope of these
    answers on the right numbers (`follows_right`, 1 if they say them). Over two numbers or more, `follows_shown` is the
    slope of the mean answer on the number. A model that copies follows what is shown alone.

    Attributes:
        numbers: what is shown, separated by spaces.
        blend: how far the vector shown lies on the way from that of the word for missing (0) to the number's own (1).

    Source: Gopalani, Lubana and Hu 2024, arXiv 2410.22244, table 1. Blends are ours.
    """

    name: Literal["substitute"] = "substitute"
    version: Literal[2] = 2  # 1 had no slopes
    numbers: str = Field("0.44 -0.24", pattern=r"^-?\d+(\.\d+)?( -?\d+(\.\d+)?)*$")
    blend: float = Field(1.0, gt=0.0, le=1.0)

    def unfit(self, spec: RunSpec, model: nn.Module) -> str:
        """The task must have entries that are missing, and words for the numbers."""
        if wrong := _without_entries(spec):
            return wrong
        beyond = [word for word in self.numbers.split() if abs(float(word)) > spec.task.reach]
        return f"numbers within the reach of ±{spec.task.reach}; got {beyond[0]}" if beyond else ""

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """Number by number; matrices and masks stay the same."""
        import torch

        from workloads.probing.bench import Reading

        task, missing = bench.spec.task, bench.batch["missing"]
        wanted = bench.batch["y"][..., 0]
        said = []
        for word in ("missing", *self.numbers.split()):
            shown = 0.0 if word == "missing" else float(word)
            instead = task.word_of(None if word == "missing" else shown)
            if self.blend < 1.0:
                bench.bind(self._blended(bench, instead))
                instead = task.word_of(None)
            batch = bench.batch | {"x": torch.where(missing, instead, bench.batch["x"])}
            output = bench.answers(batch)
            answers = output[..., 0]
            further = {
                "answer_at_missing": _mean(answers, missing),
                "squares_to_shown": _mean((answers - shown).square(), missing),
                "squares_to_right": _mean((answers - wanted).square(), missing),
                "follows_right": slope(wanted, answers, missing),
            }
            if word != "missing":
                said.append(further["answer_at_missing"])
            for metric, values in {**bench.scores(output, batch), **further}.items():
                yield Reading(metric=metric, values=values, item=word)
        bench.bind(bench.rows)
        if len(said) > 1:
            numbers = torch.tensor([float(word) for word in self.numbers.split()])
            means = torch.stack(said, dim=1)
            yield Reading(metric="follows_shown", values=slope(numbers.expand_as(means), means))

    def _blended(self, bench: Bench, word: int) -> torch.Tensor:
        """Weights in which the vector of the word for missing has moved towards another's."""
        [place] = [place for place in bench.layout.places if place.name == "embed.table"]
        rows = bench.rows.clone()
        table = place.view(rows)  # (K, V, D)
        own = bench.spec.task.word_of(None)
        table[:, own] += self.blend * (table[:, word] - table[:, own])
        return rows


class Alter(Intervention):
    """One entry that is shown is altered in each example: hidden, or turned to the other sign.

    A model that copies changes its answer there and nowhere else: of a hidden entry it says what it says of all that
    are missing, and of a turned one what is shown. Readings, for the items `hidden` and `turned`: `answer_size`, the
    mean size of answers at altered entries; `follows_right`, the slope of these on the right numbers;
    `change_at_missing` and `change_at_shown`, how far answers at other entries move, mean sizes; and
    `share_at_missing`, the former as a share of the mean size of right numbers there.

    Which entry is altered is drawn by the probe's seed, all that are shown being as likely.
    """

    name: Literal["alter"] = "alter"

    def unfit(self, spec: RunSpec, model: nn.Module) -> str:
        """The task must have entries that are shown and missing."""
        return _without_entries(spec)

    def readings(self, bench: Bench) -> Iterator[Reading]:
        """Hidden, then turned; the same entries of the same matrices."""
        import torch

        from workloads.probing.bench import CPU, Reading
        from workloads.streams import generator

        task, x, missing, wanted = (
            bench.spec.task,
            bench.batch["x"],
            bench.batch["missing"],
            bench.batch["y"][..., 0],
        )
        draws = torch.rand(x.shape[1:], generator=generator(bench.seed, "probe/altered", device=CPU))
        first = draws.masked_fill(missing, -1.0).argmax(-1, keepdim=True)
        altered = torch.zeros_like(missing).scatter(-1, first, True) & ~missing  # an example may show nothing
        plain = bench.answers()[..., 0]
        for item, words in (
            ("hidden", torch.full_like(x, task.word_of(None))),
            ("turned", task.negated(bench.batch)["x"]),
        ):
            answers = bench.answers(bench.batch | {"x": torch.where(altered, words, x)})[..., 0]
            moved = (answers - plain).abs()
            at_missing = _mean(moved, missing)
            found = {
                "answer_size": _mean(answers.abs(), altered),
                "follows_right": slope(wanted, answers, altered),
                "change_at_missing": at_missing,
                "change_at_shown": _mean(moved, ~missing & ~altered),
                "share_at_missing": at_missing / _mean(wanted.abs(), missing),
            }
            for metric, values in found.items():
                yield Reading(metric=metric, values=values, item=item)


def slope(x: torch.Tensor, y: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
    """Least-squares slope of each member's y on its x, with an intercept: `(K, …)` to `(K,)`; NaN where x stands."""
    import torch

    weights = (torch.ones_like(x) if where is None else where).flatten(1).double()
    x, y = x.flatten(1).double(), y.flatten(1).double()
    centred = x - ((x * weights).sum(1) / weights.sum(1))[:, None]
    return (centred * y * weights).sum(1) / (centred.square() * weights).sum(1)


def _without_entries(spec: RunSpec) -> str:
    """Empty where a task shows a matrix once, with entries missing."""
    if not hasattr(spec.task, "negated"):
        return f"a task with missing entries; got {spec.task.name}"
    return f"a task of one order; got orders '{spec.task.orders}'" if spec.task.orders else ""


def _mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    from workloads.tasks.matrix_completion import mean_where

    return mean_where(values, where.float())
