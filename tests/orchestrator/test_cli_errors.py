from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sweep_files import BASE, python, sweep_text

from orchestrator.cli import cli
from orchestrator.errors import BadRequest
from orchestrator.sweep import sweep_from_text

END = BASE.count("\n")  # the line before what a test adds


def eureka(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def refusal(*arguments: str) -> str:
    """The one line of a refused request."""
    found = eureka(*arguments)
    assert found.exit_code == 2, found.output
    assert found.stdout == ""
    lines = found.stderr.splitlines()
    assert len(lines) == 1, found.stderr
    assert lines[0].startswith("eureka: ")
    return lines[0].removeprefix("eureka: ")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("EUREKA_STORE", raising=False)
    return folder


def axis(line: str) -> str:
    return f"axes:\n  {line}\n"


AXIS_LINE = END + 2
BAD_ENDINGS = [
    # what is added to a valid base, the line at fault, what the message says
    ("axis: {}", 1, "axis: got an unknown key; expected one of name, question, base, axes"),
    ("axis: {}", 1, "Did you mean 'axes'?"),
    ("optim: {lr: 1}", 1, "Did you mean 'base.optim'?"),
    ("replicates: 0", 1, "replicates: got 0; expected an integer from 1"),
    ("replicates: -3", 1, "replicates: got -3; expected"),
    ("replicates: true", 1, "replicates: got True; expected"),
    ("replicates: eight", 1, "replicates: got 'eight'; expected"),
    ("replicates: 2.0", 1, "replicates: got 2.0; expected"),
    ("replicates: .nan", 1, "replicates: got nan; expected a finite number"),
    ("replicates:", 1, "replicates: got nothing; expected"),
    ("replicates: {init: 2, dat: 3}", 1, "replicates: got init, dat; expected the keys init and data"),
    ("replicates: {init: 0}", 1, "replicates.init: got 0; expected"),
    ("replicates: 2000000", 1, "replicates: got 2000000; expected an integer from 1 to 1000000"),
    ("replicates: 99999999999999999999", 1, "replicates: got an integer of more than 64 bits"),
    ("name: My Sweep", 1, "name: got 'My Sweep'; expected a-z, 0-9, _ and -"),
    ("name: 3", 1, "name: got 3; expected"),
    ("question: 3", 1, "question: given twice; the first is on line 1"),
    ("search: random", 1, "search: got 'random'; expected {name: grid}"),
    ("search: {name: gird}", 1, "boundary. Did you mean 'grid'?"),
    ("stop: {after_event_step: 3}", 1, "stop.after_event_step: got an unknown key; expected one of after_event_steps"),
    ("stop: {after_event_steps: -3}", 1, "stop.after_event_steps: got -3; expected a number >= 0"),
    ("stop: 3", 1, "stop: got 3; expected a mapping"),
    ("axes: 3", 1, "axes: got 3; expected a mapping"),
    ("axes: [1, 2]", 1, "axes: got a list; expected a mapping"),
    (axis("optim.lr: []"), 2, "axes.optim.lr: got an empty list; expected a list of values"),
    (axis("optim.lr:"), 2, "axes.optim.lr: got nothing; expected a list of values"),
    (axis("optim.lr: 0.1"), 2, "axes.optim.lr: got 0.1; expected a list of values"),
    (axis("optim.lr: [-1]"), 2, "optim.lr: got -1; expected a number > 0"),
    (axis("optim.lr: [0.1, .nan]"), 2, "axes.optim.lr.1: got nan; expected a finite number"),
    (axis("optim.lr: [.inf]"), 2, "axes.optim.lr.0: got inf; expected a finite number"),
    (axis("optim.lr: [fast]"), 2, "optim.lr: got 'fast'; expected"),
    (axis("optim.lr: [null]"), 2, "optim.lr: got None; expected"),
    (axis("optim.lr: [0.1, 0.2, 0.10]"), 2, "axes.optim.lr: got 0.1 twice; expected each value once"),
    (axis("optim.lrr: [0.1]"), 2, "optim.lrr: got an unknown key; expected one of beta1"),
    (axis("optim.lrr: [0.1]"), 2, "Did you mean 'lr'?"),
    (axis("optim.lr.peak: [0.1]"), 2, "optim.lr: got 0.001; expected a mapping"),
    (axis("optim..lr: [0.1]"), 2, "axes: got 'optim..lr'; expected fields such as optim.lr"),
    (axis("budget.steps: [1.5]"), 2, "budget.steps: got 1.5; expected an integer"),
    (axis("budget.steps: {range: [1, 2], points: 3}"), 2, "budget.steps: got 1.5; expected an integer"),
    (axis("optim.lr: {range: [1, 2]}"), 2, "axes.optim.lr: got the keys range; expected"),
    (axis("optim.lr: {range: [1, 2], points: 1}"), 2, "axes.optim.lr.points: got 1; expected an integer from 2"),
    (axis("optim.lr: {range: [1, 2], points: 99999999}"), 2, "axes.optim.lr.points: got 99999999; expected"),
    (axis("optim.lr: {range: [1], points: 3}"), 2, "axes.optim.lr.range: got '[1]'; expected [lo, hi]"),
    (axis("optim.lr: {log_range: [0, 1], points: 3}"), 2, "two different positive numbers"),
    (axis("optim.lr: {range: [.nan, 1], points: 3}"), 2, "axes.optim.lr.range.0: got nan; expected a finite number"),
    (axis("seed.init: [0, 1]"), 2, "axes.seed.init: seeds belong to replicates; set replicates"),
    (axis("optim.lr: [1]\n  optim.lr: [2]"), 3, f"axes.optim.lr: given twice; the first is on line {AXIS_LINE}"),
    (axis("optim.lr: [1]\n  optim.lr,optim.eps: [[2, 3]]"), 3, "optim.lr is given twice; expected one axis a field"),
    (axis("optim.lr, optim.eps: [[2, 3], [4]]"), 2, "got 1 values in row 2; expected 2, one a field"),
    (
        axis("model.attention.name: [softmax, softmx]"),
        2,
        "got 'softmx'; expected one of heat, linear, normsoftmax, softmax",
    ),
    (axis("model.attention.name: [softmx]"), 2, "Did you mean 'softmax'?"),
    (axis("model.attention: [{name: heat, statistic: vra}]"), 2, "got 'vra'; expected one of none, std, var"),
    (
        axis("model.attention: [{name: softmax}, {temperature: 1}]"),
        2,
        "got {'temperature': 1} twice",
    ),
    (axis("model.attention:\n    - {name: softmax}\n    - {name: het}"), 4, "Did you mean 'heat'?"),
    (axis("model.width: [32, 33]"), 2, "model: expected heads to divide width; got width 33, heads 4"),
    (axis("optim.lr: ['${base.optim.lrr}']"), 2, "Interpolation key 'base.optim.lrr' not found"),
    (axis("optim.lr: ['${base.optim']"), 2, "axes.optim.lr[0]: "),
    (axis("optim.lr: ['???']"), 2, "Missing mandatory value"),
    (axis("? [1, 2]\n  : [3]"), 2, "axes: got the key a collection; expected a word"),
    (axis("optim.lr: [0.1"), None, "is not YAML: "),
    (axis("1e-3: [1, 2]"), 2, "axes: got the key '1e-3'; expected a word"),
    ("on: 3", 1, "the file: got the key 'on'; expected a word"),
    ("log: !!python/object:os.system {}", 1, "is not YAML: could not determine a constructor"),
]


@pytest.mark.parametrize(("ending", "line", "says"), BAD_ENDINGS)
def test_bad_file_is_refused_in_one_located_line(ending: str, line: int | None, says: str):
    Path("bad.yaml").write_text(sweep_text(ending))
    found = refusal("plan", "bad.yaml")
    assert re.match(rf"bad\.yaml:{'[0-9]+' if line is None else END + line}: ", found), found
    assert says in found


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("lr: 1.0e-3", "lr: -1", 9, "optim.lr: got -1; expected a number > 0"),
        ("lr: 1.0e-3", "lr: .nan", 9, "base.optim.lr: got nan; expected a finite number"),
        ("lr: 1.0e-3", "lr: 1\n    lr: 2", 10, "base.optim.lr: given twice; the first is on line 9"),
        ("lr: 1.0e-3", "beta: 1", 9, "optim.beta: got an unknown key"),
        ("lr: 1.0e-3", "lr: '1'", 9, "optim.lr: got '1'; expected"),
        ("lr: 1.0e-3", "eps: 1.0e-8", 7, "optim.lr: got nothing; expected a value; it has no default"),
        (
            "name: softmax",
            "name: softmx",
            6,
            "model.attention.name: got 'softmx'; expected one of heat, linear, normsoftmax,",
        ),
        ("name: softmax", "name: softmx", 6, "softmax. Did you mean 'softmax'?"),
        ("width: 32", "wdth: 32", 5, "Did you mean 'width'?"),
        ("width: 32", "width: true", 5, "model.width: got True; expected an integer"),
        ("steps: 100, batch: 8", "batch: no", 10, "(and 1 more)"),
        ("name: adamw", "name: ${nothing}", 8, "base.optim.name: Interpolation key 'nothing' not found"),
    ],
)
def test_bad_base_is_refused_at_its_line(old: str, new: str, line: int, says: str):
    Path("bad.yaml").write_text(BASE.replace(old, new))
    found = refusal("plan", "bad.yaml")
    assert found.startswith(f"bad.yaml:{line}: ")
    assert says in found


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "bad.yaml: got an empty file; expected a mapping"),
        (b"# only words\n", "bad.yaml: got an empty file; expected a mapping"),
        (b"- 1\n- 2\n", "bad.yaml: got a list; expected a mapping"),
        (b"quickstart\n", "bad.yaml: got a single value; expected a mapping"),
        (b"base: {a: [1\n", "is not YAML: "),
        (b"a: 1\n---\nb: 2\n", "is not YAML: "),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "bad.yaml: is not text; expected YAML in UTF-8"),
        (b"a: \x00\x01", "bad.yaml: is not YAML: character 3 is special characters are not allowed"),
        (b"question: what\n", "bad.yaml: base: got nothing; expected a mapping that describes a run"),
        (b"base: &a [*a]\n", "is nested too deeply, or contains itself"),
        (b"base: " + b"[" * 5000, "is nested too deeply, or contains itself"),
        (b"base: {}\n", "bad.yaml:1: task: got nothing; expected a value; it has no default (and 3 more)"),
        (b"base: 3\n", "bad.yaml:1: base: got 3; expected a mapping that describes a run"),
    ],
)
def test_file_that_is_no_sweep_is_refused(content: bytes, says: str):
    Path("bad.yaml").write_bytes(content)
    assert says in refusal("plan", "bad.yaml")


def test_alias_bomb_is_refused():
    layers = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    Path("bad.yaml").write_text("a0: &a0 [1]\n" + "\n".join(layers))
    assert "more than" in refusal("plan", "bad.yaml")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["replicates"], "override 'replicates': expected key=value, such as replicates=16"),
        (["=3"], "override '=3': expected key=value"),
        (["replicats=3"], "override 'replicats=3': replicats: got an unknown key"),
        (["replicats=3"], "Did you mean 'replicates'?"),
        (["optim.lr=3"], "Did you mean 'base.optim'?"),
        (["replicates="], "override 'replicates=': replicates: got nothing; expected"),
        (["replicates=[1"], "override 'replicates=[1': the value is not YAML: "),
        (
            ["replicates=2", "replicates=3"],
            "replicates: given twice; the first is override 'replicates=2'",
        ),
        (["base.optim.lr=-1"], "override 'base.optim.lr=-1': optim.lr: got -1; expected a number > 0"),
        (["base.optim.lr=.inf"], "override 'base.optim.lr=.inf': base.optim.lr: got inf; expected a finite number"),
        (["base.optim.wieght_decay=1"], "Did you mean 'weight_decay'?"),
        (["base.optim.lr.peak=1"], "override 'base.optim.lr.peak=1': optim.lr: got 0.001; expected a mapping"),
        (["base.model.width=33"], "override 'base.model.width=33': model: expected heads to divide width"),
        (["base.model.attention.name=softmx"], "Did you mean 'softmax'?"),
        (["base=3"], "override 'base=3': base: got 3; expected a mapping"),
        (["axes=3"], "override 'axes=3': axes: got 3; expected a mapping"),
        (["axes.optim.lr=[1,1]"], "override 'axes.optim.lr=[1,1]': axes.optim.lr: got 1 twice"),
        (["axes.optim.lr=['${no}']"], "override \"axes.optim.lr=['${no}']\": axes.optim.lr[0]: Interpolation key 'no'"),
        (["axes.optim=[3]", "axes.optim.lr=[3]"], "override 'axes.optim=[3]': optim: got 3; expected a mapping"),
        (["base.log.measures_every_steps=3", "log={}"], "base.log: given twice; the sweep's own `log` sets it"),
        (
            ["axes.optim.lr={range: [1, 2], points: 1000000}", "replicates=9"],
            "has 9000000 runs; expected at most",
        ),
        (["base.task.noise=0x" + "f" * 6000], "got an integer of more than 64 bits"),
    ],
)
def test_bad_override_is_refused_by_name(overrides: list[str], says: str):
    Path("good.yaml").write_text(BASE)
    assert says in refusal("plan", "good.yaml", *overrides)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plam"], "No such command 'plam'. Did you mean 'plan'?"),
        (["plan"], "Missing argument 'SWEEP'."),
        (["plan", "good.yaml", "--jsn"], "No such option '--jsn'. Did you mean '--json'?"),
        (["run", "good.yaml", "--launcher", "rai"], "'rai' is not one of 'ray', 'inline'"),
        (["run", "good.yaml", "--width", "0"], "0 is not in the range x>=1"),
        (["plan", "missing.yaml"], "missing.yaml: no such file; expected a YAML file"),
        (["plan", "."], ".: is a directory; expected a YAML file"),
        (["plan", "quikstart"], "expected a file, or a shipped sweep: "),
        (["plan", "quikstart"], "Did you mean 'quickstart'?"),
        (["plan", "replicates=3"], "got the override 'replicates=3'; expected a file or a shipped sweep first"),
        (["plan", "a\0b"], r"SWEEP: got 'a\x00b'; expected a file"),
        (["plan", "a\0b.yaml"], "cannot be read"),
        (["status", "nowhere"], "nowhere: no store here"),
        (["watch", "nowhere"], "nowhere: no store here"),
        (["report", "nowhere"], "nowhere: no store here"),
        (["events", "nowhere"], "nowhere: no store here"),
        (["compact", "nowhere"], "nowhere: no store here"),
        (["plan", "good.yaml", "--store", "."], "no store here"),
        (["events", "--out", "events.txt"], "--out: got 'events.txt'; expected a name that ends in .parquet or .csv"),
    ],
)
def test_bad_command_is_refused(arguments: list[str], says: str):
    Path("good.yaml").write_text(BASE)
    assert says in refusal(*arguments)


def test_message_stays_one_line_whatever_a_key_holds():
    Path("bad.yaml").write_text(BASE + '"a\\nb\\u2028c": 1\n')
    assert r"a\nb\u2028c: got an unknown key" in refusal("plan", "bad.yaml")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["plan", "bad.yaml"], 2),
        (["plan", "good.yaml", "--no-measure"], 0),
        (["pan"], 2),
        (["plan", "good.yaml", "--no-measure", "--json"], 0),
    ],
)
def test_real_process_leaves_with_the_promised_code(arguments: list[str], code: int, tmp_path):
    (tmp_path / "good.yaml").write_text(BASE)
    (tmp_path / "bad.yaml").write_text(BASE + "replicates: 0\n")
    found = python("-c", "from orchestrator.cli import main; main()", *arguments, cwd=tmp_path)
    assert found.returncode == code, found.stderr
    assert len(found.stderr.splitlines()) == (code == 2)
    assert bool(found.stdout) == (code == 0)
    assert not (tmp_path / "eureka-store").exists()


# -- fuzz ---------------------------------------------------------------------------------------


def loads_or_is_refused(text: str, *overrides: str) -> None:
    with contextlib.suppress(BadRequest):
        sweep_from_text(text, overrides=overrides)


quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(text=st.text())
def test_any_text_is_a_sweep_or_refused(text: str):
    loads_or_is_refused(text)


tokens = st.sampled_from(
    [*"{}[]:,-&*!|>?%@`'\"#\n \t", "base", "axes", "a: 1", "<<: *a", "${", "}", "${base}", "???", "1e400", "~", "\n  "]
)


@quick
@given(pieces=st.lists(tokens, max_size=30))
def test_any_ending_is_a_sweep_or_refused(pieces: list[str]):
    loads_or_is_refused(BASE + "".join(pieces))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    ["base", "axes", "axes.optim.lr", "replicates", "stop", "name", "search", "base.optim", "base.model"]
)


@quick
@given(key=keys, value=plain)
def test_any_value_of_a_key_is_good_or_refused(key: str, value: object):
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).split("\n...")[0]
    loads_or_is_refused(BASE, f"{key}={text}")


@quick
@given(override=st.text())
def test_any_override_is_good_or_refused(override: str):
    loads_or_is_refused(BASE, override)


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_give_no_traceback(content: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "noise.yaml")
        Path(path).write_bytes(content)
        refusal("plan", path)
