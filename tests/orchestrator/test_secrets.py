"""A secret is planted where users put them; then everything that was written, printed or run is searched for it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from sweeps import TEXT, small

from analysis.store import Store
from orchestrator import reports
from orchestrator.clusters import head
from orchestrator.clusters.job import Job
from orchestrator.clusters.launcher import launcher_of
from orchestrator.clusters.load import load_cluster
from orchestrator.errors import BadRequest, hidden, quoted
from orchestrator.run import run_sweep
from orchestrator.sweep import load_sweep, sweep_from_text
from orchestrator.token import keep_private

SECRET = "hunter2-planted"
HIDDEN = "***"
SEARCH = """
axes: {}
search:
  name: tpe
  configs: 3
  objective: {rmst: {by_step: 60}}
  space: {optim.lr: [1.0e-3, 1.0e-2]}
  storage: ADDRESS
"""


def written(folder: Path) -> list[str]:
    """Files below a folder that hold the secret."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


def searched(address: str) -> str:
    return TEXT.replace("axes:\n  optim.lr: [1.0e-3, 1.0e-2]\n", "") + SEARCH.replace("ADDRESS", repr(address))


# -- addresses and the environment ---------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://me:{SECRET}@host/db",
        f"postgresql+psycopg://me:p@{SECRET}@host/db",
        f"postgresql://me:{SECRET}/@host:5432/db",
        f"mysql://host/db?user=me&password={SECRET}&ssl=1",
        f"https://:{SECRET}@host",
    ],
)
def test_password_of_an_address_is_hidden_wherever_it_stands(address: str):
    for text in (address, f"before {address} after", repr({"a": address})):
        assert SECRET not in hidden(text)
        assert HIDDEN in hidden(text)
    assert SECRET not in quoted(address)
    assert SECRET not in str(BadRequest(f"a: got {address}; expected b"))


@pytest.mark.parametrize(
    "text", ["sqlite:///study.db", "http://host:8000/path", "me@host", "a: b@c", "s3://bucket/a:b"]
)
def test_text_without_a_password_stays_as_it_is(text: str):
    assert hidden(text) == text


def test_database_password_is_in_nothing_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PLANTED", SECRET)
    for address in (f"postgresql://me:p@{SECRET}@host/db", "postgresql://me:${oc.env:PLANTED}@host/db"):
        (tmp_path / "s.yaml").write_text(searched(address))
        sweep = load_sweep(tmp_path / "s.yaml", overrides=["replicates=2"])
        assert sweep.search is not None
        assert SECRET in str(sweep.search.asked.settings.storage)
        Store.create(tmp_path / "store").save_sweep(sweep.record())
        assert written(tmp_path / "store") == []
        assert SECRET not in repr(sweep.record())


@pytest.mark.parametrize(
    "override",
    [
        f"search.storage=postgresql://me:{SECRET}@host/db",  # beside `axes`, so it is refused
        f"replicates=postgresql://me:{SECRET}@host/db",
        f"replicats=postgresql://me:{'x' * 30}{SECRET}@host/db",
        f"question=postgresql://me:{SECRET}@host",
    ],
)
def test_refusal_of_an_override_does_not_say_its_password(override: str):
    if "question" in override:
        assert SECRET not in str(sweep_from_text(TEXT, overrides=[override]).overrides)
        return
    with pytest.raises(BadRequest) as refused:
        sweep_from_text(TEXT, overrides=[override])
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        "question: ${oc.env:PLANTED}",
        "question: 'a ${oc.${name}:PLANTED}'\nname: env",
        "log: {snapshots: ['${oc.env:PLANTED,0}']}",
        "question: ${search.storage}\nsearch: {name: tpe, storage: 'postgresql://me:${oc.env:PLANTED}@h/d'}",
        "question: ${search}\nsearch: {name: tpe, storage: 'postgresql://me:${oc.env:PLANTED}@h/d'}",
    ],
)
def test_environment_is_read_for_a_databases_address_alone(line: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PLANTED", SECRET)
    text = TEXT.replace("question: Does it train?\n", "").replace("log: {measures_every_steps: 20}\n", "")
    with pytest.raises(BadRequest) as refused:
        sweep_from_text(f"{text}{line}\n")
    assert SECRET not in str(refused.value)


def test_environment_of_a_sweep_is_in_nothing_that_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    for name in ("AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "PGPASSWORD", "WANDB_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    sweep = small(tmp_path, "replicates=1")
    run_sweep(sweep, store_path=str(tmp_path / "store"), launcher="inline", width=2, workers=1, device="cpu")
    reports.report(Store(tmp_path / "store"), names=["small"], out=tmp_path / "report")
    assert len(list((tmp_path / "store").rglob("*.parquet"))) >= 3
    assert written(tmp_path) == []
    assert SECRET not in "".join(capfd.readouterr())


# -- clusters ------------------------------------------------------------------------------------

CLUSTERS = {
    "slurm": "launcher: slurm\nslurm: {partition: p}\n",
    "allocation": "launcher: slurm\nslurm: {mode: allocation, nodes: 1}\n",
    "kubernetes": "launcher: kubernetes\nkubernetes: {image: i, claim: c, mount: MOUNT}\n",
    "ray": "launcher: ray\nray:\n  provider: {type: local, head_ip: 10.0.0.1, worker_ips: [10.0.0.2]}\n",
}


class Spy:
    """Runs nothing but shells' syntax checks; keeps commands, what they would read, and files that are sent."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.environments: list[dict[str, str]] = []
        self.stdin: list[str] = []
        self.sent: dict[str, tuple[str, int]] = {}

    def run(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, stdin: str = "",
        timeout_s: float = 0.0, shows: bool = False,
    ) -> str:  # fmt: skip
        self.commands.append(" ".join(command))
        self.environments.append(dict(environment or {}))
        self.stdin.append(stdin)
        if command[0] == "rsync" and "variables" in command[-1]:
            for path in Path(command[-2]).iterdir():
                self.sent[f"{command[-1]}{path.name}"] = (path.read_text(), stat.S_IMODE(path.stat().st_mode))
        if command[:2] == ["bash", "-n"]:
            subprocess.run(["bash", "-n"], input=stdin, text=True, check=True)
        if "head nodes" in self.commands[-1]:
            return 'EUREKA {"nodes": 1, "problems": []}'
        return 'EUREKA {"is_new": true, "host": "h"}' if "head submit" in self.commands[-1] else ""


def cluster_file(folder: Path, kind: str) -> Path:
    path = folder / "cluster.yaml"
    own = CLUSTERS[kind].replace("MOUNT", str(folder))
    variables = f"environment: {{variables: {{TOKEN: {SECRET}, PLAIN: '{SECRET} with $(blanks)'}}}}\n"
    path.write_text(f"name: a\nstore: {folder}/store\n{own}{variables}")
    return path


@pytest.mark.parametrize("kind", CLUSTERS)
def test_variables_of_a_cluster_file_reach_the_job_alone(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("EUREKA_CACHE", str(tmp_path / "cache"))
    file = cluster_file(tmp_path, kind)
    spec, source = load_cluster(file)
    spy, job = Spy(), Job(sweep="small", text=TEXT)
    launcher = launcher_of(spec, source=source, shell=spy)
    assert SECRET not in launcher.rendered(job).text()
    launcher.submit(job)
    assert SECRET not in " ".join(spy.commands), "whoever is on the machine sees command lines"
    file.unlink()
    assert written(tmp_path) == []
    values = {"TOKEN": SECRET, "PLAIN": f"{SECRET} with $(blanks)"}
    if "launcher: slurm" in CLUSTERS[kind]:
        assert values in spy.environments
    elif kind == "kubernetes":
        assert SECRET in next(text for text in spy.stdin if "kind: Secret" in text)
    else:
        [(text, mode)] = spy.sent.values()
        assert (json.loads(text), mode) == (values, 0o600)


def test_head_takes_variables_and_removes_what_brought_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "variables.json").write_text(json.dumps({"TOKEN": SECRET}))
    assert head._handed_over("~/variables.json") == {"TOKEN": SECRET}
    assert written(tmp_path) == []
    assert head._handed_over("") == {}


def test_slurm_script_says_which_variable_did_not_come_along(tmp_path: Path):
    spec, source = load_cluster(cluster_file(tmp_path, "slurm"))
    script = launcher_of(spec, source=source, shell=Spy()).rendered(Job(sweep="small", text=TEXT)).files["job.sbatch"]
    line = next(line for line in script.splitlines() if "TOKEN" in line)
    for environment, code in (({}, 1), ({"TOKEN": SECRET}, 0)):
        done = subprocess.run(
            ["bash", "-c", f"set -u\n{line}"], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode > 0) == (code > 0)
        assert ("TOKEN: was not passed on" in done.stderr) == (code > 0)


# -- Ray's token ---------------------------------------------------------------------------------


def test_rays_token_is_made_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    path, before = tmp_path / ".ray" / "auth_token", os.umask(0)
    try:
        keep_private(path)
    finally:
        os.umask(before)
    token = path.read_text()
    assert len(token) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)  # as Ray itself makes it
    keep_private(path)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (token, 0o600)


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"])
def test_no_token_is_made_where_ray_is_told_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(name, "disabled")
    keep_private(tmp_path / "auth_token")
    assert not (tmp_path / "auth_token").exists()
