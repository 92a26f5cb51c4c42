"""Words and numbers as a reader sees them."""

import pytest

from analysis.labels import axis_label, config_text, estimate_text, short, value_text


def test_known_names_have_words_and_keep_their_key():
    assert axis_label("optim.lr") == "learning rate (optim.lr)"
    assert axis_label("task.hidden_size") == "hidden size (task.hidden_size)"


def test_short_names_are_those_a_terminal_has_room_for():
    assert (short("optim.lr"), short("model.attention.name"), short("name")) == ("lr", "attention", "name")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.001, "0.001"), (3e-5, "3e-05"), (None, "–"), (True, "yes"), (2, "2"), (1.0, "1"), ("heat", "heat")],
)
def test_values_are_short_and_exact(value, text):
    assert value_text(value) == text


def test_configs_read_as_a_line():
    assert (
        config_text(
            {"optim.lr": 0.001, "model.attention.temperature": 2.0}, axes=["optim.lr", "model.attention.temperature"]
        )
        == "lr 0.001, temperature 2"
    )
    assert config_text({}, axes=[]) == "all runs"


def test_open_ends_and_missing_estimates_are_marked():
    assert estimate_text(0.5, 0.25, None) == "0.50 [0.25, …]"
    assert estimate_text(None, None, None, none="not reached") == "not reached"
    assert estimate_text(1234.5, 1000.0, 2000.0, digits=0) == "1,234 [1,000, 2,000]"
