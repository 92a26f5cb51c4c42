"""Optuna's samplers: which there are, what they may be told, and one that can be given some of its values."""

from __future__ import annotations

import inspect
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from orchestrator.errors import first_line
from orchestrator.search.space import Setting, Space
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
SHARED_SHAPE = ("tpe", "random", "nsga2", "nsga3")  # may be asked for further configs of a given shape


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
        return "", first_line(error)
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


def suggested(asked: optuna.Trial, kind: BaseDistribution, name: str) -> Any:
    """What a trial is given for a setting."""
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
