"""Pictures and texts that a sweep needs are looked for before anything trains: one line, exit code 2."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analysis.store import Store
from orchestrator.cli import cli

SWEEP = """
base:
  task: {TASK}
  model: {{name: MODEL}}
  optim: {{lr: 1.0e-3}}
  budget: {{steps: 4, batch: 4}}
"""
PICTURES = ("{name: mosaic, cell: 28, indicators: mnist, targets: digits}", "vit")
SHUFFLED = ("{name: mosaic, rule: shuffled, targets: digits, other_targets: cifar10}", "vit")
LANGUAGE = ("{name: language, text: novel}", "transformer, causal: true")
MASKED = ("{name: masked_language, text: novel}", "transformer")
LETTERS = ("{name: bigrams, text: novel}", "memories")


def eureka(verb: str, folder: Path, what: tuple[str, str]) -> Result:
    task, model = what
    text = SWEEP.replace("{TASK}", task).replace("MODEL", model).replace("{{", "{").replace("}}", "}")
    (folder / "wanting.yaml").write_text(text)
    arguments = [verb, str(folder / "wanting.yaml"), "--store", str(folder / "store"), "--launcher", "inline"]
    return CliRunner().invoke(cli, [*arguments, "--no-measure"] if verb == "plan" else arguments)


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize(
    ("what", "says"),
    [
        (PICTURES, "mnist/train-images-idx3-ubyte.gz: is not there; eureka data --download mnist fetches it"),
        (SHUFFLED, "cifar10/cifar-10-binary.tar.gz: is not there; eureka data --download cifar10 fetches it"),
        (LANGUAGE, "task.text: "),
        (MASKED, "novel.txt: cannot be read"),
        (LETTERS, "novel.txt: cannot be read"),
    ],
    ids=["mosaic", "shuffled", "language", "masked", "bigrams"],
)
def test_missing_data_are_one_line_before_anything_trains(tmp_path, monkeypatch, verb, what, says):
    monkeypatch.setenv("EUREKA_DATA", str(tmp_path / "data"))
    done = eureka(verb, tmp_path, what)
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert not (tmp_path / "store").exists()


def test_a_store_that_is_there_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("EUREKA_DATA", str(tmp_path / "data"))
    Store.create(tmp_path / "store")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    assert eureka("run", tmp_path, LANGUAGE).exit_code == 2
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")} == before


def test_forks_without_their_source_make_no_store(tmp_path):
    text = SWEEP.replace("{TASK}", "{name: two_step}").replace("MODEL", "transformer")
    text += "  start_from: {run: 178ab41d44fec37b, step: 3}\n"
    (tmp_path / "fork.yaml").write_text(text.replace("{{", "{").replace("}}", "}"))
    done = CliRunner().invoke(cli, ["run", str(tmp_path / "fork.yaml"), "--store", str(tmp_path / "store")])
    assert done.exit_code == 2
    assert "start_from: got run 178ab41d44fec37b" in done.stderr
    assert not (tmp_path / "store").exists()


def test_without_a_folder_the_way_out_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("EUREKA_DATA", raising=False)
    done = eureka("plan", tmp_path, PICTURES)
    assert done.exit_code == 2
    assert "images 'mnist': EUREKA_DATA is not set; set it to a folder and eureka data --download mnist" in done.stderr


def test_a_truncated_archive_is_noticed_by_the_plan(tmp_path, monkeypatch):
    place = tmp_path / "data" / "mnist"
    place.mkdir(parents=True)
    whole = gzip.compress(bytes([0, 0, 8, 3]) + bytes(28 * 28 * 50))
    (place / "train-images-idx3-ubyte.gz").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setenv("EUREKA_DATA", str(tmp_path / "data"))
    done = eureka("plan", tmp_path, PICTURES)
    assert done.exit_code == 2
    assert "train-images-idx3-ubyte.gz: cannot be unpacked" in done.stderr


def test_embedded_pictures_need_no_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("EUREKA_DATA", raising=False)
    assert eureka("plan", tmp_path, ("{name: mosaic}", "vit")).exit_code == 0


def test_a_clusters_workers_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.delenv("EUREKA_DATA", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "ray://elsewhere:10001")
    assert eureka("plan", tmp_path, PICTURES).exit_code == 0


def test_a_search_without_its_data_leaves_no_store(tmp_path, monkeypatch):
    monkeypatch.setenv("EUREKA_DATA", str(tmp_path / "data"))
    text = SWEEP.replace("{TASK}", MASKED[0]).replace("MODEL", MASKED[1]).replace("{{", "{").replace("}}", "}")
    search = (
        "search: {name: random, space: {optim.lr: {log_range: [1.0e-4, 1.0e-2]}}, objective: final_loss, configs: 2}"
    )
    (tmp_path / "wanting.yaml").write_text(f"{text}{search}\n")
    arguments = ["run", str(tmp_path / "wanting.yaml"), "--store", str(tmp_path / "store"), "--launcher", "inline"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 2, done.output
    assert "novel.txt: cannot be read" in done.stderr
    assert not (tmp_path / "store").exists()
