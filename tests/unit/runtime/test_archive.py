"""The archive that the settings name, and what is refused at the start."""

from pathlib import Path

import pytest

from service.artifacts import bucket_options
from service.artifacts.bucket_archive import BucketArchive
from service.artifacts.bucket_options import RETRIES, BucketOptions
from service.artifacts.local_archive import LocalArchive
from service.domain.archive_address import BucketAddress
from service.domain.errors import BadSetting
from service.runtime.archive import _options, open_archive
from service.runtime.config.settings import Settings, load_settings
from service.runtime.handler_settings import secret_mask

KEYS = {"ARCHIVE_ACCESS_KEY": "id-of-the-key", "ARCHIVE_SECRET_KEY": "secret-of-the-key"}


def settings(url: str | None = "s3://bucket/prefix", **more: str) -> Settings:
    """Return settings with an archive; names have no prefix."""
    given = {**({"ARCHIVE_URL": url} if url else {}), **more}
    plain = {name: value for name, value in given.items() if name == name.lower()}
    return load_settings(plain | {f"BOOMERANG_{name}": value for name, value in given.items() if name not in plain})


def test_archives() -> None:
    """A directory, a bucket of each cloud, or none; nothing is sent for it."""
    assert open_archive(settings(None)) is None
    assert isinstance(open_archive(settings("file:///srv/videos")), LocalArchive)
    for scheme in ("s3", "az"):
        archive = open_archive(settings(f"{scheme}://bucket/a/b", **KEYS | {"ARCHIVE_SECRET_KEY": "c2VjcmV0"}))
        assert isinstance(archive, BucketArchive)
        assert archive.address == BucketAddress(scheme=scheme, bucket="bucket", prefix="a/b")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"ARCHIVE_ACCESS_KEY": "id"}, "ARCHIVE_SECRET_KEY belong together"),
        ({"ARCHIVE_ENDPOINT": "http://minio.internal:9000"}, "ARCHIVE_ENDPOINT is http.*ARCHIVE_ALLOW_HTTP=true"),
        ({"ARCHIVE_ENDPOINT": "minio.internal"}, "ARCHIVE_ENDPOINT must be an address"),
        ({"ARCHIVE_REGION": "eu central"}, "ARCHIVE_REGION must be the name of a region"),
        ({"ARCHIVE_SIGNED_URLS": "maybe"}, "ARCHIVE_SIGNED_URLS must be one of on, off"),
        ({"ARCHIVE_URL": "s3://id:secret@bucket"}, "ARCHIVE_URL must be like s3://bucket/prefix: credentials"),
    ],
)
def test_wrong_settings_stop_the_start(more: dict[str, str], text: str) -> None:
    """One line names the setting and the fix, without a value."""
    with pytest.raises(BadSetting, match=text) as refusal:
        settings(**more)
    assert "secret@" not in str(refusal.value)


def test_key_that_cannot_be_one_stops_the_start() -> None:
    """The key of an account of Azure is base64; the message does not repeat it."""
    with pytest.raises(BadSetting, match="BOOMERANG_ARCHIVE_URL cannot be opened") as refusal:
        open_archive(settings("az://bucket", **KEYS))
    assert "of-the-key" not in str(refusal.value)


def test_missing_extra_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket without its library is refused before anything is paid for; a directory needs none."""
    monkeypatch.setattr(bucket_options, "find_spec", lambda _: None)
    with pytest.raises(BadSetting, match=r"ARCHIVE_URL names an object store .*boomerang-service\[objectstore\]"):
        settings()
    assert isinstance(open_archive(settings("file:///srv/videos")), LocalArchive)


def test_credentials_are_hidden() -> None:
    """Handlers do not see the keys, logs mask them, and no repr shows them."""
    given = settings(**KEYS)
    assert given.present == {"ARCHIVE_URL": "s3://bucket/prefix"}
    text = secret_mask(given)("denied for id-of-the-key with secret-of-the-key at s3://bucket/prefix")
    assert "of-the-key" not in text
    assert "s3://bucket/prefix" in text
    assert "of-the-key" not in repr(given) + repr(_options(given))


def test_proxy_and_certificates(tmp_path: Path) -> None:
    """The store is reached like everything else: by the proxy, with further authorities, but loopback directly."""
    authority = tmp_path / "ca.pem"
    authority.write_text("-----BEGIN CERTIFICATE-----")
    options = _options(
        settings(HTTP_PROXY="http://user:pass%40word@proxy.example:3128", CA_FILE=str(authority), no_proxy=".internal")
    )
    client = options.client()
    assert client["proxy_url"] == "http://user:pass%40word@proxy.example:3128"
    assert client["proxy_excludes"] == "localhost,127.0.0.0/8,.internal"
    assert client["root_certificate"] == "-----BEGIN CERTIFICATE-----"
    assert "pass" not in repr(options)
    assert "proxy_url" not in _options(settings(HTTP_PROXY="none")).client()


def test_retries_of_obstore_are_short() -> None:
    """They end long before an attempt of the archive does."""
    assert RETRIES["retry_timeout"].total_seconds() + BucketOptions().times["timeout"].total_seconds() < 900 / 5
