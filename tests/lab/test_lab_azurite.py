"""Azure's storage as its own emulator speaks it: sweeps shared and killed, and what is wrong in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from azurite import azurite, program
from bucket_sweeps import kill_between_requests, share_and_kill_one
from click.testing import CliRunner

from analysis.places.bucket import bucket_of
from orchestrator.cli import cli

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(program() is None, reason="needs Azurite: `npm install azurite`, and LAB_AZURITE"),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with azurite(tmp_path_factory.mktemp("azurite")) as sets, pytest.MonkeyPatch.context() as patch:
        for name, value in sets.items():
            patch.setenv(name, value)
        bucket_of.cache_clear()
        yield
        bucket_of.cache_clear()


def test_two_commands_share_a_sweep_and_one_is_killed(gateway: None, tmp_path: Path) -> None:
    share_and_kill_one("az://bucket/shared", tmp_path)


def test_a_sweep_killed_between_any_two_puts_goes_on_to_the_same_tables(gateway: None, tmp_path: Path) -> None:
    kill_between_requests("az://bucket/dying", tmp_path)


@pytest.mark.parametrize(
    ("address", "sets", "says"),
    [
        ("az://nobucket/store", {}, "there is no bucket 'nobucket'; make it, or correct the address"),
        ("az://bucket/none", {"AZURE_STORAGE_ACCOUNT_KEY": "bm90IGl0"}, "access to 'bucket' is denied; give this key"),
        ("az://bucket/none", {"AZURE_STORAGE_ACCOUNT_KEY": "no base64"}, "set AZURE_STORAGE_ACCOUNT_NAME and"),
        ("az://bucket/none", {}, "no store here; `eureka run SWEEP --store az://bucket/none` makes one"),
    ],
)
def test_what_is_wrong_is_one_line(
    gateway: None, monkeypatch: pytest.MonkeyPatch, address: str, sets: dict[str, str], says: str
) -> None:
    for name, value in sets.items():
        monkeypatch.setenv(name, value)
    bucket_of.cache_clear()
    done = CliRunner().invoke(cli, ["status", address])
    bucket_of.cache_clear()
    assert says in done.output
    assert done.output.startswith("eureka: ")
    assert done.output.count("\n") == 1
