"""Opens the object store that ARCHIVE_URL names, with obstore, from the settings."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from service.artifacts.bucket_archive import BucketArchive
from service.domain.archive_address import BucketAddress
from service.domain.errors import BadSetting

EXTRA = "obstore"

CLIENT_TIMES = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=30),
    "timeout": timedelta(seconds=60),
}
"""Of one request: a part of 5 MiB has a minute."""

RETRIES = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5), "base": 2},
}
"""Of one request by obstore itself: far below the time of an attempt, which the delivery's schedule repeats."""


@dataclass(frozen=True, kw_only=True)
class BucketOptions:
    """How the store is reached; what is not given here comes from the platform's own variables.

    `access_key` and `secret_key` are the id and the secret of an access key (s3), or the name and the key of an account
    (az). `proxy` is the address of a proxy, `direct` the hosts that are reached without it, `authorities` further
    certificates in PEM. `signs` is whether content is served by signed addresses.
    """

    endpoint: str | None = None
    region: str | None = None
    allow_http: bool = False
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    signs: bool = True
    proxy: str | None = field(default=None, repr=False)
    direct: str = ""
    authorities: str = field(default="", repr=False)
    times: Mapping[str, timedelta] = field(default_factory=lambda: CLIENT_TIMES)
    retries: Mapping[str, Any] = field(default_factory=lambda: RETRIES)

    def client(self) -> dict[str, Any]:
        """Return the options of the store's HTTP client."""
        options: dict[str, Any] = {**self.times, "allow_http": self.allow_http}
        if self.authorities:
            options["root_certificate"] = self.authorities
        if self.proxy:
            options |= {"proxy_url": self.proxy, "proxy_excludes": self.direct}
        return options


def missing_extra(address: BucketAddress) -> str | None:
    """Return the fault of an archive whose library is not installed, None if it is."""
    if find_spec(EXTRA):
        return None
    return (
        f"names an object store ({address.scheme}://), which needs the extra `objectstore`: "
        "install boomerang-service[objectstore]"
    )


def open_bucket(address: BucketAddress, options: BucketOptions) -> BucketArchive:
    """Return the archive at `address`; nothing is sent yet. Raises BadSetting."""
    if fault := missing_extra(address):
        raise BadSetting(f"BOOMERANG_ARCHIVE_URL {fault}")
    from obstore import exceptions  # noqa: PLC0415 - an extra
    from obstore import store as stores  # noqa: PLC0415 - an extra

    shared: dict[str, Any] = {
        "prefix": address.prefix or None,
        "client_options": options.client(),
        "retry_config": dict(options.retries),
    }
    try:
        opened: stores.S3Store | stores.GCSStore | stores.AzureStore
        if address.scheme == "s3":
            opened = stores.S3Store(address.bucket, **shared, **_s3(options))
        elif address.scheme == "gs":
            opened = stores.GCSStore(address.bucket, **shared, **_gcs(options))
        else:
            opened = stores.AzureStore(address.bucket, **shared, **_azure(options))
    except (exceptions.BaseError, ValueError) as error:
        raise BadSetting(
            f"BOOMERANG_ARCHIVE_URL cannot be opened ({type(error).__name__}): check the other BOOMERANG_ARCHIVE "
            "settings and the variables of the platform"
        ) from None
    return BucketArchive(address, opened, signs=options.signs)


def _s3(options: BucketOptions) -> dict[str, Any]:
    given = {
        "endpoint": options.endpoint,
        "region": options.region,
        "access_key_id": options.access_key,
        "secret_access_key": options.secret_key,
    }
    return {name: value for name, value in given.items() if value}


def _gcs(options: BucketOptions) -> dict[str, Any]:
    """Return the configuration of Google's store: with an endpoint (an emulator) there are no credentials."""
    if not options.endpoint:
        return {}
    account = {"gcs_base_url": options.endpoint, "disable_oauth": True, "client_email": "", "private_key": ""}
    return {"service_account_key": json.dumps(account | {"private_key_id": ""}), "skip_signature": True}


def _azure(options: BucketOptions) -> dict[str, Any]:
    given = {
        "endpoint": options.endpoint,
        "account_name": options.access_key,
        "account_key": options.secret_key,
    }
    return {name: value for name, value in given.items() if value}
