"""The study: every trial of a search, kept by Optuna.

    STORE/sweeps/NAME/study.lock        held by the one process that asks and tells; the rest is in `storage.py`

**Exactly once.** A trial is asked when its last attribute, `config_id`, is written, and told when its state
changes; both are single writes. Whatever a killed driver left is one of three: running without `config_id` (it is
told as failed, since nothing was trained for it), running with it (its runs are looked up in the ledger, and trained
where they are not there), or told. Going on after a crash is `Book.pending`, and so it is after the database was away.

**One writer.** A second driver of the same sweep is refused. Readers, such as `optuna-dashboard`, may open the study
at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from orchestrator.errors import BadRequest
from orchestrator.search.journal import locked
from orchestrator.search.objectives import Score
from orchestrator.search.samplers import Steered, distribution, suggested
from orchestrator.search.space import Space
from orchestrator.search.storage import Address, Away, let_go, plainly
from orchestrator.search.trial import Trial


class Book:
    """A study that is open for asking and telling; all calls come from one thread, after it was opened.

    Args:
        address: where it is kept.
        space: what is asked of it.
        goals: label -> whether more is better.
        identity: what must not change while it lives, by name; compared with what it was begun with.
        sampler: the sampler's name, or None where a strategy of our own asks.
        options: of the sampler.
        seed: of the sampler.

    Raises:
        BadRequest: another process has it open, it is a study of something else, or the database cannot be reached.
    """

    def __init__(
        self,
        address: Address,
        *,
        space: Space,
        goals: Mapping[str, bool],
        identity: Mapping[str, Any],
        sampler: str | None,
        options: Mapping[str, Any],
        seed: int,
    ):
        self.address, self.space, self.goals = address, space, dict(goals)
        self._identity = identity
        address.check()
        self._lock = locked(address.folder)
        self._connection: BaseStorage | None = None
        try:
            self._connection = self.address.connected()
            with plainly(address):
                self.trials: dict[int, Trial] = {}
                self._study = self._opened()
                self._read()
                n = len(self.trials)
                self._steered = Steered(sampler or "random", space=space, options=options, seed=seed, asked=n)
                self._study.sampler = self._steered
        except Away as error:
            self.close()
            raise BadRequest(str(error)) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others open it."""
        self.rest()
        os.close(self._lock)
        self._lock = -1

    def rest(self) -> None:
        """Let go of what this thread holds of a database; called at a thread's end."""
        if self._connection is not None:
            let_go(self._connection)

    def ask(
        self,
        *,
        round_: int,
        replicates: range,
        fixed: Mapping[str, Any] | None = None,
        own: int | None = None,
    ) -> Trial:
        """A new trial; with some values, or all of them, given.

        Raises:
            Away: the database does not answer.
        """
        with plainly(self.address):
            self._steered.fixed = dict(fixed or {})
            asked = self._study.ask()
            params: dict[str, Any] = {}
            for setting in self.space.settings:
                if setting.is_active(params):
                    params[setting.field] = setting.value(suggested(asked, distribution(setting), setting.field))
            trial = Trial(
                number=asked.number, state="running", params=params, replicates=replicates, round=round_, own=own
            )
            trial.asked_at = datetime.now(UTC)
            asked.set_user_attr("replicates", [replicates.start, replicates.stop])
            asked.set_user_attr("round", round_)
            if own is not None:
                asked.set_user_attr("own", own)
            self.trials[trial.number] = trial
            return trial

    def confirm(self, number: int, *, config_id: str) -> None:
        """A trial is asked from now on: its runs will be trained, whatever happens to this process.

        Raises:
            Away: the database does not answer.
        """
        with plainly(self.address):
            self._live(number).set_user_attr("config_id", config_id)
        self.trials[number].config_id = config_id

    def tell(
        self,
        number: int,
        *,
        scores: Mapping[str, Score],
        constraints: Mapping[str, float] | None = None,
        runs: int = 0,
        events: int = 0,
        reason: str = "",
    ) -> None:
        """What came of a trial; with a reason, that it failed. Telling again what was told does nothing.

        Raises:
            Away: the database does not answer.
        """
        trial = self.trials[number]
        if trial.state != "running":
            return
        with plainly(self.address):
            live = self._live(number)
            if self._storage.get_trial(live._trial_id).state == TrialState.RUNNING:
                for key, value in _attributes(scores, runs=runs, events=events, reason=reason).items():
                    live.set_user_attr(key, value)
                known = live.constraints
                for key, value in (constraints or {}).items():
                    if key not in known:
                        live.set_constraint(key, value)
                values = None if reason else [scores[label].value for label in self.goals]
                self._study.tell(number, values=values, state=TrialState.FAIL if reason else TrialState.COMPLETE)
        trial.state, trial.told_at = ("failed" if reason else "complete"), datetime.now(UTC)
        trial.scores, trial.runs, trial.events, trial.reason = dict(scores), runs, events, reason

    def add(
        self,
        params: Mapping[str, Any],
        *,
        config_id: str,
        scores: Mapping[str, Score],
        constraints: Mapping[str, float],
        runs: int,
        events: int,
    ) -> None:
        """A trial that was never asked: told from runs that the store had."""
        with plainly(self.address):
            settings = [self.space[name] for name in params]
            attributes = _attributes(scores, runs=runs, events=events)
            made = optuna.trial.create_trial(
                values=[scores[label].value for label in self.goals],
                params={one.field: one.label(params[one.field]) for one in settings},
                distributions={one.field: distribution(one) for one in settings},
                user_attrs={"replicates": [0, 0], "round": 0, "warm": True, **attributes, "config_id": config_id},
                constraints=dict(constraints),
            )
            self._study.add_trial(made)
            self._read()

    def pending(self) -> list[Trial]:
        """Trials that were asked and not told; those that were not wholly asked are told as failed.

        Raises:
            Away: the database does not answer.
        """
        running = [trial for trial in self.trials.values() if trial.state == "running"]
        for trial in running:
            if not trial.config_id:
                self.tell(trial.number, scores={}, reason="the driver ended while it was asked")
        return [trial for trial in running if trial.config_id]

    @property
    def _storage(self) -> BaseStorage:
        assert self._connection is not None
        return self._connection

    @property
    def worked_s(self) -> float:
        """How long the search has been at work, as last kept [s]."""
        return float(self._study.user_attrs.get("worked_s", 0.0))

    def keep_worked(self, seconds: float) -> None:
        """Keep how long the search has been at work."""
        with plainly(self.address):
            self._study.set_user_attr("worked_s", round(seconds, 1))

    def reopen(self) -> None:
        """Connect again and read everything again, after the database was away.

        Raises:
            Away: it still is.
        """
        self.rest()
        self._connection = self.address.connected()
        with plainly(self.address):
            self._study = self._opened()
            self._study.sampler = self._steered
            self._read()

    # -- the study behind it -----------------------------------------------------------------

    def _opened(self) -> optuna.Study:
        directions = [
            optuna.study.StudyDirection.MAXIMIZE if more else optuna.study.StudyDirection.MINIMIZE
            for more in self.goals.values()
        ]
        name = self.address.name
        try:
            study = optuna.create_study(
                storage=self._storage, study_name=name, directions=directions, load_if_exists=True
            )
        except ValueError as error:  # Optuna refuses other directions
            raise self._other("objective", str(error)) from None
        known, wanted = study.user_attrs.get("eureka"), json.loads(json.dumps(self._identity))
        if known is None and not study.get_trials(deepcopy=False):
            study.set_metric_names(list(self.goals))
            study.set_user_attr("eureka", wanted)
            known = wanted
        if known is None:
            raise self._other("study", "it was not begun by a search")
        for key, value in wanted.items():
            if known.get(key) != value and not (key == "store" and not Path(str(known.get(key))).exists()):
                raise self._other(key, f"begun with {json.dumps(known.get(key))}, now {json.dumps(value)}")
        return study

    def _other(self, key: str, told: str) -> BadRequest:
        told = told if len(told) <= 500 else f"{told[:500]}…"
        way_out = "Give the sweep another `name`, or its study another storage"
        return BadRequest(f"{self.address.shown}: study {self.address.name} is of another {key}: {told}. {way_out}")

    def _read(self) -> None:
        found = self._study.get_trials(deepcopy=False)
        self.trials = {one.number: self._trial(one) for one in found if one.state != TrialState.WAITING}

    def _live(self, number: int) -> optuna.Trial:
        study = self._storage.get_study_id_from_name(self.address.name)
        return optuna.Trial(self._study, self._storage.get_trial_id_from_study_id_trial_number(study, number))

    def _trial(self, found: FrozenTrial) -> Trial:
        attributes, values = found.user_attrs, found.values or []
        scores = {label: Score(value=value) for label, value in zip(self.goals, values, strict=False)}
        for label, told in attributes.get("scores", {}).items():
            scores[label] = Score(value=told[0], low=told[1], high=told[2])
        known = {setting.field for setting in self.space.settings}
        return Trial(
            number=found.number,
            state={"RUNNING": "running", "COMPLETE": "complete"}.get(found.state.name, "failed"),
            params={name: self.space[name].value(value) for name, value in found.params.items() if name in known},
            config_id=attributes.get("config_id", ""),
            replicates=range(*attributes.get("replicates", (0, 0))),
            round=attributes.get("round", 0),
            asked_at=_utc(found.datetime_start),
            told_at=_utc(found.datetime_complete),
            scores=scores,
            runs=attributes.get("runs", 0),
            events=attributes.get("events", 0),
            reason=attributes.get("reason", ""),
            is_warm=attributes.get("warm", False),
            own=attributes.get("own"),
        )


def _attributes(scores: Mapping[str, Score], *, runs: int = 0, events: int = 0, reason: str = "") -> dict[str, Any]:
    told = {label: [one.value, one.low, one.high] for label, one in scores.items()}
    return {"scores": told, "runs": runs, "events": events} | ({"reason": reason} if reason else {})


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)
