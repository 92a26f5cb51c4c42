"""What one run is: the frozen RunSpec, its three identities, and how plain data becomes one.

`resolve` is the only door in: it takes nested dictionaries (from YAML, flags or the ledger) and
either returns a RunSpec or raises one SpecError that names every faulty field. Past it nothing
is optional, misspelt or out of range.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from workloads.errors import Problem, SpecError, near_miss
from workloads.fields import (
    Frozen,
    config_digest,
    content,
    digest_of,
    flatten,
    per_member,
    run_digest,
    shape_digest,
    static,
)
from workloads.forks import SnapshotSteps, StartFrom, Trainable, unknown_parts
from workloads.models import MODELS
from workloads.models.model import misfit
from workloads.optimisers import OptimSpec
from workloads.tasks import TASKS


def _one_of(variants: tuple[type[Frozen], ...]) -> Any:
    """A union told apart by `name`; pydantic wants at least two variants for that."""
    if len(variants) == 1:
        return variants[0]
    union: Any = variants[0]
    for variant in variants[1:]:
        union = union | variant
    return Annotated[union, Field(discriminator="name")]


TaskSpec: Any = _one_of(TASKS)
ModelSpec: Any = _one_of(MODELS)
DEFAULT_NAMES = {
    ("model",): "transformer",
    ("model", "attention"): "softmax",
    ("optim",): "adamw",
    ("optim", "schedule"): "constant",
}


class Budget(Frozen):
    """How much a run may train: `steps` [optimiser steps], `batch` [examples a step]."""

    steps: int = per_member(ge=1, le=2**31 - 1)
    batch: int = static(64, ge=1)


class Seeds(Frozen):
    """Separate seeds, so that the variances they cause can be told apart."""

    init: int = per_member(0, seed=True, ge=0, lt=2**63)
    data: int = per_member(0, seed=True, ge=0, lt=2**63)


class Stop(Frozen):
    """When a run ends before its budget; decided on the run's own steps alone.

    Attributes:
        after_event_steps: train this long past the online event, then stop; None trains the budget [steps].
        level: the event is where the smoothed loss falls below floor + level·(plateau - floor) [fraction].
        half_life_steps: of the exponential smoothing [steps].
        sustained_steps: how long it must stay there [steps].
        diverged_above: a loss above this, like one that is not finite, ends the run as diverged [nats].
    """

    after_event_steps: int | None = per_member(None, ge=0)
    level: float = per_member(0.5, gt=0.0, lt=1.0)
    half_life_steps: float = per_member(8.0, gt=0.0)
    sustained_steps: int = per_member(25, ge=1)
    diverged_above: float = per_member(1e4, gt=0.0)


class Log(Frozen):
    """What is recorded besides loss, accuracy and gradient norm, which every step has.

    Attributes:
        measures_every_steps: cadence of the dearer measures (attention entropy and mass); 0 is never.
        snapshots: after which updates the weights are kept, such as `[0, 500, end]`.
    """

    measures_every_steps: int = per_member(0, ge=0)
    snapshots: SnapshotSteps = per_member("", later=True)


class Compute(Frozen):
    """How the arithmetic is done, as far as it changes a run's bits.

    Attributes:
        program: `eager`, or `compiled` for code made for the run's shape (faster; made once, in 10 to 25 seconds).
        precision: `fp32` throughout; `tf32` or `bf16` for the matrix products (weights stay fp32).
    """

    program: Literal["eager", "compiled"] = static("eager", later=True)
    precision: Literal["fp32", "tf32", "bf16"] = static("fp32", later=True)


class Average(Frozen):
    """A moving average of the weights beside them: after each step, decay·average + (1 - decay)·weights.

    Training does not see it; snapshots keep it as `average/…`, and `average_loss`, `average_accuracy` are its scores
    where measures are taken, on the step's own data.

    Attributes:
        decay: weight of what was there before the step.

    Source: Polyak and Juditsky 1992, SIAM J. Control Optim. 30:838; exponential, as in Hoffmann et al. 2024 (0.99996).
    """

    version: Literal[1] = static(1)  # static, and absent from runs without: those do not share a cohort
    decay: float = per_member(0.99996, ge=0.0, lt=1.0)


class RunSpec(Frozen):
    """Everything that determines one training run, and nothing else."""

    task: TaskSpec
    model: ModelSpec
    optim: OptimSpec
    budget: Budget
    seed: Seeds = Seeds()
    stop: Stop = Stop()
    log: Log = Log()
    compute: Compute = Compute()
    start_from: StartFrom | None = static(None, later=True)
    trainable: Trainable | None = static(None, later=True)
    average: Average | None = static(None, later=True)

    @model_validator(mode="after")
    def _model_fits_the_task(self) -> RunSpec:
        if hasattr(self.model, "READS") and (wrong := misfit(self.model, self.task.shapes())):
            raise ValueError(wrong)
        return self

    @model_validator(mode="after")
    def _task_fits_the_run(self) -> RunSpec:
        if hasattr(self.task, "unfit") and (wrong := self.task.unfit(self.columns())):
            raise ValueError(wrong)
        return self

    @model_validator(mode="after")
    def _measures_need_attention(self) -> RunSpec:
        if self.log.measures_every_steps and not self.model.IS_OPEN:
            raise ValueError("log.measures_every_steps to be 0, since a user's own module shows nothing of its inside")
        return self

    @model_validator(mode="after")
    def _read_out_sees_all(self) -> RunSpec:
        if getattr(self.model, "causal", False) and self.task.shapes().answers == "example":
            raise ValueError("model.causal to be false, since the task is answered by a token that comes first")
        return self

    @model_validator(mode="after")
    def _rates_find_their_parts(self) -> RunSpec:
        absent = [part for part in self.optim.PARTS if part not in getattr(self.model, "PARTS", ())]
        if absent:
            held = f"model {self.model.name} has no part {', '.join(absent)}"
            raise ValueError(f"optim.name other than {self.optim.name}, since {held}")
        return self

    @model_validator(mode="after")
    def _parts_exist(self) -> RunSpec:
        named = {
            "trainable.only": self.trainable.only if self.trainable else "",
            "start_from.fresh": self.start_from.fresh if self.start_from else "",
        }
        for field, patterns in named.items():
            if patterns and (wrong := unknown_parts(patterns, model=self.model, shapes=self.task.shapes())):
                raise ValueError(f"{field} to name {wrong}")
        return self

    @cached_property
    def run_id(self) -> str:
        """Hash of everything: resume, deduplication and joins."""
        return run_digest(self)

    @cached_property
    def config_id(self) -> str:
        """Hash without the seeds: what has a probability and a timing."""
        return config_digest(self)

    @cached_property
    def shape_key(self) -> str:
        """Hash without the per-member fields: what may share a cohort."""
        return shape_digest(self)

    def reseeded(self, seeds: Iterable[Seeds]) -> Iterator[RunSpec]:
        """The same run with other seeds, one after another; their ids come along, so that each costs microseconds."""
        ids = {"config_id": self.config_id, "shape_key": self.shape_key}
        marked = self.model_copy(update={"seed": Seeds.model_construct(init=-1, data=-2)})  # values that no seed has
        before, after = content(marked).split('"seed.data":-2,"seed.init":-1')
        for seed in seeds:
            copy = self.model_copy(update={"seed": seed})
            copy.__dict__ |= ids
            copy.__dict__["run_id"] = digest_of(f'{before}"seed.data":{seed.data},"seed.init":{seed.init}{after}')
            yield copy

    def columns(self) -> dict[str, Any]:
        """The spec as dotted columns, in declaration order."""
        return flatten(self)


def resolve(data: Mapping[str, Any]) -> RunSpec:
    """Turn nested plain data into a RunSpec.

    Raises:
        SpecError: naming every faulty field with what was found, what was expected and the way out.
    """
    try:
        return RunSpec.model_validate(_with_names(data))
    except ValidationError as error:
        raise SpecError(_problem(fault, data) for fault in error.errors()) from None


def _with_names(data: Any, path: tuple[str, ...] = ()) -> Any:
    """Fill in the name of each variant that the user left to its default."""
    if not isinstance(data, Mapping):
        return data
    named = {key: _with_names(value, (*path, str(key))) for key, value in data.items()}
    if path in DEFAULT_NAMES:
        named = {"name": DEFAULT_NAMES[path], **named}
    return named


def _problem(fault: Any, data: Mapping[str, Any]) -> Problem:
    """One pydantic fault in the words of the house."""
    path, fields = _walk(fault["loc"])
    kind, context = fault["type"], fault.get("ctx", {})
    got = repr(fault["input"]) if not isinstance(fault["input"], Mapping) else "a mapping"
    if kind == "extra_forbidden":
        return Problem(path, "an unknown key", f"one of {', '.join(fields)}", near_miss(path[-1], fields))
    if kind == "missing":
        return Problem(path, "nothing", "a value; it has no default")
    if kind == "value_error":
        return Problem(path, None, str(context["error"]))
    if kind in ("union_tag_invalid", "literal_error"):
        words = context.get("expected_tags") or context.get("expected", "")
        listed = sorted(word.strip(" '") for word in words.replace(" or ", ",").split(","))
        if kind == "union_tag_invalid":
            path, got = (*path, "name"), repr(context["tag"])
        return Problem(path, got, f"one of {', '.join(listed)}", near_miss(got.strip("'"), listed))
    if kind in _EXPECTED:
        return Problem(path, got, _EXPECTED[kind].format(**context))
    return Problem(path, got, fault["msg"].removeprefix("Input should be "))


_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "a word",
    "string_too_short": "a word",
    "string_pattern_mismatch": "text like {pattern}",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "finite_number": "a finite number",
    "greater_than": "a number > {gt}",
    "greater_than_equal": "a number >= {ge}",
    "less_than": "a number < {lt}",
    "less_than_equal": "a number <= {le}",
}


def _walk(loc: tuple[int | str, ...]) -> tuple[tuple[str, ...], list[str]]:
    """The path that a user wrote (pydantic adds the tags of unions), and the keys valid at its last mapping."""
    candidates: list[type[Frozen]] = [RunSpec]
    path: list[str] = []
    inner: list[type[Frozen]] = []
    for part in map(str, loc):
        if len(inner) > 1:
            candidates = [variant for variant in inner if variant.model_fields["name"].default == part]
            inner = []
            continue
        candidates = inner or candidates
        path.append(part)
        inner = _variants(candidates, part)
    return tuple(path), sorted({key for variant in candidates for key in variant.model_fields})


def _variants(candidates: list[type[Frozen]], key: str) -> list[type[Frozen]]:
    """The spec classes that a key of the candidates may hold."""
    found: list[type[Frozen]] = []
    for candidate in candidates:
        if key in candidate.model_fields:
            found += _classes(candidate.model_fields[key].annotation)
    return found


def _classes(annotation: Any) -> list[type[Frozen]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Frozen) else []
    return [inner for argument in getattr(annotation, "__args__", ()) for inner in _classes(argument)]
