"""One cache of compiled code and measurements for a test session: made afresh, shared by its processes.

Property tests have no deadline: on a shared machine a slow example says nothing of the code.
"""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers inherit it
        config.stash[_CACHE] = os.environ["EUREKA_CACHE"] = tempfile.mkdtemp(prefix="eureka-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _CACHE in config.stash:
        shutil.rmtree(config.stash[_CACHE], ignore_errors=True)


_CACHE = pytest.StashKey[str]()
