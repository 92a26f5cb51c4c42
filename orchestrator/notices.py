"""Watches whether the provider is about to take this machine away, as its metadata server tells those who ask.

| provider | asked | says | left, at least |
|---|---|---|---|
| aws | IMDSv2, `spot/instance-action` | 404, or an action and its time | 120 s |
| gcp | `instance/preempted` | FALSE or TRUE | 30 s |
| azure | scheduled events | `Preempt` with this machine among its resources | 30 s |

A thread asks every two seconds; a server that is silent, or none at all, is no notice. Only the standard library is
used, since each worker process watches for itself: nothing has to be installed or started on a machine beforehand.

Source: docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html;
cloud.google.com/compute/docs/instances/create-use-preemptible#detect_preemption;
learn.microsoft.com/azure/virtual-machines/linux/scheduled-events.
"""

from __future__ import annotations

import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress

from orchestrator.errors import BadRequest

PROVIDERS = ("aws", "gcp", "azure")
VARIABLE = "EUREKA_NOTICES"  # a provider, or `provider@http://address` where its metadata is served elsewhere
EVERY_S = 2.0
ANSWERS_S = 1.0  # a metadata server is on the same machine
TOKEN_TTL_S = 21600
LINK_LOCAL = "http://169.254.169.254"

Ask = Callable[[], str]


class Notices:
    """Asks a metadata server now and then, until it says that the machine goes; a context.

    Args:
        provider: aws, gcp or azure.
        address: of the metadata server; the provider's own unless given.
        every_s: how often it is asked [s].
        on_notice: told once, from the watching thread.

    Attributes:
        said: what the notice was; empty while there is none.
    """

    def __init__(
        self,
        provider: str,
        *,
        address: str = "",
        every_s: float = EVERY_S,
        on_notice: Callable[[str], None] = lambda said: None,
    ):
        self.said = ""
        self._ask, self._every_s, self._on_notice = asker(provider, address=address), every_s, on_notice
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="spot-notices", daemon=True)

    def __enter__(self) -> Notices:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join(timeout=ANSWERS_S)

    def look(self) -> str:
        """Ask now; what the notice is, if any. A silent server is none."""
        try:
            return self._ask()
        except (OSError, ValueError, KeyError, TypeError):  # down, slow, or not a metadata server at all
            return ""

    def _watch(self) -> None:
        while not self._ended.is_set():
            if said := self.look():
                self.said = said
                self._on_notice(said)
                return
            self._ended.wait(self._every_s)


def watched(where: str, *, on_notice: Callable[[str], None] = lambda said: None) -> Notices:
    """A watcher as `EUREKA_NOTICES` asks for it.

    Args:
        where: `aws`, or `aws@http://127.0.0.1:8080`.
        on_notice: told once.

    Raises:
        BadRequest: no such provider.
    """
    provider, _, address = where.partition("@")
    if provider not in PROVIDERS:
        raise BadRequest(f"{VARIABLE}: got '{provider}'; expected one of {', '.join(PROVIDERS)}")
    return Notices(provider, address=address, on_notice=on_notice)


def asker(provider: str, *, address: str = "") -> Ask:
    """How to ask a provider's metadata server; the answer is empty while nothing threatens."""
    if provider == "gcp":
        return lambda: _gcp(address or f"http://{os.environ.get('GCE_METADATA_HOST', 'metadata.google.internal')}")
    if provider == "azure":
        return lambda: _azure(address or LINK_LOCAL)
    return Aws(address or os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", LINK_LOCAL)).ask


class Aws:
    """Amazon's server wants a token with each question, which it gives for some hours."""

    def __init__(self, address: str):
        self._address, self._token = address.rstrip("/"), ""

    def ask(self) -> str:
        """Stop, terminate or hibernate, and when."""
        try:
            return self._action()
        except urllib.error.HTTPError as error:
            if error.code != 401:  # 404: nothing threatens
                return ""
        self._token = ""  # it ran out
        return self._action()

    def _action(self) -> str:
        if not self._token:
            sets = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
            self._token = _get(f"{self._address}/latest/api/token", sets, method="PUT")
        said = _get(f"{self._address}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": self._token})
        action = json.loads(said)
        return f"{action['action']} at {action['time']}"


def _gcp(address: str) -> str:
    said = _get(f"{address.rstrip('/')}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return "preempted" if said.strip() == "TRUE" else ""


def _azure(address: str) -> str:
    """The set's other machines may be meant instead; without a name of our own, any is taken for this one."""
    sets = {"Metadata": "true"}
    metadata = f"{address.rstrip('/')}/metadata"
    events = json.loads(_get(f"{metadata}/scheduledevents?api-version=2020-07-01", sets))["Events"]
    preempts = [event for event in events if event["EventType"] == "Preempt" and event["EventStatus"] != "Completed"]
    if not preempts:
        return ""
    name = ""
    with suppress(OSError):
        name = _get(
            f"{metadata}/instance/compute/name?api-version=2021-02-01&format=text", {"Metadata": "true"}
        ).strip()
    own = [event for event in preempts if not name or name in event["Resources"]]
    return f"preempted at {own[0]['NotBefore']}" if own else ""


def _get(url: str, headers: Mapping[str, str], *, method: str = "GET") -> str:
    """An answer of a server on this machine, never through a proxy."""
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=ANSWERS_S) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        error.close()
        raise
