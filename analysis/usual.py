"""Who judges events where nobody else is named; imports nothing, so that a command line can say it at once."""

from collections.abc import Mapping
from typing import Any

DEFAULT_DETECTOR = "contrast-1"


def judge_of(record: Mapping[str, Any]) -> str:
    """The detector that a sweep's record names, or the usual one."""
    return str(record.get("detector") or DEFAULT_DETECTOR)
