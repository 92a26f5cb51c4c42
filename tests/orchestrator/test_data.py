"""`eureka data`: what stands under a file's name is whole, and a fetch that fails leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator import data
from orchestrator.cli import cli
from orchestrator.data import read_sources
from workloads.images import images_of

CONTENT = bytes(range(256)) * 5000  # more than one piece of a transfer
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Answers(BaseHTTPRequestHandler):
    """Serves CONTENT at every name but those that say how it fails."""

    def __init__(self, asked: list[str], *args: object):
        self.asked = asked
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "absent" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        if "silent" not in self.path:
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if "short" in self.path else CONTENT)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def server(asked) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Answers, asked)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "all my data"


@pytest.fixture
def eureka(tmp_path, folder):
    """The verb with a sources file of one set, `toys`."""

    def call(files: dict[str, str | None], addresses: list[str], *arguments: str) -> Result:
        sources = tmp_path / "sources.yaml"
        sources.write_text(json.dumps({"toys": {"from": addresses, "files": files}}))
        return CliRunner().invoke(cli, ["data", str(folder), "--sources", str(sources), *arguments])

    return call


def left(folder: Path) -> list[str]:
    """Every file, hidden ones too."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def test_a_whole_file_is_fetched_once_and_found_good(eureka, folder, server, asked):
    assert "missing" in eureka({"a.gz": MD5}, [server]).stdout
    assert left(folder) == []
    found = eureka({"a.gz": MD5}, [f"{server}/deep/"], "--download", "toys")
    assert (found.exit_code, asked) == (0, ["/deep/a.gz"])
    assert (folder / "toys" / "a.gz").read_bytes() == CONTENT
    assert left(folder) == ["a.gz"]
    again = eureka({"a.gz": MD5}, [server], "--download", "toys", "--json")
    assert asked == ["/deep/a.gz"]
    [row] = json.loads(again.stdout)
    assert row == {"set": "toys", "file": "a.gz", "state": "good", "bytes": len(CONTENT), "checksum": MD5}


FAILURES = [  # the file's name says how it fails; its checksum in the sources; what one line says
    ("short.gz", MD5, "broke off: got 640,000 of 1,280,000 bytes"),
    ("absent.gz", MD5, "got 404 Not Found"),
    ("a.gz", "md5:" + 32 * "0", f"wrong checksum: got {MD5}; expected md5:0000"),
]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_fetch_that_fails_says_why_and_leaves_nothing(eureka, folder, server, failure):
    name, checksum, says = failure
    found = eureka({name: checksum}, [server], "--download", "toys")
    assert found.exit_code == 1
    [line] = [line for line in found.stderr.splitlines() if not line.startswith("fetching")]
    assert line.startswith(f"eureka: {server}/{name}: ")
    assert says in line
    assert left(folder) == []


def test_a_truncated_answer_without_a_length_is_caught_by_its_checksum(eureka, folder, server):
    found = eureka({"silent_short.gz": MD5}, [server], "--download", "toys")
    assert found.exit_code == 1
    assert "wrong checksum" in found.stderr
    assert left(folder) == []


def test_an_interrupted_fetch_leaves_nothing(eureka, folder, server, monkeypatch):
    def interrupted(path: Path, algorithm: str) -> str:
        assert len(left(folder)) == 1  # the part, beside its place
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "checksum_of", interrupted)
    monkeypatch.setattr(data, "examine", lambda folder, files: [data.Found(f.set, f.name, "missing") for f in files])
    assert eureka({"a.gz": MD5}, [server], "--download", "toys").exit_code == 130
    assert left(folder) == []


def test_an_address_that_does_not_answer_is_followed_by_the_next(eureka, folder, server):
    found = eureka({"a.gz": MD5}, ["http://127.0.0.1:9/", f"{server}/absent/", server], "--download", "toys")
    assert found.exit_code == 0, found.stderr
    assert left(folder) == ["a.gz"]


def test_a_wrong_file_is_told_and_replaced_whole(eureka, folder, server):
    path = folder / "toys" / "a.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    found = eureka({"a.gz": MD5}, [server])
    assert found.exit_code == 1
    assert "wrong checksum  4 bytes" in found.stdout
    assert f"eureka data {folder} --download toys" in found.stdout
    assert eureka({"a.gz": "md5:1"}, [server], "--download", "toys").exit_code == 1
    assert path.read_bytes() == b"half"  # a fetch that fails takes nothing away either
    assert eureka({"a.gz": MD5}, [server], "--download", "toys").exit_code == 0
    assert path.read_bytes() == CONTENT


def test_a_file_nobody_has_a_checksum_of_is_remembered_as_first_found(eureka, folder, server):
    assert eureka({"a.gz": None}, [server], "--download", "toys").exit_code == 0
    assert left(folder) == ["a.gz", "checksums.txt"]
    assert (folder / "toys" / "checksums.txt").read_text() == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}  a.gz\n"
    (folder / "toys" / "a.gz").write_bytes(b"other")
    changed = eureka({"a.gz": None}, [server])
    assert (changed.exit_code, "wrong checksum" in changed.stdout) == (1, True)


def test_a_file_in_the_folders_place_is_refused(eureka, folder):
    folder.write_text("a file")
    found = eureka({"a.gz": MD5}, ["http://127.0.0.1:9/"])
    assert (found.exit_code, found.stderr) == (2, f"eureka: {folder}: is a file; expected a folder\n")


BAD_SOURCES = [
    ("toys: 3", "toys: got 3; expected a mapping of from (addresses) and files (checksums)"),
    ("toys: {from: [x], files: {../a: md5:0}}", "files: got '../a'; expected a file's name, without a folder"),
    ("toys: {from: [x], files: {a: 0123}}", "expected md5|sha1|sha256|sha512:DIGITS, or null"),
    ("toys: {from: 3, files: {a: null}}", "toys.from: got 3; expected a list of addresses"),
]


@pytest.mark.parametrize(("text", "says"), BAD_SOURCES)
def test_a_bad_sources_file_is_one_line(tmp_path, text, says):
    path = tmp_path / "sources.yaml"
    path.write_text(text)
    found = CliRunner().invoke(cli, ["data", str(tmp_path), "--sources", str(path)])
    assert found.exit_code == 2
    [line] = found.stderr.splitlines()
    assert line.startswith(f"eureka: {path}:1: ")
    assert says in line


def test_a_set_that_is_not_there_is_refused_with_the_list(tmp_path):
    found = CliRunner().invoke(cli, ["data", str(tmp_path), "--download", "mnits"])
    assert found.exit_code == 2
    expected = "expected one of mnist, fashion_mnist, cifar10. Did you mean 'mnist'?"
    assert found.stderr == f"eureka: --download: got 'mnits'; {expected}\n"


def test_a_folder_is_asked_for_where_none_is_known(monkeypatch):
    monkeypatch.delenv("EUREKA_DATA", raising=False)
    found = CliRunner().invoke(cli, ["data"])
    assert (found.exit_code, found.stderr) == (
        2,
        "eureka: DIR: got nothing; expected a folder, here or in EUREKA_DATA\n",
    )


def test_shipped_sources_name_the_files_that_are_read(monkeypatch, tmp_path):
    """Each set that a task may show is missing under the very name that the sources fetch."""
    monkeypatch.setenv("EUREKA_DATA", str(tmp_path))
    sets = read_sources()
    assert set(sets) == {"mnist", "fashion_mnist", "cifar10"}
    for name, files in sets.items():
        with pytest.raises(Exception, match=f"eureka data --download {name}") as caught:
            images_of(name, "train")  # type: ignore[arg-type]
        assert str(caught.value).partition(":")[0] in {str(tmp_path / name / file.name) for file in files}
        assert all(file.checksum and file.checksum.startswith("md5:") for file in files)
