"""Opens the archive that the settings name."""

from pathlib import Path
from urllib.parse import quote

from service.artifacts.bucket_options import BucketOptions, open_bucket
from service.artifacts.local_archive import LocalArchive
from service.artifacts.ports import Archive
from service.domain.archive_address import BucketAddress, archive_address
from service.network.addresses import authority
from service.network.certificates import FILES
from service.network.proxies import EXCEPTIONS, Proxy, proxy_rules
from service.runtime.config.settings import Settings


def open_archive(settings: Settings) -> Archive | None:
    """Return the archive of ARCHIVE_URL, None without it; nothing is read or sent yet. Raises BadSetting."""
    if settings.archive_url is None:
        return None
    address = archive_address(settings.archive_url)
    if isinstance(address, BucketAddress):
        return open_bucket(address, _options(settings))
    return LocalArchive(address)


def _options(settings: Settings) -> BucketOptions:
    rules = proxy_rules(settings.outgoing)
    proxy = rules.http if (settings.archive_endpoint or "").startswith("http://") else rules.https
    exceptions = (settings.outgoing[name] for name in EXCEPTIONS if settings.outgoing.get(name, "").strip())
    files = (settings.outgoing[name] for name in FILES if settings.outgoing.get(name, "").strip())
    return BucketOptions(
        endpoint=settings.archive_endpoint,
        region=settings.archive_region,
        allow_http=settings.archive_allow_http,
        access_key=settings.archive_access_key,
        secret_key=settings.archive_secret_key,
        signs=settings.archive_signed_urls == "on",
        proxy=_proxy_url(proxy) if proxy else None,
        direct=f"localhost,127.0.0.0/8,{next(exceptions, '')}",
        authorities="\n".join(Path(file.strip()).read_text("utf-8", "replace") for file in files),
    )


def _proxy_url(proxy: Proxy) -> str:
    user = "" if proxy.user is None else f"{quote(proxy.user, safe='')}:{quote(proxy.password, safe='')}@"
    return f"{proxy.scheme}://{user}{authority(proxy.host, proxy.port)}"
