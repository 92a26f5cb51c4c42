"""Ray Tune as the launcher; the only file that imports ray.

A Tune trial trains one cohort, and its config is the cohort's id alone. Tune schedules, places and
reuses workers; it holds no truth: the ledger does. So its own snapshots are never restored, its
retries are off (a lost cohort goes back to the queue, which offers it again), and its files live in
a folder that is thrown away.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

# Ray reads these when it is imported or starts its processes.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a worker without a GPU sees none
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ROTATION_MAX_BYTES", str(16 * 2**20))  # of a log, which grows by some 30 kB a minute
os.environ.setdefault("RAY_ROTATION_BACKUP_COUNT", "2")
if "ray" not in sys.modules and not os.environ.get("RAY_ADDRESS"):  # this process will start Ray, for itself alone
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on loopback; else the network reaches it
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # Ray's 15 starves training beside anything else; `nice eureka` is

import ray
from ray import tune
from ray.tune.search import Searcher

from orchestrator.errors import OrchestratorError
from orchestrator.notices import VARIABLE, watched
from orchestrator.pulse import Pulse, as_pulse, as_result
from orchestrator.queue import CohortQueue
from orchestrator.stopping import keeps_hearing
from orchestrator.token import keep_private

if TYPE_CHECKING:
    from orchestrator.worker import CohortWorker


DRAIN_S = 120  # until a machine that is taken away is gone, at most
WAIT_S = 0.5  # for a search that has nothing to train yet, while no worker has anything either


class CohortTrainable(tune.Trainable):
    """One worker process; takes cohort after cohort."""

    def setup(self, config: dict[str, Any], store: str = "", sweep: str = "", notices: str = "") -> None:
        """Take the first cohort."""
        self._where: dict[str, Any] = {"store": store, "sweep": sweep}
        self._notices = watched(notices).__enter__() if notices else None
        self._worker = self._worker_of(config["cohort"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next cohort in the same process."""
        self._where["store"] = self._worker.store  # what it has read of the ledger stays read
        self._worker = self._worker_of(new_config["cohort"])
        return True

    def step(self) -> dict[str, Any]:
        """Train for a while; the trial is done when its cohort is."""
        from orchestrator.worker import pulse_or_error

        pulse = pulse_or_error(self._worker)
        if self._notices and self._notices.said and not pulse.over:
            self._worker.close()
            leave_machine(self._notices.said)
        return as_result(pulse) | {"done": pulse.over}

    def cleanup(self) -> None:
        """Keep what an interrupted trial has trained."""
        self._worker.close()

    def _worker_of(self, cohort: str) -> CohortWorker:
        """Imported here, since the driver has no use for torch."""
        from orchestrator.worker import CohortWorker

        return CohortWorker(**self._where, cohort=cohort)


class QueueSearcher(Searcher):
    """Hands the queue's cohorts to Tune and brings their fate back."""

    def __init__(self, queue: CohortQueue, on_pulse: Callable[[Pulse], None]):
        super().__init__(metric="run_steps", mode="max")
        self._queue, self._on_pulse = queue, on_pulse
        self._cohorts: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next cohort; None while those that are out may still come back."""
        cohort = self._queue.take(wait_s=0.0 if self._queue.out else WAIT_S)
        if cohort is not None:
            self._cohorts[trial_id] = cohort
            return {"cohort": cohort}
        return Searcher.FINISHED if self._queue.is_over else None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A pulse."""
        self._hear(result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The last pulse, or the loss of the worker."""
        if error or not result or not result.get("over"):
            self._queue.lost(self._cohorts[trial_id], "the worker process was lost repeatedly without progress")
        else:
            self._hear(result)

    def _hear(self, result: dict[str, Any]) -> None:
        pulse = as_pulse(result)
        self._queue.hear(pulse)
        self._on_pulse(pulse)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into every snapshot; ours are never restored."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger knows."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class Beginnings(tune.Callback):
    """Tells the queue when a worker is about to read a cohort; until then its members can be moved."""

    def __init__(self, queue: CohortQueue):
        self._queue = queue

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune calls this before the trial's first step."""
        self._queue.begin(trial.config["cohort"])

    def __getstate__(self) -> dict[str, Any]:
        """As for the searcher."""
        return {}


def leave_machine(why: str) -> None:
    """Keep Ray from placing anything more on this machine, and end this worker; its cohort is given out again."""
    here = ray.get_runtime_context()
    command = ["drain-node", "--address", here.gcs_address, "--node-id", here.get_node_id()]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", why]
    command += ["--deadline-remaining-seconds", str(DRAIN_S)]
    words = [sys.executable, "-m", "ray.scripts.scripts", *command]
    subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    ray.actor.exit_actor()


def train_with_ray(
    queue: CohortQueue, *, workers: int, cpus: float = 1.0, gpus: float, on_pulse: Callable[[Pulse], None]
) -> None:
    """Work through the queue with Ray Tune, on the cluster at RAY_ADDRESS or on this machine.

    Args:
        queue: the cohorts.
        workers: processes on this machine; a cluster's resources decide there.
        cpus: processors a worker needs.
        gpus: accelerators a worker needs.
        on_pulse: told of every pulse.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a lost worker is the queue's business
    with keeps_hearing():
        started = connect(workers)
    try:
        where = {"store": str(queue.store.path), "sweep": queue.sweep}
        trainable = tune.with_parameters(CohortTrainable, **where, notices=os.environ.get(VARIABLE, ""))
        with tempfile.TemporaryDirectory(prefix="eureka-tune-") as scratch:
            tuner = tune.Tuner(
                tune.with_resources(trainable, {"cpu": cpus, "gpu": gpus}),
                param_space={},
                tune_config=tune.TuneConfig(
                    search_alg=QueueSearcher(queue, on_pulse), num_samples=-1, reuse_actors=True
                ),
                run_config=tune.RunConfig(
                    name=queue.sweep,
                    storage_path=scratch,
                    verbose=0,
                    callbacks=[Beginnings(queue)],
                    failure_config=tune.FailureConfig(max_failures=0),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            )
            tuner.fit()
    finally:
        if started:
            disconnect()


def connect(workers: int) -> bool:
    """Start Ray on this machine, or reach the cluster at RAY_ADDRESS; false where that was done before.

    Args:
        workers: processes on this machine.

    Raises:
        OrchestratorError: it cannot be started or reached.
    """
    if ray.is_initialized():
        return False
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(log_to_driver=False, logging_level="ERROR")
        else:
            keep_private()
            ray.init("local", num_cpus=workers, **quiet)  # its own, also where another Ray runs on this machine
    except (ConnectionError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        way_out = "check RAY_ADDRESS, and give RAY_AUTH_MODE the head's value; or take --launcher inline"
        raise OrchestratorError(f"ray: could not start or reach a cluster ({first}); {way_out}") from None
    return True


def disconnect() -> None:
    """Undo `connect`."""
    ray.shutdown()
