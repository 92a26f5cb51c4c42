"""`key=value` from the command line, laid over the data of a sweep file.

A key addresses the file's own keys (`replicates=16`, `base.optim.lr=3e-4`). Below `axes` the rest of
it is one axis, dots and all: `axes.optim.lr=[1e-3, 3e-3]` sets the axis `optim.lr`, and
`axes.optim.lr.points=8` a key of it where the file already has that axis; so it is below
`search.space`. A value replaces what it finds, whole; only a new `name` keeps the neighbours that the
new variant knows too (`axes.assign`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orchestrator.axes import KEYS_OF_A_RANGE, NotAMapping, assign, axis_key
from orchestrator.errors import BadRequest, called, first_line, quoted
from orchestrator.yaml_source import Place, Source

SECTIONS: dict[Place, tuple[str, ...]] = {  # whose keys are dotted fields -> keys below each
    ("axes",): KEYS_OF_A_RANGE,
    ("search", "space"): (*KEYS_OF_A_RANGE, "values", "step", "when"),
}


def apply(data: dict[str, Any], *, overrides: Sequence[str], source: Source) -> tuple[dict[str, Any], Source]:
    """The data with the overrides in it, and a source that knows them.

    Raises:
        BadRequest: an override has no `=`, is not YAML, comes twice, or reaches into a value without keys.
    """
    for text in overrides:
        key, value = parse_override(text)
        place = _place(key, data=data)
        if place in source.overrides:
            first = source.overrides[place]
            raise BadRequest(f"{called(text)}: {key}: given twice; the first is {called(first)}")
        try:
            data = _set(data, place=place, value=value)
        except NotAMapping as error:
            raise BadRequest(f"{called(text)}: {error}") from None
        source = replace(source, overrides={**source.overrides, place: text})
    return data, source


def parse_override(text: str) -> tuple[str, Any]:
    """`base.optim.lr=3e-4` as its key and its value; the value is read as YAML."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise BadRequest(f"{called(text)}: expected key=value, such as replicates=16")
    try:
        read = OmegaConf.to_container(_read(value))
        assert isinstance(read, dict)
        _check_keys(read["value"], of=text)
        return key, read["value"]
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        said = getattr(error, "problem", None) or first_line(error)
        raise BadRequest(f"{called(text)}: the value is not YAML: {said}") from None
    except RecursionError:
        raise BadRequest(f"override {text[:40]!r}…: the value is nested too deeply") from None


def _read(value: str) -> Any:
    """The value as OmegaConf takes it from a command line."""
    try:
        return OmegaConf.from_dotlist([f"value={value}"])
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # PyYAML's own, of a scalar's tag
        raise ValueError(f"a value is not of the type that its tag says ({type(error).__name__})") from None


def _check_keys(value: Any, *, of: str) -> None:
    """Keys are words, as in a file.

    Raises:
        BadRequest: one is not.
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise BadRequest(f"{called(of)}: got the key {quoted(key)}; expected a word")
    for below in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _check_keys(below, of=of)


def _place(key: str, *, data: Mapping[str, Any]) -> Place:
    """Which place of the file a key addresses."""
    for section, keys in SECTIONS.items():
        rest = key.removeprefix(".".join((*section, "")))
        if rest and rest != key:
            return _field_place(rest, section=section, keys=keys, data=data)
    return tuple(key.split("."))


def _field_place(rest: str, *, section: Place, keys: Collection[str], data: Any) -> Place:
    """A field of a section whose keys have dots, or a key of what the section has for it."""
    for word in section:
        data = data.get(word) if isinstance(data, Mapping) else None
    for axis in data if isinstance(data, Mapping) else ():
        if axis_key(rest) == axis_key(axis):
            return (*section, axis)
        if rest.startswith(f"{axis}.") and rest.removeprefix(f"{axis}.") in keys:
            return (*section, axis, rest.removeprefix(f"{axis}."))
    return (*section, axis_key(rest))


def _set(data: dict[str, Any], *, place: Place, value: Any) -> dict[str, Any]:
    """`base.…` is a run's description, where a new name switches a variant; the rest is plain."""
    first, *rest = place
    if first == "base" and rest:
        base = data.get("base")
        if not isinstance(base, Mapping):
            raise NotAMapping(("base",), base)
        return {**data, "base": assign(base, tuple(rest), value)}
    return assign(data, place, value, variants=False)
