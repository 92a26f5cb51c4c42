"""A bucket, by five verbs: list, read, put, put if absent, delete; waits while its gateway is away.

The only file that imports obstore, and it does so when the first bucket is opened. Each verb may be done twice
without harm, so all of them are tried again after whatever may pass: answers 5xx, throttling, resets, silence. Pauses
double from a tenth of a second to five seconds, each drawn between half and one and a half of that, so that many
workers do not come back at once. What has never answered is given up after ten seconds, so that a wrong address is
said soon; what has once answered, after five minutes.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from analysis.errors import StoreError
from analysis.places.object_errors import CREDENTIALS, ENDPOINTS, fault_of
from analysis.places.object_path import About

T = TypeVar("T")
SCHEMES = ("s3", "gs", "az")
FIRST_S, PATIENCE_S = 10.0, 300.0
PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
REQUEST_S = 60.0  # without an answer for so long, a request is lost
PAGE = 1000  # names in one answer
PARTS_AT_ONCE = 4  # of a large object


class Bucket:
    """A store's part of a bucket.

    Args:
        address: s3://BUCKET/PREFIX, or gs or az.

    Raises:
        StoreError: it is no such address, or obstore is not installed.
    """

    def __init__(self, address: str):
        self.address = checked(address)
        self._client = _client(self.address)
        self._patience_s = FIRST_S
        self._jitter = random.SystemRandom()

    def wait_long(self) -> None:
        """Others have reached it, so that silence will pass."""
        self._patience_s = PATIENCE_S

    def read(self, key: str) -> bytes:
        """An object.

        Raises:
            FileNotFoundError: there is none.
            OSError: it cannot be had, in one line.
        """
        import obstore

        return self._persist(lambda: bytes(obstore.get(self._client, key).bytes()))

    def about(self, key: str) -> About:
        """What an object is; raises as `read` does."""
        import obstore

        return self._persist(lambda: _about(obstore.head(self._client, key)))

    def entries(self, prefix: str) -> Iterator[About]:
        """Every object whose key begins so; a page is asked for when it is come to."""
        last = None
        while True:
            page = self._persist(partial(self._page, prefix, last))
            yield from (_about(one) for one in page if one["path"].startswith(prefix))
            if len(page) < PAGE:
                return
            last = page[-1]["path"]

    def _page(self, prefix: str, last: str | None) -> list[Any]:
        import obstore

        return list(next(iter(obstore.list(self._client, prefix or None, offset=last, chunk_size=PAGE)), []))

    def put(self, key: str, data: bytes) -> None:
        """Put an object, whole or not at all; a large one in parts that are joined at the end."""
        import obstore

        self._persist(lambda: obstore.put(self._client, key, data, max_concurrency=PARTS_AT_ONCE))

    def put_new(self, key: str, data: bytes) -> bool:
        """Put an object unless there is one; whether what is there now is `data`, which nobody else would put."""
        import obstore

        while True:
            try:
                self._persist(lambda: obstore.put(self._client, key, data, mode="create", use_multipart=False))
                return True
            except FileExistsError:
                try:
                    return self.read(key) == data  # ours, where the answer to an earlier try was lost
                except FileNotFoundError:  # two puts met, and both were refused
                    time.sleep(self._jitter.uniform(0.5, 1.5) * PAUSE_S)

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""
        import obstore

        try:
            self._persist(lambda: obstore.delete(self._client, key))
        except FileNotFoundError:
            return

    def _persist(self, verb: Callable[[], T]) -> T:
        """Do it, again and again while what stops it may pass."""
        began, pause_s = time.monotonic(), PAUSE_S
        while True:
            try:
                result = verb()
            except Exception as error:
                fault = fault_of(error, address=self.address)
                if fault is None:
                    raise
                waited_s = time.monotonic() - began
                if not fault.may_pass or waited_s > self._patience_s:
                    raise fault.error(address=self.address, waited_s=waited_s if fault.may_pass else 0.0) from None
            else:
                self._patience_s = PATIENCE_S
                return result
            time.sleep(pause_s * self._jitter.uniform(0.5, 1.5))
            pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)


@cache
def bucket_of(address: str) -> Bucket:
    """The bucket at an address; one for all that this process opens there, since its connections are shared."""
    return Bucket(address)


def checked(address: str) -> str:
    """An address without the slash at its end.

    Raises:
        StoreError: it is no bucket's; what may be a secret in it is not repeated.
    """
    parts = urlsplit(address)
    if "@" in parts.netloc or parts.query or parts.fragment:
        plain = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        way_out = "credentials come from the environment or a profile, never from an address"
        raise StoreError(f"store: got more than a bucket and a prefix; expected {plain}. {way_out.capitalize()}")
    if parts.scheme not in SCHEMES or not parts.netloc:
        expected = "a path, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
        raise StoreError(f"store: got '{address}'; expected {expected}")
    return address.rstrip("/")


def _client(address: str) -> Any:
    try:
        from obstore.store import from_url
    except ImportError:
        raise StoreError(f"{address}: needs obstore, which is not installed. pip install 'eureka[object]'") from None
    options: dict[str, Any] = {
        "client_options": {
            "allow_http": _endpoint(address).startswith("http://"),
            "timeout": timedelta(seconds=REQUEST_S),
            "connect_timeout": timedelta(seconds=5),
        },
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=REQUEST_S)},  # `_persist` does
    }
    if address.startswith("s3://") and _has_profile():
        options |= _from_profile(address)
    try:
        return from_url(address, **options)
    except Exception:  # its text may repeat what it was given
        names = CREDENTIALS[address.partition("://")[0]]
        raise StoreError(f"{address}: cannot be opened with what the environment says; set {names}") from None


def _endpoint(address: str) -> str:
    """Where the gateway is, if the environment says so: an http address there is leave enough to go without TLS."""
    names = ENDPOINTS[address.partition("://")[0]]
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _has_profile() -> bool:
    """Whether credentials are those of a profile: none in the environment, and a file of profiles."""
    given = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if any(os.environ.get(name) for name in (*given, "AWS_CONTAINER_CREDENTIALS_FULL_URI")):
        return False
    files = (
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    )
    return bool(os.environ.get("AWS_PROFILE")) or any(Path(file).expanduser().exists() for file in files)


def _from_profile(address: str) -> dict[str, Any]:
    """Credentials as boto3 finds them, renewed when they run out."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        way_out = "pip install 'eureka[object]', or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise StoreError(f"{address}: needs boto3 to read a profile. {way_out}") from None
    try:
        session = boto3.Session()
        if session.get_credentials() is None:
            return {}
        return {"credential_provider": Boto3CredentialProvider(session)}
    except BotoCoreError as error:
        raise StoreError(f"{address}: profile: {str(error).splitlines()[0]}") from None


def _about(found: Any) -> About:
    ino = int.from_bytes(str(found["e_tag"]).encode()[-8:], "big") if found.get("e_tag") else 0
    return About(found["path"], found["size"], found["last_modified"].timestamp(), ino)
