"""The command's outermost layer: what was anticipated is one line on stderr and an exit code, the rest a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from orchestrator.errors import BadRequest, OrchestratorError
from workloads.errors import WorkloadError

INTERRUPTED = "interrupted; committed runs are safe, and the same command goes on from there"


class Eureka(click.Group):
    """A group whose anticipated errors are one line on stderr and an exit code."""

    def main(self, args: Sequence[str] | None = None, **options: Any) -> Any:  # type: ignore[override]
        """Run a verb and leave with its exit code."""
        options["standalone_mode"] = False
        try:
            code = super().main(args, **options)
        except click.exceptions.NoArgsIsHelpError as asked:
            click.echo(asked.ctx.get_help() if asked.ctx else "")
            code = 0
        except (KeyboardInterrupt, click.Abort):
            code = say(INTERRUPTED, code=130)
        except BrokenPipeError:  # the reader of a pipe has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        except click.ClickException as error:
            code = say(" ".join(error.format_message().split()), code=2)
        except Exception as error:
            if (anticipated := _code_of(error)) is None:
                raise
            code = say(str(error), code=anticipated)
        sys.exit(code if isinstance(code, int) else 0)


def say(message: str, *, code: int) -> int:
    """A line on stderr; gives the exit code."""
    click.echo(f"eureka: {message}", err=True)
    return code


def _code_of(error: Exception) -> int | None:
    """The exit code of an error that was raised on purpose; None for a fault of our own."""
    analysis = sys.modules.get("analysis.errors")  # never imported, never raised
    if isinstance(error, BadRequest | WorkloadError) or (analysis and isinstance(error, analysis.AnalysisError)):
        return 2
    return 1 if isinstance(error, OrchestratorError) else None
