"""A metadata server on loopback that answers as the providers document it, and is as strict about headers.

python metadata.py PORT FOLDER      serves until killed; what FOLDER/notice names (aws, gcp, azure) is about to happen
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAME = "worker-3"


class Metadata(ThreadingHTTPServer):
    """What the server knows; set from outside.

    Attributes:
        notice: the machine is about to be taken away.
        events: Azure's scheduled events.
        tokens: those that Amazon's server still takes.
        garbage: answer everything with this instead.
        asked: paths, in order.
    """

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1", port: int = 0):
        super().__init__((host, port), Answers)
        self.notice, self.garbage = False, ""
        self.events: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def preempt(self, *, resources: tuple[str, ...] = (NAME,), status: str = "Scheduled") -> None:
        """Azure's event, and the others' notice."""
        self.notice = True
        self.events.append(
            {
                "EventId": "602d9444-d2cd-49c7-8624-8643e7171297",
                "EventType": "Preempt",
                "ResourceType": "VirtualMachine",
                "Resources": list(resources),
                "EventStatus": status,
                "NotBefore": "Mon, 19 Sep 2016 18:29:47 GMT",
                "Description": "",
                "EventSource": "Platform",
                "DurationInSeconds": -1,
            }
        )


class Answers(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        self.server.asked.append(self.path)
        if self.path != "/latest/api/token" or "X-aws-ec2-metadata-token-ttl-seconds" not in self.headers:
            self._say(400, "")
            return
        self.server.tokens.append(f"AQAEA-{len(self.server.tokens)}==")
        self._say(200, self.server.tokens[-1])

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.server.asked.append(path)
        if self.server.garbage:
            self._say(200, self.server.garbage)
        elif path == "/latest/meta-data/spot/instance-action":
            self._aws()
        elif path == "/computeMetadata/v1/instance/preempted":
            known = self.headers.get("Metadata-Flavor") == "Google"
            self._say(200 if known else 403, "TRUE" if self.server.notice else "FALSE")
        elif path in ("/metadata/scheduledevents", "/metadata/instance/compute/name"):
            self._azure(path, query)
        else:
            self._say(404, "")

    def _aws(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") not in self.server.tokens:
            self._say(401, "")
        elif self.server.notice:
            self._say(200, json.dumps({"action": "terminate", "time": "2017-09-18T08:22:00Z"}))
        else:
            self._say(404, "<h1>404 - Not Found</h1>")

    def _azure(self, path: str, query: str) -> None:
        if self.headers.get("Metadata") != "true" or "api-version=" not in query:
            self._say(400, '{"error": "Bad request"}')
        elif path.endswith("/name"):
            self._say(200, NAME)
        else:
            self._say(200, json.dumps({"DocumentIncarnation": 1, "Events": self.server.events}))

    def _say(self, code: int, text: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def metadata_server() -> Iterator[Metadata]:
    server = Metadata()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def main() -> None:
    """Serve; a file brings the notice."""
    server, file = Metadata(sys.argv[1], int(sys.argv[2])), Path(sys.argv[3])

    def look() -> None:
        while not file.exists():
            threading.Event().wait(0.1)
        server.preempt()

    threading.Thread(target=look, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
