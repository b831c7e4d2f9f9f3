"""Says in plain words what is wrong with an object store, and who must act."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from service.domain.archive_address import BucketAddress
from service.domain.errors import ArchiveRefused, ArchiveUnavailable, BoomerangError

_STATUS = re.compile(r"status code: ([0-9]{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")

MISSING = frozenset({"NoSuchBucket", "ContainerNotFound"})

_BY_CODE = {
    **dict.fromkeys(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed", "InvalidToken"),
        "the store does not accept the credentials{reply}: correct BOOMERANG_ARCHIVE_ACCESS_KEY and "
        "BOOMERANG_ARCHIVE_SECRET_KEY, or the platform's own variables",
    ),
    **dict.fromkeys(
        ("RequestTimeTooSkewed", "RequestExpired"), "the store refuses the time of this machine{reply}: set its clock"
    ),
    **dict.fromkeys(
        ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"),
        "{where} is in another region{reply}: set BOOMERANG_ARCHIVE_REGION to that of the bucket",
    ),
    **dict.fromkeys(
        MISSING,
        "there is no bucket {bucket!r} at this store{reply}: make it, or correct BOOMERANG_ARCHIVE_URL, "
        "BOOMERANG_ARCHIVE_ENDPOINT and BOOMERANG_ARCHIVE_REGION",
    ),
    "NoCredentials": "there are no credentials for {where}: set BOOMERANG_ARCHIVE_ACCESS_KEY and "
    "BOOMERANG_ARCHIVE_SECRET_KEY, or the platform's own variables",
    "NoEncryption": "the store's address is http, which sends results without encryption: give "
    "BOOMERANG_ARCHIVE_ENDPOINT an https address, or set BOOMERANG_ARCHIVE_ALLOW_HTTP=true",
    "AccessDenied": "access to {where} is denied{reply}: the credentials need permission to read, write and delete "
    "objects and to abort multipart uploads there",
}
"""What the operator has to do, by the code of the store or, where it sends none, by our own."""

_OTHER = "the store refuses the request for {where}{reply}: check the BOOMERANG_ARCHIVE settings"
_METADATA = re.compile(r"169\.254\.169\.254|metadata\.google|credential", re.IGNORECASE)
"""In the message about a store without credentials, which asked the platform for some."""


def names_missing_bucket(error: Exception) -> bool:
    """Return whether the store says that there is no such bucket."""
    return bool(MISSING.intersection(_CODE.findall(str(error))))


@contextmanager
def plain_errors(address: BucketAddress, *, writing: bool = False) -> Iterator[None]:
    """Turn an error of obstore inside the block into ArchiveRefused or ArchiveUnavailable.

    While `writing`, a store that does not find the address has no such bucket; otherwise FileNotFoundError passes.
    """
    try:
        yield
    except BoomerangError:
        raise
    except FileNotFoundError as error:
        if not writing and not names_missing_bucket(error):
            raise
        raise _refused("NoSuchBucket", address) from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "obstore":
            raise
        raise _plain(error, address) from None


def _plain(error: Exception, address: BucketAddress) -> BoomerangError:
    text = str(error).partition("Debug source")[0]
    code = next(iter(_CODE.findall(text)), "")
    status = next(iter(_STATUS.findall(text)), "")
    reply = f" ({' '.join(filter(None, (status, code)))})" if status or code else ""
    own = code if code in _BY_CODE else _own_code(type(error).__name__, status, text)
    if own or (status.startswith("4") and status not in {"408", "429"}):
        return _refused(own, address, reply)
    where = f"{address.scheme}://{address.bucket}"
    return ArchiveUnavailable(f"the store of {where} gives no usable answer{reply or ', or cannot be reached'}")


def _own_code(name: str, status: str, text: str) -> str:
    """Return our code for an error of which the store's own code says nothing, an empty text for others."""
    if "builder error" in text:
        return "NoEncryption"
    if name == "GenericError" and not status.startswith("5") and _METADATA.search(text):
        return "NoCredentials"
    denied = name in {"PermissionDeniedError", "UnauthenticatedError"} or status in {"401", "403"}
    return "AccessDenied" if denied else ""


def _refused(code: str, address: BucketAddress, reply: str = "") -> ArchiveRefused:
    text = _BY_CODE.get(code, _OTHER)
    return ArchiveRefused(text.format(where=f"{address.scheme}://{address.bucket}", bucket=address.bucket, reply=reply))
