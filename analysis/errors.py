"""The errors of the analysis layer: one base class, one-line messages that name the way out."""


class AnalysisError(Exception):
    """A request that the tables cannot answer; the message is one line and says what would."""

    def __init__(self, message: str = ""):
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


class NoRuns(AnalysisError):
    """No run is left to estimate from."""


class NoSuchColumn(AnalysisError):
    """A metric, axis or setting that is in no table."""


class NoSuchDetector(AnalysisError):
    """A detector name that is not registered."""


class StoreError(AnalysisError):
    """A store that is not there, not ours, not writable, or not whole."""
