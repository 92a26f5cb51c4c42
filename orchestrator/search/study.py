"""The study: every trial of a search, kept by Optuna; the only file that imports optuna.

    STORE/sweeps/NAME/study.journal     the study, unless `storage` names a database
    STORE/sweeps/NAME/study.journal.sum what the journal held when it was last written (`analysis/appended.py`)
    STORE/sweeps/NAME/study.lock        held by the one process that asks and tells

**Exactly once.** A trial is asked when its last attribute, `config_id`, is written, and told when its state
changes; both are single writes. Whatever a killed driver left is one of three: running without `config_id` (it is
told as failed, since nothing was trained for it), running with it (its runs are looked up in the ledger, and trained
where they are not there), or told. Going on after a crash is `Book.pending`, and so it is after the database was away.

The file is long because no other may import optuna.

**One writer.** A second driver of the same sweep is refused. Readers, such as `optuna-dashboard`, may open the study
at any time.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from analysis.appended import Appended
from orchestrator.errors import BadRequest, OrchestratorError
from orchestrator.search.journal import locked, mend_journal
from orchestrator.search.objectives import Score
from orchestrator.search.space import Setting, Space
from orchestrator.search.trial import Trial
from workloads.errors import near_miss

SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
    "nsga3": optuna.samplers.NSGAIIISampler,
    "random": optuna.samplers.RandomSampler,
    "qmc": optuna.samplers.QMCSampler,
    "brute_force": optuna.samplers.BruteForceSampler,
}
OURS = (
    "seed",
    "warn_independent_sampling",
    "warn_asynchronous_seeding",
    "avoid_premature_stop",
)  # options that the search itself sets
OPTION_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
AWAY = (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError, ConnectionError)
CONNECT_S = 10  # [s]
SHARED_SHAPE = ("tpe", "random", "nsga2", "nsga3")  # may be asked for further configs of a given shape


class Away(OrchestratorError):
    """The study's database does not answer; it may come back."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a study is kept.

    Attributes:
        folder: the sweep's own, in the store.
        name: of the study.
        url: of a database; None is a journal in the folder.
    """

    folder: Path
    name: str
    url: str | None = None

    def check(self) -> None:
        """That the database's address is one.

        Raises:
            BadRequest: it is not.
        """
        try:
            _ = self.shown
        except sqlalchemy.exc.ArgumentError:
            expected = "an address such as sqlite:///study.db or postgresql+psycopg://user@host/db"
            raise BadRequest(f"search.storage: got {self.url!r}; expected {expected}") from None

    @property
    def shown(self) -> str:
        """The address without its password."""
        if self.url is None:
            return str(self.journal)
        return sqlalchemy.engine.make_url(self.url).render_as_string(hide_password=True)

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.folder / "study.journal"


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
            self._connection = self._connected()
            with _plainly(address):
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
        if isinstance(self._connection, RDBStorage):
            with contextlib.suppress(*AWAY):
                self._connection.remove_session()
            with contextlib.suppress(*AWAY):
                self._connection.engine.dispose()

    # -- asking and telling ------------------------------------------------------------------

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
        with _plainly(self.address):
            self._steered.fixed = dict(fixed or {})
            asked = self._study.ask()
            params: dict[str, Any] = {}
            for setting in self.space.settings:
                if setting.is_active(params):
                    params[setting.field] = setting.value(_suggested(asked, distribution(setting), setting.field))
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
        with _plainly(self.address):
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
        with _plainly(self.address):
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
        with _plainly(self.address):
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
        with _plainly(self.address):
            self._study.set_user_attr("worked_s", round(seconds, 1))

    def reopen(self) -> None:
        """Connect again and read everything again, after the database was away.

        Raises:
            Away: it still is.
        """
        self.rest()
        self._connection = self._connected()
        with _plainly(self.address):
            self._study = self._opened()
            self._study.sampler = self._steered
            self._read()

    # -- the study behind it -----------------------------------------------------------------

    def _connected(self) -> BaseStorage:
        url = self.address.url
        if url is None:
            mend_journal(self.address.journal)
            return JournalStorage(_Summed(self.address.journal))
        try:
            engine: dict[str, Any] = {"pool_pre_ping": True}
            if url.startswith("postgresql"):
                engine["connect_args"] = {"connect_timeout": CONNECT_S}
            return RDBStorage(url, engine_kwargs=engine)
        except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
            way_out = "install its driver; PostgreSQL's is psycopg, as in postgresql+psycopg://…"
            raise BadRequest(f"{self.address.shown}: search.storage: {_first(error)}; {way_out}") from None
        except AWAY as error:
            raise Away(f"{self.address.shown}: search.storage: cannot be reached: {_first(error)}") from None

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


class _Summed(JournalFileBackend):
    """A journal whose sum is kept beside it.

    Args:
        path: of the journal.
    """

    def __init__(self, path: Path):
        self._sum = Appended(path)
        super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append, and vouch for it."""
        super().append_logs(logs)
        self._sum.grown()


class Steered(BaseSampler):
    """A sampler of Optuna's, some of whose values are given.

    Args:
        name: of SAMPLERS.
        space: what is asked.
        options: of the sampler.
        seed: of the search.
        asked: trials there are already; a sampler that begins again must not repeat its first draws.
    """

    def __init__(self, name: str, *, space: Space, options: Mapping[str, Any], seed: int, asked: int = 0):
        self.name, self.fixed = name, dict[str, Any]()
        self._plain = {one.field: distribution(one) for one in space.settings if not one.when}
        self._base = make_sampler(name, options=options, seed=seed if name == "qmc" else seed + 7919 * asked)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is drawn jointly; a quasi-random sequence knows it from the start."""
        whole = self._plain if self.name == "qmc" else self._base.infer_relative_search_space(study, trial)
        return {name: kind for name, kind in whole.items() if name not in self.fixed}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values drawn jointly."""
        return self._base.sample_relative(study, trial, search_space) if search_space else {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value of its own, or the given one."""
        if param_name in self.fixed:
            value = self.fixed[param_name]
            return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value
        return self._base.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """As the sampler has it."""
        self._base.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As the sampler has it; one that has seen everything would stop a loop that is not there."""
        if self.name != "brute_force":
            self._base.after_trial(study, trial, state, values)


def make_sampler(name: str, *, options: Mapping[str, Any], seed: int | None = 0) -> BaseSampler:
    """A sampler of Optuna's.

    Raises:
        ValueError: an option's value is refused.
    """
    own = dict(options)
    signature = inspect.signature(SAMPLERS[name]).parameters
    if "warn_independent_sampling" in signature and name != "tpe":
        own["warn_independent_sampling"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental, or to be renamed one day: the version is pinned
        return SAMPLERS[name](seed=seed, **own)


def option_types(name: str) -> dict[str, tuple[type, ...]]:
    """The options of a sampler that a file can give, and the types of each, from its own signature."""
    found: dict[str, tuple[type, ...]] = {}
    for option, parameter in inspect.signature(SAMPLERS[name]).parameters.items():
        words = str(parameter.annotation).replace("Optional[", "").strip("]").split("|")
        plain = [word.strip() for word in words if word.strip() not in ("None", "")]
        if option not in OURS and plain and all(word in OPTION_TYPES for word in plain):
            found[option] = tuple(kind for word in plain for kind in OPTION_TYPES[word])
    return found


def check_options(name: str, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first option that the sampler does not take, and what is wrong with it; None where all is well."""
    known = option_types(name)
    for option, value in options.items():
        if option not in known:
            hint = near_miss(option, known)
            listed = f"one of {', '.join(known)}" if known else f"no options, since {name} has none"
            return option, f"got an unknown option; expected {listed}{f'. {hint}' if hint else ''}"
        if not isinstance(value, known[option]) or (isinstance(value, bool) and bool not in known[option]):
            wanted = " or ".join(dict.fromkeys(kind.__name__ for kind in known[option]))
            return option, f"got {value!r}; expected {wanted}"
    try:
        make_sampler(name, options=options)
    except (ValueError, ImportError) as error:
        return "", _first(error)
    return None


def distribution(setting: Setting) -> BaseDistribution:
    """A setting as Optuna has it."""
    if setting.kind == "choice":
        return CategoricalDistribution([setting.label(value) for value in setting.choices])
    if setting.kind == "int":
        step = int(setting.step or 1)
        return IntDistribution(int(setting.low), int(setting.values[-1]), log=setting.is_log, step=step)
    high = setting.values[-1] if setting.step else setting.high
    return FloatDistribution(setting.low, high, log=setting.is_log, step=setting.step)


def _suggested(asked: optuna.Trial, kind: BaseDistribution, name: str) -> Any:
    if isinstance(kind, CategoricalDistribution):
        return asked.suggest_categorical(name, kind.choices)
    if isinstance(kind, IntDistribution):
        return asked.suggest_int(name, kind.low, kind.high, step=kind.step, log=kind.log)
    assert isinstance(kind, FloatDistribution)
    return asked.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)


def quiet() -> None:
    """Optuna speaks where something is wrong, and of nothing else."""
    optuna.logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _attributes(scores: Mapping[str, Score], *, runs: int = 0, events: int = 0, reason: str = "") -> dict[str, Any]:
    told = {label: [one.value, one.low, one.high] for label, one in scores.items()}
    return {"scores": told, "runs": runs, "events": events} | ({"reason": reason} if reason else {})


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def _plainly(address: Address) -> Iterator[None]:
    """A database that does not answer is one error, whatever it is called below."""
    try:
        yield
    except AWAY as error:
        raise Away(f"{address.shown}: the study's database does not answer: {_first(error)}") from None
