"""The base of every spec, the marks that its fields carry, and the three content hashes.

A field is *static* unless marked `per_member`: static fields decide which runs may share a cohort.
`later` marks a field that joined after runs had been stored without it: while it has its default
it stays out of the hashes, so that old ids keep their meaning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Any, cast, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

_REQUIRED: Any = ...


class Frozen(BaseModel):
    """A value object: unknown keys forbidden, no coercion between types, no NaN, no change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def static(default: Any = _REQUIRED, *, later: bool = False, **limits: Any) -> Any:
    """A field that decides tensor shapes or the program: runs that differ in it never share a cohort."""
    marks: dict[str, Any] = {"per_member": False, "later": later}
    return Field(default, json_schema_extra=marks, **limits)


def per_member(default: Any = _REQUIRED, *, later: bool = False, seed: bool = False, **limits: Any) -> Any:
    """A field whose value may differ between the members of one cohort.

    Args:
        default: value where the user gives none.
        later: stays out of the hashes while it has its default.
        seed: belongs to the replicate, not to the config.
        **limits: `gt`, `ge`, `lt`, `le` … as pydantic takes them.
    """
    marks: dict[str, Any] = {"per_member": True, "later": later, "seed": seed}
    return Field(default, json_schema_extra=marks, **limits)


def _marks(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def leaves(spec: BaseModel, *, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo, Any]]:
    """Every leaf field of a spec: (path, field, value), depth first in declaration order; absent parts have none."""
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, prefix=(*prefix, name))
        elif value is not None or not issubclass(_type_of(field.annotation), BaseModel):
            yield (*prefix, name), field, value
    for name, value in (spec.model_extra or {}).items():
        yield (*prefix, name), FieldInfo.from_annotation(type(value)), value


def flatten(spec: BaseModel) -> dict[str, Any]:
    """The spec as dotted columns: `{"task.name": "two_step", "optim.lr": 0.001, …}`."""
    return {".".join(path): value for path, _, value in leaves(spec)}


def column_types(spec: BaseModel) -> dict[str, type]:
    """Python type of each dotted column, also where the value is None."""
    return {".".join(path): _type_of(field.annotation) for path, field, _ in leaves(spec)}


def _type_of(annotation: Any) -> type:
    """`float` of `float | None`, `str` of `Literal["a", "b"]`."""
    inner = [argument for argument in get_args(annotation) if argument is not NoneType]
    if not inner:
        return cast(type, annotation)
    return _type_of(inner[0]) if isinstance(inner[0], type) else type(inner[0])


def digest(spec: BaseModel, *, keep: Callable[[dict[str, Any]], bool] = lambda marks: True) -> str:
    """Content hash of the fields whose marks pass `keep` [16 hex digits].

    Key order, `1e-3` against `0.001`, spelled-out defaults and Python versions do not change it.
    """
    return digest_of(content(spec, keep=keep))


def digest_of(text: str) -> str:
    """Hash of what `content` says [16 hex digits]."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def content(spec: BaseModel, *, keep: Callable[[dict[str, Any]], bool] = lambda marks: True) -> str:
    """What a digest is of: the fields whose marks pass `keep`, as JSON with sorted keys."""
    found = {}
    for path, field, value in leaves(spec):
        marks = _marks(field)
        if keep(marks) and not (marks.get("later") and value == field.get_default(call_default_factory=True)):
            found[".".join(path)] = value + 0.0 if isinstance(value, float) else value  # -0.0 is 0.0
    return json.dumps(found, sort_keys=True, separators=(",", ":"), allow_nan=False)


def run_digest(spec: BaseModel) -> str:
    """Everything that determines a run."""
    return digest(spec)


def config_digest(spec: BaseModel) -> str:
    """Everything but the seeds."""
    return digest(spec, keep=lambda marks: not marks.get("seed"))


def shape_digest(spec: BaseModel) -> str:
    """Everything but the per-member fields: what may share a cohort."""
    return digest(spec, keep=lambda marks: not marks.get("per_member"))
