"""The certificate authorities that outgoing connections trust: the usual ones, and those that the operator adds.

The usual ones are those of certifi and of the system, where many companies install their own.
"""

import errno
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path

import certifi

from service.domain.errors import BadSetting

FILES = ("BOOMERANG_CA_FILE", "SSL_CERT_FILE")
FOLDERS = "SSL_CERT_DIR"

EXPECTED_FILE = "must name a readable PEM file with at least one certificate"
EXPECTED_FOLDER = "must name a readable directory of certificates, as `openssl rehash` prepares it"


def trusted(variables: Mapping[str, str]) -> ssl.SSLContext:
    """Return the TLS settings of a client that trusts the usual authorities and those in `variables`.

    Verification is that of Python 3.12 in every version: a private authority without key identifiers is accepted, and
    an intermediate authority may be added without its root. Clients without authorities of their own share the
    settings. Raises BadSetting with a line for each wrong variable.
    """
    if not _has_more(variables):
        return _usual_ones(ssl.get_default_verify_paths())
    context = _new_context()
    if faults := list(_add_all(context, variables)):
        raise BadSetting("\n".join(faults))
    return context


def trust(variables: Mapping[str, str]) -> Callable[[], ssl.SSLContext]:
    """Return a function that returns `trusted(variables)`, which raises BadSetting here if a variable is wrong.

    The usual authorities are read at its first call: a start does not wait for them.
    """
    if _has_more(variables):
        context = trusted(variables)
        return lambda: context
    return partial(trusted, variables)


def _has_more(variables: Mapping[str, str]) -> bool:
    """Return whether `variables` name authorities beside the usual ones."""
    return any(variables.get(name, "").strip() for name in (*FILES, FOLDERS))


@lru_cache(maxsize=1)  # reading them takes some 40 ms
def _usual_ones(_: ssl.DefaultVerifyPaths) -> ssl.SSLContext:
    """Return the settings that trust the usual authorities; the paths are those of the system now."""
    return _new_context()


def _new_context() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _add_all(context: ssl.SSLContext, variables: Mapping[str, str]) -> Iterator[str]:
    """Add the authorities in `variables`; yield a line for each variable that is wrong."""
    for name in FILES:
        if path := variables.get(name, "").strip():
            try:
                context.load_verify_locations(cafile=path)
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                yield f"{name} {EXPECTED_FILE}{_reason(error)}"
    for path in filter(None, variables.get(FOLDERS, "").strip().split(os.pathsep)):
        try:
            if not Path(path).is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            context.load_verify_locations(capath=path)
        except (OSError, ValueError) as error:
            yield f"{FOLDERS} {EXPECTED_FOLDER}{_reason(error)}"


def _reason(error: OSError | ValueError) -> str:
    """Return what the system says about a file; OpenSSL's own words about its content explain nothing."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.strerror:
        return f": {error.strerror}"
    return ""
