"""What a store's JSON files must hold before anything is read of them: names that are names, lists that are lists.

A store may have been damaged, or come from somebody else. What passes here can be used as it is; what does not is one
line with the file in it, never an exception somewhere behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from analysis.errors import StoreError
from analysis.places.object_path import File

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of a block, a sweep, a run: a part of a path, and no way out of it


def is_name(value: Any) -> bool:
    """Whether a value may be a part of a file's name."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def named(value: str, *, what: str) -> str:
    """A name, as such.

    Raises:
        StoreError: it is none.
    """
    if not is_name(value):
        raise StoreError(f"{what}: got {str(value)[:100]!r}; expected letters, digits, '-', '_', '.'")
    return value


def sweep_record(record: dict[str, Any], *, path: File) -> dict[str, Any]:
    """A sweep's record.

    Raises:
        StoreError: it is another sweep's, or lacks what every record has.
    """
    if record.get("name") != path.parent.name:
        raise _fault(path, "name", record.get("name"), f"'{path.parent.name}', as its folder is called")
    return _checked(record, _SWEEP, needs=("runs",), path=path)


def cohort_record(record: dict[str, Any], *, path: File) -> dict[str, Any]:
    """What a worker is told of a cohort.

    Raises:
        StoreError: something of it is missing.
    """
    return _checked(record, _COHORT, needs=tuple(_COHORT), path=path)


def journal_record(record: dict[str, Any], *, path: File) -> dict[str, Any]:
    """Which block is being written, and which it replaces.

    Raises:
        StoreError: it names no blocks.
    """
    return _checked(record, _JOURNAL, needs=tuple(_JOURNAL), path=path)


def _checked(
    record: dict[str, Any],
    fields: Mapping[str, tuple[Callable[[Any], bool], str]],
    *,
    needs: tuple[str, ...],
    path: File,
) -> dict[str, Any]:
    for key, (is_right, expected) in fields.items():
        if (key in record or key in needs) and not is_right(record.get(key)):
            raise _fault(path, key, record.get(key), expected)
    return record


def _fault(path: File, key: str, got: Any, expected: str) -> StoreError:
    return StoreError(f"{path}: {key}: got {repr(got)[:60]}; expected {expected}. `eureka doctor` says more")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_list_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_right, value))


def _is_axes(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(values, list) for values in value.values())


def _or_none(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_right(value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


_SWEEP: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "runs": (_is_list_of(_is_text), "a list of run_ids"),
    "question": (_is_text, "a text"),
    "base": (_is_mapping, "a mapping"),
    "axes": (_is_axes, "a list of values for each axis"),
    "zipped": (_is_list_of(_is_list_of(_is_text)), "a list of lists of fields"),
    "replicates": (_is_count, "a number"),
    "horizon_steps": (_is_count, "a number of steps"),
    "yaml": (_is_text, "a text"),
    "overrides": (_is_list_of(_is_text), "a list of texts"),
    "detector": (_or_none(_is_text), "a detector's name"),
    "search": (_or_none(_is_mapping), "a mapping"),
}
_COHORT: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "members": (_is_list_of(_is_mapping), "a list of specs"),
    "width": (lambda value: _is_count(value) and value > 0, "a number of slots"),
    "device": (_is_text, "a device"),
    "checkpoint_s": (lambda value: type(value) in (int, float), "seconds"),
    "resumes": (lambda value: isinstance(value, bool), "true or false"),
}
_JOURNAL: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "block": (is_name, "a block's name"),
    "replaces": (_is_list_of(is_name), "a list of blocks"),
}
