"""A probe's file: which runs, after how many updates, shown how many examples, and what is done to them.

    runs: {sweep: paper2_completion_small, where: {task.rows: 3}}     # or {ids: "178ab41d 9e01"}
    steps: [before, end]          # updates made; or first, before, end, all
    examples: 256
    seed: 0
    interventions:
      - {name: plain}
      - {name: substitute, numbers: "0.44 -0.24"}
      - {name: ablate_heads, how: mean, heads: each}

`before` is the last snapshot after at most three quarters of the updates at which the run's event was seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from orchestrator.errors import BadRequest
from orchestrator.yaml_source import Source, parse, read_text, resolved
from workloads.errors import near_miss
from workloads.fields import Frozen
from workloads.probing import INTERVENTIONS

FOLDER = Path(__file__).parent / "probes"

Step = Literal["first", "before", "end", "all"] | Annotated[int, Field(ge=0)]


def _kinds() -> Any:
    union: Any = INTERVENTIONS[0]
    for kind in INTERVENTIONS[1:]:
        union = union | kind
    return Annotated[union, Field(discriminator="name")]


class Chosen(Frozen):
    """Which runs of the store.

    Attributes:
        sweep: all of this one.
        ids: run_ids, or enough of their beginnings, separated by spaces.
        where: values of dotted fields that a run must have.
    """

    sweep: str | None = None
    ids: str | None = Field(None, pattern=r"^[0-9a-f]+( +[0-9a-f]+)*$")
    where: dict[str, bool | int | float | str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_way(self) -> Chosen:
        if (self.sweep is None) == (self.ids is None):
            raise ValueError("either sweep or ids")
        return self


class ProbeSpec(Frozen):
    """What a probe's file holds.

    Attributes:
        runs: which.
        steps: of their snapshots.
        examples: shown to each snapshot.
        seed: of those examples.
        interventions: what is done, in this order.
    """

    runs: Chosen
    steps: list[Step] = Field(min_length=1)
    examples: int = Field(256, ge=1, le=1_000_000)
    seed: int = Field(0, ge=0, lt=2**63)
    interventions: list[_kinds()] = Field(min_length=1)  # type: ignore[valid-type]


def load_probe(path: Path) -> ProbeSpec:
    """Read a probe's file, or the shipped one of that name.

    Raises:
        BadRequest: with file and line of the first fault.
    """
    shipped = FOLDER / f"{path.name}.yaml"
    path = shipped if not path.exists() and path.parent == Path() and shipped.exists() else path
    data, source = parse(read_text(path), file=str(path))
    try:
        return ProbeSpec.model_validate(resolved(data, source=source))
    except ValidationError as error:
        faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        raise _fault(faults[0], source=source) from None


def _fault(fault: Any, *, source: Source) -> BadRequest:
    """One of pydantic's in the words of the house."""
    place = tuple(str(part) for part in fault["loc"])
    owner: type[Frozen] = ProbeSpec
    if place[0] == "runs":
        owner = Chosen
    if place[0] == "steps":
        place = place[:2]
    if place[0] == "interventions" and len(place) > 2:  # pydantic adds the union's tag
        owner = next(kind for kind in INTERVENTIONS if kind.model_fields["name"].default == place[2])
        place = (*place[:2], *place[3:])
    kind, message = fault["type"], fault["msg"]
    if kind == "extra_forbidden":
        keys = list(owner.model_fields)
        hint = near_miss(place[-1], keys)
        way_out = f". {hint}" if hint else ""
        return source.fault(place, f"{'.'.join(place)}: got an unknown key; expected one of {', '.join(keys)}{way_out}")
    if kind == "missing":
        return source.fault(place, f"{'.'.join(place)}: got nothing; expected a value; it has no default")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        names = [each.model_fields["name"].default for each in INTERVENTIONS]
        got = fault["ctx"].get("tag")
        hint = near_miss(got, names)
        return source.expected((*place, "name"), got=got, expected=f"one of {', '.join(names)}", hint=hint)
    if place[0] == "steps":
        return source.expected(place, got=fault["input"], expected="updates made, or first, before, end or all")
    expected = message.removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("String should ")
    return source.expected(place, got=fault["input"], expected=expected)
