"""One S3 server for all tests, and a bucket for each."""

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.support.object_stores import Bucket, moto_server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Yield the address of an S3 server."""
    pytest.importorskip("obstore", reason="the extra `objectstore` is not installed")
    with moto_server() as address:
        yield address


@pytest.fixture
def bucket(s3_server: str) -> Bucket:
    """Return an empty bucket."""
    bucket = Bucket(server=s3_server, name=f"bucket-{uuid4().hex[:12]}")
    httpx.put(f"{s3_server}/{bucket.name}", trust_env=False).raise_for_status()
    return bucket
