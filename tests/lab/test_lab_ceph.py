"""A real Ceph gateway: what the store promises, sweeps whose gateway is stopped or killed, and killed sweeps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from bucket_sweeps import assert_same, calm, kill_between_requests, safe_steps, share_and_kill_one, start, wait, write
from ceph import Ceph, ceph, lacking
from hosts import ROOT

from analysis.places.bucket import bucket_of

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(lacking()), reason=lacking())]

AWAY_S = 30.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    with ceph(tmp_path_factory.mktemp("ceph")) as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment().items():
            patch.setenv(name, value)
        patch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")  # for boto3; the store sends none
        boto3.client("s3").create_bucket(Bucket="bucket")
        bucket_of.cache_clear()
        yield made
        bucket_of.cache_clear()


def test_what_a_store_promises_it_promises_on_ceph(gateway: Ceph) -> None:
    tests = ROOT / "tests" / "analysis" / "test_object_store.py"
    sets = {**os.environ, "EUREKA_TEST_S3_PORT": str(gateway.port), "EUREKA_TEST_S3_KEY": "lab"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(tests)],
        cwd=ROOT,
        env=sets,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-300:])
    assert done.returncode == 0, done.stdout[-5000:]


def test_a_gateway_stopped_and_killed_in_mid_sweep_costs_waiting_alone(gateway: Ceph, tmp_path: Path) -> None:
    sweep, address = write(tmp_path, name="away", steps=250, replicates=4), "s3://bucket/away"
    undisturbed = calm(sweep, tmp_path / "calm")
    command = start(sweep, address, "--launcher", "inline")
    wait(lambda: safe_steps(address) > 50, "under way")
    gateway.pause_gateway()
    time.sleep(AWAY_S)
    gateway.continue_gateway()
    before = safe_steps(address)
    wait(lambda: safe_steps(address) > before, "under way again after SIGSTOP")
    gateway.kill_gateway()
    time.sleep(AWAY_S)
    assert command.poll() is None, "it did not wait"
    gateway.start_gateway()
    wait(lambda: command.poll() is not None, "ended")
    assert command.returncode == 0
    assert_same(address, undisturbed)


def test_two_commands_share_a_sweep_and_one_is_killed(gateway: Ceph, tmp_path: Path) -> None:
    share_and_kill_one("s3://bucket/shared", tmp_path)


def test_a_sweep_killed_between_any_two_puts_goes_on_to_the_same_tables(gateway: Ceph, tmp_path: Path) -> None:
    kill_between_requests("s3://bucket/dying", tmp_path)
