"""Identity and validation: ids that never drift, errors that say what to type instead."""

from __future__ import annotations

import copy
import json
import math
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from workloads.attention import AttentionSpec
from workloads.errors import SpecError, near_miss
from workloads.fields import Frozen, config_digest, per_member, run_digest, shape_digest, static
from workloads.models import MODELS
from workloads.optimisers import OptimSpec
from workloads.spec import RunSpec, Seeds, resolve
from workloads.tasks import TASKS

BASE: dict[str, Any] = {
    "task": {"name": "two_step"},
    "model": {"attention": {"name": "softmax"}},
    "optim": {"lr": 1e-3},
    "budget": {"steps": 100},
}


def data(path: str = "", value: Any = None, *, base: dict[str, Any] = BASE) -> dict[str, Any]:
    """The base with one dotted field set."""
    nested = copy.deepcopy(base)
    *above, last = path.split(".")
    group = nested
    for part in above:
        group = group.setdefault(part, {})
    if path:
        group[last] = value
    return nested


def ids(spec: RunSpec) -> tuple[str, str, str]:
    return spec.run_id, spec.config_id, spec.shape_key


# -- identity ------------------------------------------------------------------------------------

# If these fail, ids have drifted: every stored run would be trained again, and no sweep could join its
# own results. Mark new fields `later`, or raise the `version` of the part whose meaning changed.
GOLDEN = [
    (BASE, ("b0e2ab81503c08a9", "44f34d2239626324", "34627482cc3d53ec")),
    (
        {
            "task": {"name": "two_step", "n_targets": 3, "noise": 0.25},
            "model": {"width": 64, "attention": {"name": "heat", "statistic": "var", "over_steps": 90}},
            "optim": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "schedule": {"name": "cosine", "warmup_steps": 10}},
            "budget": {"steps": 5000, "batch": 128},
            "seed": {"init": 3, "data": 2**40},
            "stop": {"after_event_steps": 200},
            "log": {"measures_every_steps": 25},
        },
        ("2804ccaadbccebeb", "3e653001a8e7cb95", "9d99e81827447936"),
    ),
]


@pytest.mark.parametrize(("given_data", "wanted"), GOLDEN)
def test_ids_are_the_frozen_ones(given_data, wanted):
    assert ids(resolve(given_data)) == wanted


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", None),
        ("seed", {"init": 7, "data": 2**63 - 40}),
        ("optim.weight_decay", -0.0),
        ("start_from", {"run": "0123456789abcdef", "step": 5}),
        ("budget.steps", 12),
    ],
)
def test_ids_that_come_along_are_those_of_the_spec_itself(path: str, value: Any) -> None:
    spec = resolve(data(path, value))
    seeds = [Seeds(init=spec.seed.init + n, data=spec.seed.data + 3 * n) for n in range(12)]
    for seed, copy_ in zip(seeds, spec.reseeded(seeds), strict=True):
        assert copy_.seed == seed
        bare = RunSpec.model_construct(**{name: getattr(copy_, name) for name in RunSpec.model_fields})
        assert {"run_id", "config_id", "shape_key"} <= copy_.__dict__.keys() - bare.__dict__.keys()
        assert ids(copy_) == ids(bare)
    assert ids(spec) == ids(spec.model_copy())
    assert len({copy_.run_id for copy_ in spec.reseeded(seeds)}) == 12


def reordered(value: Any) -> Any:
    return {key: reordered(value[key]) for key in reversed(value)} if isinstance(value, dict) else value


@pytest.mark.parametrize("given_data", [case[0] for case in GOLDEN])
def test_ids_ignore_order_and_spelled_out_defaults(given_data):
    spec = resolve(given_data)
    assert ids(resolve(reordered(given_data))) == ids(spec)
    assert ids(resolve(spec.model_dump())) == ids(spec)


@pytest.mark.parametrize("given_data", [case[0] for case in GOLDEN])
def test_a_spec_read_back_from_json_is_itself(given_data):
    spec = resolve(given_data)
    again = resolve(json.loads(spec.model_dump_json()))
    assert again == spec
    assert ids(again) == ids(spec)


@given(lr=st.floats(1e-12, 1e6), seed=st.integers(0, 2**63 - 1))
def test_any_numbers_survive_the_ledgers_json(lr, seed):
    spec = resolve(data("seed.init", seed, base=data("optim.lr", lr)))
    assert ids(resolve(json.loads(spec.model_dump_json()))) == ids(spec)


def test_ids_ignore_how_a_number_is_written():
    spellings = [json.loads(text) for text in ("1e-3", "0.001", "1.0e-03", "10e-4")]
    assert len({resolve(data("optim.lr", value)).run_id for value in spellings}) == 1
    assert ids(resolve(data("optim.lr", 1))) == ids(resolve(data("optim.lr", 1.0)))
    assert ids(resolve(data("task.noise", -0.0))) == ids(resolve(data("task.noise", 0.0)))


def test_variants_left_to_their_default_are_the_named_ones():
    short = {key: value for key, value in BASE.items() if key != "model"} | {"model": {}}
    assert ids(resolve(short)) == ids(resolve(BASE))


@pytest.mark.parametrize("path", ["seed.init", "seed.data"])
def test_seeds_change_the_run_alone(path):
    a, b = resolve(BASE), resolve(data(path, 7))
    assert [x == y for x, y in zip(ids(a), ids(b), strict=True)] == [False, True, True]


PER_MEMBER = {
    "optim.lr": 2e-3,
    "optim.weight_decay": 0.5,
    "optim.beta1": 0.5,
    "optim.clip_norm": 1.0,
    "optim.schedule": {"name": "cosine"},
    "budget.steps": 101,
    "stop.after_event_steps": 5,
    "stop.level": 0.3,
    "log.measures_every_steps": 10,
    "task.noise": 0.1,
    "model.init_std": 0.5,
    "model.attention.temperature": 2.0,
}
STATIC = {
    "budget.batch": 65,
    "task.n_targets": 5,
    "task.n_classes": 5,
    "task.features": 31,
    "model.width": 64,
    "model.layers": 3,
    "model.heads": 2,
    "model.activation": "relu",
    "model.attention": {"name": "normsoftmax"},
    "model.norm_eps": 1e-5,
    "optim.name": "adam",
}


@pytest.mark.parametrize("path", PER_MEMBER)
def test_a_per_member_change_keeps_the_shape_alone(path):
    a, b = resolve(BASE), resolve(data(path, PER_MEMBER[path]))
    assert [x == y for x, y in zip(ids(a), ids(b), strict=True)] == [False, False, True]


@pytest.mark.parametrize("path", STATIC)
def test_a_static_change_changes_every_id(path):
    a, b = resolve(BASE), resolve(data(path, STATIC[path]))
    assert [x == y for x, y in zip(ids(a), ids(b), strict=True)] == [False, False, False]


def fields(spec: type[Frozen], prefix: str = "") -> Iterator[tuple[str, FieldInfo, list[type[Frozen]]]]:
    """Every field of every variant, with the specs that it may hold."""
    for name, field in spec.model_fields.items():
        held = list(specs_in(field.annotation))
        yield f"{prefix}{spec.__name__}.{name}", field, held
        for inner in held:
            yield from fields(inner, prefix=f"{prefix}{spec.__name__}.{name}:")


def specs_in(annotation: Any) -> Iterator[type[Frozen]]:
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        yield annotation
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        for argument in typing.get_args(annotation):
            yield from specs_in(argument)


@pytest.mark.parametrize(("where", "field"), [(where, field) for where, field, held in fields(RunSpec) if not held])
def test_every_leaf_says_whether_members_may_differ_in_it(where, field):
    assert isinstance(field.json_schema_extra, dict), f"{where}: use static() or per_member()"
    assert {"per_member", "later"} <= field.json_schema_extra.keys()


def test_every_part_with_a_meaning_of_its_own_has_a_version():
    parts = {held for _, _, every in fields(RunSpec) for held in every if "name" in held.model_fields}
    unversioned = {part.__name__ for part in parts if "version" not in part.model_fields}
    assert unversioned == {"AdamW", "Adam", "SGD", "Constant", "Cosine"}  # fixed by their sources


class Before(Frozen):
    size: int = static(3)
    lr: float = per_member(0.1)


class After(Before):
    gate: str = static("none", later=True)
    chill: float = per_member(0.0, later=True)


def test_later_fields_stay_out_of_the_hashes_at_their_default():
    for digest in (run_digest, config_digest, shape_digest):
        assert digest(After()) == digest(Before())
        assert digest(After(gate="none", chill=0.0)) == digest(Before())
        assert digest(After(gate="sigmoid")) != digest(Before())
    assert run_digest(After(chill=1.0)) != run_digest(Before())
    assert shape_digest(After(chill=1.0)) == shape_digest(Before())


def test_a_resolved_spec_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        resolve(BASE).budget.steps = 5


def test_columns_are_dotted_and_complete():
    columns = resolve(BASE).columns()
    assert next(iter(columns)) == "task.name"
    assert columns["model.attention.temperature"] == 1.0
    assert (columns["optim.schedule.name"], columns["optim.clip_norm"], columns["seed.data"]) == ("constant", None, 0)


# -- errors --------------------------------------------------------------------------------------


def listed(kinds: Any) -> str:
    """The names of a union's variants, or of a registry's, as errors list them."""
    members = kinds if isinstance(kinds, tuple) else typing.get_args(typing.get_args(kinds)[0])
    return ", ".join(sorted(kind.model_fields["name"].default for kind in members))


FAULTS: list[tuple[str, Any, str, str]] = [
    ("model.widht", 3, "got an unknown key; expected one of activation, attention, ", "Did you mean 'width'?"),
    ("sead", {"init": 1}, "got an unknown key; expected one of average, ", "Did you mean 'seed'?"),
    ("model.attention.temprature", 1, "got an unknown key; expected one of name, ", "Did you mean 'temperature'?"),
    ("model.attention.name", "softmx", f"got 'softmx'; expected one of {listed(AttentionSpec)}", "'softmax'?"),
    ("optim.name", "adamx", f"got 'adamx'; expected one of {listed(OptimSpec)}", "Did you mean 'adam'?"),
    ("optim.schedule.name", "cosin", "got 'cosin'; expected one of constant, cosine", "Did you mean 'cosine'?"),
    ("task.name", "two_stp", f"got 'two_stp'; expected one of {listed(TASKS)}", "Did you mean 'two_step'?"),
    ("model.name", "transfomer", f"got 'transfomer'; expected one of {listed(MODELS)}", "Did you mean 'transformer'?"),
    ("model.activation", "gelo", "got 'gelo'; expected one of gelu, relu", "Did you mean 'gelu'?"),
    ("optim.lr", "fast", "got 'fast'; expected a number", ""),
    ("optim.lr", "a\nb", "got 'a\\nb'; expected a number", ""),
    ("optim.lr", -1, "got -1; expected a number > 0", ""),
    ("optim.lr", math.nan, "got nan; expected a finite number", ""),
    ("optim.lr", math.inf, "got inf; expected a finite number", ""),
    ("optim.lr", True, "got True; expected a number", ""),
    ("optim.beta1", 1.0, "got 1.0; expected a number < 1", ""),
    ("stop.level", 0, "got 0; expected a number > 0", ""),
    ("seed.init", -1, "got -1; expected a number >= 0", ""),
    ("budget.steps", True, "got True; expected an integer", ""),
    ("budget.steps", 1e3, "got 1000.0; expected an integer", ""),
    ("budget.steps", "10", "got '10'; expected an integer", ""),
    ("model.attention", None, "got None; expected a mapping of keys to values", ""),
    ("optim", 3, "got 3; expected a mapping of keys to values", ""),
    ("task.n_targets", 65, "got 65; expected a number <= 64", ""),
]


@pytest.mark.parametrize(("path", "value", "text", "hint"), FAULTS)
def test_a_fault_is_one_line_with_path_value_and_way_out(path, value, text, hint):
    with pytest.raises(SpecError) as caught:
        resolve(data(path, value))
    [problem], message = caught.value.problems, str(caught.value)
    assert problem.path == tuple(path.split("."))
    assert message.startswith(f"{path}: {text}")
    assert message.endswith(hint)
    assert "\n" not in message


def test_keys_of_another_variant_are_unknown():
    with pytest.raises(SpecError, match=r"^optim\.momentum: got an unknown key; expected one of beta1, .*decay$"):
        resolve(data("optim.momentum", 0.9))


@pytest.mark.parametrize("path", ["budget.steps", "optim.lr"])
def test_a_missing_value_is_asked_for(path):
    group, key = path.split(".")
    lacking = data() | {group: {k: v for k, v in BASE[group].items() if k != key}}
    with pytest.raises(SpecError, match=f"^{path}: got nothing; expected a value; it has no default$"):
        resolve(lacking)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(SpecError, match=r"^model: expected heads to divide width; got width 32, heads 3$"):
        resolve(data("model.heads", 3))


def test_every_fault_is_named_at_once():
    with pytest.raises(SpecError) as caught:
        resolve(data("optim.lr", -1, base=data("model.widht", 3, base=data("budget.steps", 0))))
    assert {problem.path for problem in caught.value.problems} == {
        ("optim", "lr"), ("model", "widht"), ("budget", "steps"),
    }  # fmt: skip


@pytest.mark.parametrize("rubbish", [None, [], 3, "two_step"])
def test_what_is_no_mapping_is_refused(rubbish):
    with pytest.raises(SpecError, match="expected a mapping of keys to values"):
        resolve(rubbish)


def test_near_miss_is_silent_about_words_far_off():
    assert near_miss("zebra", ["softmax", "heat"]) == ""


def test_a_causal_model_is_refused_where_the_first_token_answers():
    data = {"task": {"name": "two_step"}, "model": {"causal": True}, "optim": {"lr": 1e-3}, "budget": {"steps": 1}}
    with pytest.raises(SpecError, match=r"model\.causal to be false, since the task is answered by a token that comes"):
        resolve(data)
    assert resolve(data | {"task": {"name": "window_sum"}}).model.causal
