"""The README's own commands and code, on a small sweep: what it says is what happens."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SMALLER = ["base.budget.steps=40", "base.budget.batch=8", "base.model.width=8", "replicates=1"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def eureka(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("eureka")), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def served(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that goes on until Ctrl-C, which comes as soon as it has said something."""
    command = [str(Path(sys.executable).with_name("eureka")), *arguments, "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, first + rest, errors)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the README's sweep file, trained small into the default store."""
    folder = tmp_path_factory.mktemp("a newcomer")
    (folder / "my.yaml").write_text(blocks("yaml")[0])
    trained = eureka(folder, "run", "quickstart", "--launcher", "inline", *SMALLER)
    assert trained.returncode == 0, trained.stderr
    assert "Report: " in trained.stdout.splitlines()[-1]
    return folder


def test_run_ends_with_a_finding_of_five_lines_and_a_report(folder: Path) -> None:
    again = eureka(folder, "run", "quickstart", "--launcher", "inline", *SMALLER)
    assert again.returncode == 0
    assert "0 runs trained" in again.stdout
    *_, page = again.stdout.splitlines()
    finding = [line for line in again.stdout.splitlines()[1:-1] if line]
    assert len(finding) == 5
    assert Path(page.removeprefix("Report: ")).read_text().startswith("<!doctype html>")


def test_every_command_of_the_readme_works(folder: Path) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if ".venv/bin/eureka " in line]
    verbs = []
    run = "run_id"
    for line in commands:
        arguments = shlex.split(line.partition("#")[0])[1:]
        verbs.append(arguments[0])
        if arguments[0] == "run":
            arguments += ["--launcher", "inline", *[key for key in SMALLER if key.split("=")[0] not in line]]
        if "RUN_ID" in arguments:
            arguments[arguments.index("RUN_ID")] = run
        found = served(folder, *arguments) if arguments[0] == "serve" else eureka(folder, *arguments)
        assert found.returncode == 0, (line, found.stderr)
        if arguments[0] == "events":
            run = (folder / "events.csv").read_text().splitlines()[1].split(",")[0]
    assert {"plan", "run", "status", "events", "report", "rerun", "doctor"} <= set(verbs)


def test_the_curves_can_be_read_without_this_project(folder: Path) -> None:
    """In an interpreter that cannot import any of it."""
    guard = "import sys; sys.modules.update(dict.fromkeys(['analysis', 'orchestrator', 'workloads']))\n"
    shown = "\nprint(len(curves), curves.group_by('run_id', 'step').len()['len'].max(), curves['optim.lr'].n_unique())"
    script = guard + blocks("python")[0] + shown
    found = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    rows, copies, rates = map(int, found.stdout.split())
    assert copies == 1
    assert rates >= 4
    assert rows >= 12 * 40


def test_files_that_the_readmes_link_to_are_there() -> None:
    for page in (ROOT / "README.md", *ROOT.glob("[a-z]*/README.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"
    for path in re.findall(r"`((?:tests|analysis|orchestrator|workloads)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path


def test_the_two_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    for target in ("quickstart", "test", "lint", "bench"):
        assert f"make {target}" in README
        dry = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, env=os.environ, check=False)
        assert dry.returncode == 0
    assert "make test" in (ROOT / ".ci/run").read_text()
