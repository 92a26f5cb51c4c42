"""What a launcher makes of a cluster file, before anything is started: files, and the commands that use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A launch on paper.

    Attributes:
        files: text by name.
        commands: shell lines, in order; `FILES` stands for where the files will lie.
        checks: what was checked, tier by tier.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()

    def text(self) -> str:
        """All of it, to be read; files and commands can be cut out and used."""
        parts = [f"# checked: {check}" for check in self.checks]
        for name, text in self.files.items():
            parts += ["", f"# ---- {name}", text.rstrip("\n")]
        if self.commands:
            parts += ["", "# ---- commands", *self.commands]
        return "\n".join(parts)
