"""Rows: where parameters lie, that views write through, and what a run's first weights depend on."""

from __future__ import annotations

import itertools

import pytest
import torch
from small_runs import run

from workloads.rows import Layout
from workloads.spec import RunSpec

CPU = torch.device("cpu")
SHAPES = [{}, {"model.width": 15, "model.heads": 3, "task.features": 13, "task.n_classes": 3}, {"model.qkv_bias": True}]


def layout_of(spec: RunSpec) -> Layout:
    return Layout(spec.model.build(spec.task.shapes()))


def first_weights(spec: RunSpec) -> dict[str, torch.Tensor]:
    layout = layout_of(spec)
    row = layout.initial_row(spec.seed.init, std=spec.model.init_std, device=CPU)
    return {place.name: place.view(row[None])[0] for place in layout.places}


@pytest.mark.parametrize("changes", SHAPES)
def test_every_parameter_starts_on_64_bytes_in_every_row(changes):
    layout = layout_of(run(0, changes))
    rows = torch.zeros(3, layout.width)
    assert {view[k].data_ptr() % 64 for view in layout.views(rows) for k in range(3)} == {0}


@pytest.mark.parametrize("changes", SHAPES)
def test_parameters_do_not_overlap_and_all_have_a_place(changes):
    layout = layout_of(run(0, changes))
    ends = [(place.offset, place.offset + place.size) for place in layout.places]
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))
    assert ends[-1][1] <= layout.width
    declared = dict(layout.model.named_parameters())
    assert {place.name: place.shape for place in layout.places} == {n: tuple(p.shape) for n, p in declared.items()}
    assert layout.parameters == sum(parameter.numel() for parameter in declared.values())


def test_bound_parameters_and_rows_are_one_memory():
    layout = layout_of(run(0))
    rows = torch.zeros(2, layout.width)
    parameters = layout.bind(rows, trained=True)
    assert [p.shape[1:] for p in parameters] == [place.shape for place in layout.places]
    for place, parameter in zip(layout.places, parameters, strict=True):
        assert layout.model.get_parameter(place.name) is parameter
        rows.zero_()
        place.view(rows)[1].fill_(7.0)
        assert (parameter[0] == 0.0).all()
        assert (parameter[1] == 7.0).all()
        with torch.no_grad():
            parameter.fill_(1.0)
        assert rows.sum() == 2 * place.size


def test_first_weights_are_normal_zero_or_one_by_declaration():
    spec = run(3, {"model.width": 64, "model.init_std": 0.02, "task.features": 64})
    weights = first_weights(spec)
    for place in layout_of(spec).places:
        values = weights[place.name]
        if place.init == "normal" and place.size > 1000:
            assert values.std().item() == pytest.approx(0.02, rel=0.1)
        elif place.init != "normal":
            assert (values == (1.0 if place.init == "ones" else 0.0)).all()


def test_padding_between_parameters_is_zero():
    layout = layout_of(run(0, SHAPES[1]))
    row = layout.initial_row(0, std=1.0, device=CPU)
    for view in layout.views(row[None]):
        view.zero_()
    assert (row == 0.0).all()


def test_first_weights_do_not_depend_on_other_parameters():
    small, large = first_weights(run(5)), first_weights(run(5, {"model.layers": 3, "model.qkv_bias": True}))
    assert small.keys() < large.keys()
    assert all(torch.equal(value, large[name]) for name, value in small.items())


def test_first_weights_depend_on_the_init_seed_alone():
    base = run(5)
    data_moved = base.model_copy(update={"seed": base.seed.model_copy(update={"data": 999})})
    init_moved = base.model_copy(update={"seed": base.seed.model_copy(update={"init": 999})})
    wanted = first_weights(base)
    assert all(torch.equal(value, wanted[name]) for name, value in first_weights(data_moved).items())
    drawn = [place.name for place in layout_of(base).places if place.init == "normal"]
    moved = first_weights(init_moved)
    assert not any(torch.equal(moved[name], wanted[name]) for name in drawn)


def test_init_std_scales_the_same_draws():
    once, twice = first_weights(run(0, {"model.init_std": 0.25})), first_weights(run(0, {"model.init_std": 0.5}))
    torch.testing.assert_close(twice["embed.weight"], 2 * once["embed.weight"], rtol=0, atol=0)
