"""Which certificate authorities are trusted, and the messages about those that cannot be read."""

import os
import shutil
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from service.domain.errors import BadSetting
from service.network import certificates
from service.network.certificates import trusted
from service.network.transport import OutgoingTransport, outgoing
from tests.support.private_ca import PrivateCa, Site, site


async def reached(variables: dict[str, str], url: str) -> bool:
    """Return whether a site is reached with these variables."""
    async with httpx.AsyncClient(transport=OutgoingTransport(outgoing(variables)), trust_env=False) as http:
        with suppress(httpx.ConnectError):
            return (await http.get(url)).is_success
    return False


async def test_additional_authority_is_trusted_beside_the_usual_ones(tmp_path: Path) -> None:
    """CA_FILE and SSL_CERT_FILE add an authority, also both at once; without them the certificate is refused."""
    first, second = PrivateCa(tmp_path), PrivateCa(tmp_path, "Another CA")
    usual = len(trusted({}).get_ca_certs())
    assert usual > 100
    assert len(trusted({"BOOMERANG_CA_FILE": str(first.file)}).get_ca_certs()) == usual + 1
    async with (
        site(Site(), first.server_context("127.0.0.1")) as one,
        site(Site(), second.server_context("::1", "127.0.0.1")) as two,
    ):
        urls = [f"https://127.0.0.1:{each.port}/" for each in (one, two)]
        for variables, expected in (
            ({}, [False, False]),
            ({"BOOMERANG_CA_FILE": str(first.file)}, [True, False]),
            ({"SSL_CERT_FILE": str(second.file)}, [False, True]),
            ({"BOOMERANG_CA_FILE": str(first.file), "SSL_CERT_FILE": str(second.file)}, [True, True]),
        ):
            assert [await reached(variables, url) for url in urls] == expected, variables


def test_certificates_of_the_system_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An authority that a company installed in the system needs no setting; certifi alone does not know it."""
    name = ((("commonName", "Private Test CA"),),)
    assert name not in [each["subject"] for each in trusted({}).get_ca_certs()]
    monkeypatch.setenv("SSL_CERT_FILE", str(PrivateCa(tmp_path).file))  # where OpenSSL looks for the file of the system
    found = [each["subject"] for each in trusted({}).get_ca_certs()]
    assert name in found
    assert len(found) > 100


async def test_directory_of_authorities_is_trusted(tmp_path: Path) -> None:
    """SSL_CERT_DIR names directories in which files are called by their hash."""
    ca, folder = PrivateCa(tmp_path), tmp_path / "authorities"
    folder.mkdir()
    (folder / f"{_subject_hash(ca)}.0").write_bytes(ca.file.read_bytes())
    async with site(Site(), ca.server_context("127.0.0.1")) as one:
        assert await reached({"SSL_CERT_DIR": f"{tmp_path}{os.pathsep}{folder}"}, f"https://127.0.0.1:{one.port}/")


def _subject_hash(ca: PrivateCa) -> str:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the hash of a certificate needs the program openssl")
    command = [openssl, "x509", "-noout", "-subject_hash", "-in", str(ca.file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603


def test_verification_is_the_same_in_every_version_of_python() -> None:
    """Private authorities without key identifiers stay accepted where Python 3.13 would refuse them."""
    flags = trusted({}).verify_flags
    assert not flags & ssl.VERIFY_X509_STRICT
    assert flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    context = trusted({})
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("name", ["BOOMERANG_CA_FILE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("content", [None, b"", b"no certificate", "folder", "key", "der"])
def test_wrong_file_is_one_line(tmp_path: Path, name: str, content: object) -> None:
    """A file that is missing, a directory or without a certificate: one line names the variable and not the path."""
    path = tmp_path / "ca.pem"
    if content == "folder":
        path.mkdir()
    elif content == "key":
        PrivateCa(tmp_path).server_context("key")
        path.write_bytes((tmp_path / "key.pem").read_bytes().partition(b"-----BEGIN CERTIFICATE")[0])
    elif content == "der":
        path.write_bytes(PrivateCa(tmp_path).certificate.public_bytes(serialization.Encoding.DER))
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(BadSetting) as refused:
        trusted({name: str(path)})
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{name} must name a readable PEM file with at least one certificate")


def test_every_wrong_variable_has_its_line(tmp_path: Path) -> None:
    """Both files and the directory are reported at once."""
    missing = str(tmp_path / "missing")
    with pytest.raises(BadSetting) as refused:
        trusted({"BOOMERANG_CA_FILE": missing, "SSL_CERT_FILE": missing, "SSL_CERT_DIR": missing})
    names = [line.split()[0] for line in str(refused.value).splitlines()]
    assert names == ["BOOMERANG_CA_FILE", "SSL_CERT_FILE", "SSL_CERT_DIR"]


def test_usual_certificates_are_read_when_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start does not read them, but what is wrong with those of the operator is reported at once."""
    certificates._usual_ones.cache_clear()
    reads: list[int] = []
    new_context = certificates._new_context

    def counted() -> ssl.SSLContext:
        reads.append(1)
        return new_context()

    monkeypatch.setattr(certificates, "_new_context", counted)
    context = outgoing({}).context
    assert reads == []
    assert context() is context()
    assert reads == [1]
    with pytest.raises(BadSetting, match="BOOMERANG_CA_FILE"):
        outgoing({"BOOMERANG_CA_FILE": "/nowhere"})
