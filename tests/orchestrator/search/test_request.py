"""`search:` of a sweep file: what it takes, and one line about what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from searches import TEXT, search_text, small_search

from orchestrator.cli import cli
from orchestrator.errors import BadRequest
from orchestrator.search.request import SAMPLERS
from orchestrator.search.samplers import SAMPLERS as OPTUNAS

SPACE = "  space: {optim.lr: {log_range: [1e-4, 1e-2]}}\n"
GOAL = "  objective: final_loss\n"


def test_every_sampler_that_is_named_is_one_of_optunas() -> None:
    assert set(SAMPLERS) == set(OPTUNAS)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_asked_for_by_its_name(name: str, tmp_path: Path) -> None:
    space = "  space: {model.width: [2, 4]}\n" if name == "brute_force" else SPACE
    search = small_search(tmp_path, text=search_text(f"  name: {name}\n{space}{GOAL}  configs: 4")).search
    assert search is not None
    assert (search.name, search.is_sampler, search.budget_steps) == (name, True, 60)
    assert search.most_trials == (2 if name == "brute_force" else 4)


def test_a_search_says_what_it_is_asked_for(tmp_path: Path) -> None:
    text = search_text(f"""\
  name: nsga2
{SPACE}  objective: [{{p_eureka: {{by_step: 50}}}}, {{run_steps: {{}}, goal: maximise}}, {{p_eureka: {{by_step: 20}}}}]
  constraints: [{{p_eureka: {{by_step: 50}}, at_least: 0.5}}, {{rmst: {{}}, at_most: 40}}]
  run_steps: 1000
  options: {{population_size: 8}}""")
    search = small_search(tmp_path, text=text).search
    assert search is not None
    told = [(one.label, one.by_step, one.is_maximised) for one in search.asked.objectives]
    assert told == [("p_eureka_50", 50, True), ("run_steps", None, True), ("p_eureka_20", 20, True)]
    assert [one.objective.label for one in search.asked.constraints] == ["p_eureka_50", "rmst"]
    assert [one.label for one in search.asked.scored] == ["p_eureka_50", "run_steps", "p_eureka_20", "rmst"]
    assert (search.asked.settings.run_steps, search.most_trials) == (1000.0, None)


def test_the_stored_file_gives_the_same_search_without_the_password(tmp_path: Path) -> None:
    sweep = small_search(tmp_path, "search.storage=postgresql+psycopg://me:secret@host/db")
    assert "secret" not in sweep.yaml
    assert "secret" not in str(sweep.record())
    again = small_search(tmp_path, name="again", text=sweep.yaml)
    assert again.search is not None
    assert sweep.search is not None
    assert again.search.space == sweep.search.space
    assert again.record()["search"] == sweep.record()["search"]


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("{name: tqe}", r":12: search.name: got 'tqe'; expected one of grid, random, .*Did you mean 'tpe'\?"),
        ("{name: grid, space: {optim.lr: [1]}}", r"got space beside grid; .*a grid varies `axes`"),
        ("{space: {optim.lr: [1]}}", r"search: got 'space'; expected \{name: grid\}, or the name of a search"),
        ("{name: tpe, configs: 4, objective: final_loss}", r"search.space: got nothing; expected a mapping of fields"),
        ("{name: tpe, configs: 4, SPACE}", r"search.objective: got nothing; expected an objective such as"),
        ("{name: tpe, SPACE, objective: final_loss}", r"got no budget; expected configs, run_steps or hours"),
        ("{name: tpe, SPACE, objective: p_eurek, configs: 4}", r"got 'p_eurek'; .*Did you mean 'p_eureka'\?"),
        ("{name: tpe, SPACE, objective: {p_eureka: {by: 3}}, configs: 4}", r"got 'by'; expected one of by_step"),
        ("{name: tpe, SPACE, objective: {p_eureka: {by_step: 0}}, configs: 4}", r"by_step: got 0; expected greater"),
        (
            "{name: tpe, SPACE, objective: {p_eureka: {by_step: 99}}, configs: 4}",
            r"by_step: got 99; expected at most 60",
        ),
        (
            "{name: tpe, SPACE, objective: {final_loss: {by_step: 9}}, configs: 4}",
            r"got 'by_step'; expected no such key",
        ),
        (
            "{name: tpe, SPACE, objective: {final_loss: {}, goal: up}, configs: 4}",
            r"goal: got 'up'; expected 'maximize'",
        ),
        ("{name: tpe, SPACE, objective: {final_loss: {}, at_least: 1}, configs: 4}", r"at_least bounds a constraint"),
        ("{name: tpe, SPACE, objective: [final_loss, final_loss], configs: 4}", r"got final_loss twice"),
        ("{name: tpe, SPACE, objective: {final_loss: {}, rmst: {}}, configs: 4}", r"expected only one of p_eureka"),
        (
            "{name: tpe, SPACE, objective: final_loss, constraints: [rmst], configs: 4}",
            r"got no bound; expected one of",
        ),
        (
            "{name: tpe, SPACE, objective: final_loss, constraints: 3, configs: 4}",
            r"constraints: got 3; expected a list",
        ),
        ("{name: tpe, SPACE, objective: final_loss, configs: 0}", r"search.configs: got 0; expected greater than or"),
        ("{name: tpe, SPACE, objective: final_loss, configs: 4.5}", r"search.configs: got 4.5; expected an integer"),
        ("{name: tpe, SPACE, objective: final_loss, hours: -1}", r"search.hours: got -1; expected greater than 0"),
        ("{name: tpe, SPACE, objective: final_loss, config: 4}", r"got 'config'; .*Did you mean 'configs'\?"),
        (
            "{name: tpe, SPACE, objective: final_loss, configs: 4, options: {gama: 1}}",
            r"options.gama: got an unknown opt",
        ),
        (
            "{name: tpe, SPACE, objective: final_loss, configs: 4, options: {n_startup: 1}}",
            r":12: search.options.n_startup: got an unknown option; .*Did you mean 'n_startup_trials'\?",
        ),
        (
            "{name: tpe, SPACE, objective: final_loss, configs: 4, options: {n_startup_trials: many}}",
            r"n_startup_trials: got 'many'; expected int",
        ),
        (
            "{name: nsga2, SPACE, objective: final_loss, configs: 4, options: {population_size: 1}}",
            r"search.options: `population_size` must be greater",
        ),
        ("{name: random, SPACE, objective: final_loss, configs: 4, options: {x: 1}}", r"since random has none"),
        ("{name: brute_force, SPACE, objective: final_loss}", r"optim.lr: brute_force tries every point, .*`points`"),
        (
            "{name: cmaes, SPACE, objective: [final_loss, rmst], configs: 4}",
            r"cmaes knows one; expected one, or one of",
        ),
        (
            "{name: cmaes, SPACE, objective: final_loss, constraints: [{rmst: {}, at_most: 9}], configs: 4}",
            r"search.constraints: cmaes has none",
        ),
    ],
)
def test_a_faulty_search_is_named_in_one_line(search: str, message: str, tmp_path: Path) -> None:
    search = search.replace("SPACE", "space: {optim.lr: {log_range: [1e-4, 1e-2]}}")
    text = TEXT[: TEXT.index("search:\n")] + f"\n\nsearch: {search}\n"
    with pytest.raises(BadRequest, match=message) as caught:
        small_search(tmp_path, text=text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_faulty_search_ends_with_exit_code_two(verb: str, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT.replace("name: random", "name: tqe"))
    found = CliRunner().invoke(cli, [verb, str(path), "--store", str(tmp_path / "store")])
    assert (found.exit_code, (tmp_path / "store").exists()) == (2, False)


def test_axes_beside_a_search_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"axes: a search varies search.space; move what it varies there"):
        small_search(tmp_path, text=TEXT + "axes: {optim.lr: [1]}\n")


def test_a_continuous_axis_of_a_grid_is_refused(tmp_path: Path) -> None:
    text = TEXT[: TEXT.index("search:\n")] + "axes: {optim.lr: {log_range: [1e-4, 1e-2]}}\nsearch: {name: grid}\n"
    with pytest.raises(BadRequest, match=r"axes.optim.lr: got the keys log_range; expected a list of values"):
        small_search(tmp_path, text=text)
