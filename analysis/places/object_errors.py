"""What goes wrong with a bucket, in one line each: what it is, whether it may pass, and the way out.

Of a gateway's answer only the code is repeated: its text can hold the key's name, or worse.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

from analysis.errors import StoreError

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
ENDPOINTS = {  # variables that say where the gateway is, the first that is set counts
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_ENDPOINT_URL"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"),
}
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "RequestExpired")
_UNKNOWN = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "AuthenticationFailed",
    "InvalidClientTokenId",
)
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
_FULL = ("QuotaExceeded", "InsufficientStorage", "UserSuspended", "AccountProblem")
_CLOCK = ("RequestTimeTooSkewed",)
_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_PASSING = (408, 409, 425, 429)
_METADATA = ("169.254.169.254", "metadata.google.internal")  # asked for credentials where nothing else gave any


class BucketError(StoreError, OSError):
    """A bucket that cannot be asked: for whoever expects errors of files one, for everybody else the store's."""

    def __init__(self, number: int, text: str, *, address: str):
        StoreError.__init__(self, f"{address}: {text}")
        self.errno, self.strerror = number, text

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Fault:
    """Something that went wrong.

    Attributes:
        number: as errno has it.
        what: it is.
        way_out: of it.
        may_pass: worth another try.
    """

    number: int
    what: str
    way_out: str = ""
    may_pass: bool = False

    def error(self, *, address: str, waited_s: float = 0.0) -> OSError:
        """It as an error of the system, and of the store; after some waiting, with how long that was [s]."""
        waited = f", in {waited_s:.0f} s of trying" if waited_s else ""
        text = f"{self.what}{waited}{'; ' if self.way_out else ''}{self.way_out}"
        kind = {errno.ENOENT: FileNotFoundError, errno.EEXIST: FileExistsError}
        if self.number in kind:
            return kind[self.number](self.number, text)
        return BucketError(self.number, text, address=address)


def fault_of(error: Exception, *, address: str) -> Fault | None:
    """What an error of obstore means; None for any other.

    Args:
        error: as it was raised.
        address: of the bucket.
    """
    if not isinstance(error, FileNotFoundError) and not type(error).__module__.startswith("obstore"):
        return None
    scheme, _, rest = address.partition("://")
    bucket, told, name = rest.partition("/")[0], str(error), type(error).__name__
    code = match[1] if (match := re.search(r"<Code>(\w+)</Code>", told)) else ""
    if "incorrectly configured region" in told:
        code = "PermanentRedirect"
    status = int(match[1]) if (match := re.search(r"status code: (\d{3})", told)) else 0
    if known := _by_code(code, bucket=bucket, scheme=scheme):
        return known
    if any(host in told for host in _METADATA):
        return Fault(errno.EACCES, "no credentials were found", f"set {CREDENTIALS[scheme]}")
    return _by_name(name, status=status, code=code, bucket=bucket) or _passing(
        told, status=status, code=code, scheme=scheme
    )


def _by_code(code: str, *, bucket: str, scheme: str) -> Fault | None:
    """What a gateway's code alone says."""
    found = {
        _NO_BUCKET: (errno.ENODEV, f"there is no bucket '{bucket}'", "make it, or correct the address"),
        _EXPIRED: (errno.EACCES, "the credentials have expired", "get new ones, and the same command goes on"),
        _UNKNOWN: (errno.EACCES, f"the credentials are not valid there ({code})", f"check {CREDENTIALS[scheme]}"),
        _CLOCK: (errno.EACCES, "this machine's clock is wrong, says the gateway", "set it"),
        _FULL: (errno.EDQUOT, f"no more can be stored there ({code})", "raise the quota, or give another store"),
        _REGION: (errno.ENODEV, f"'{bucket}' is in another region", "set AWS_REGION to its own"),
    }
    return next((Fault(*fault) for codes, fault in found.items() if code in codes), None)


def _by_name(name: str, *, status: int, code: str, bucket: str) -> Fault | None:
    """What will not pass by itself."""
    if name == "FileNotFoundError":
        return Fault(errno.ENOENT, "there is no such object")
    if name in ("AlreadyExistsError", "PreconditionError"):
        return Fault(errno.EEXIST, "it is there already")
    if name in ("PermissionDeniedError", "UnauthenticatedError") or status in (401, 403):
        way_out = "give this key leave to list, read, write and delete"
        return Fault(errno.EACCES, f"access to '{bucket}' is denied", way_out)
    if name in ("NotSupportedError", "UnknownConfigurationKeyError", "InvalidPathError") or status == 501:
        return Fault(errno.ENOTSUP, f"the gateway cannot do that ({code or name})")
    if status and status < 500 and status not in _PASSING:
        return Fault(errno.EIO, f"the gateway refuses it ({status}{f' {code}' if code else ''})")
    return None


def _passing(told: str, *, status: int, code: str, scheme: str) -> Fault:
    """What may pass, and what to check if it does not."""
    if status:
        return Fault(errno.EAGAIN, f"the gateway answers {status}{f' {code}' if code else ''}", may_pass=True)
    kind = match[1] if (match := re.search(r"kind: (\w+)", told)) else ""
    what = {"Connect": "cannot be reached", "Timeout": "does not answer"}.get(kind, "breaks the connection off")
    way_out = f"check the network, and {ENDPOINTS[scheme][-1]} if the environment sets it"
    return Fault(errno.EAGAIN, f"the gateway {what}", way_out, may_pass=True)
