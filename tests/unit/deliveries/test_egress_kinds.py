"""Kinds of addresses that no webhook and no result has."""

import httpx
import pytest

from service.deliveries.egress_guard import GuardedBackend
from service.deliveries.egress_policy import Egress, EgressRefused


async def test_socket_file_is_refused() -> None:
    """No address leads to a socket file of this machine, such as that of a container runtime."""
    with pytest.raises(EgressRefused):
        await GuardedBackend(Egress()).connect_unix_socket("/run/service.sock")


@pytest.mark.parametrize("address", ["2606:4700:4700::1111%1", "2606:4700:4700::1111%lo"])
def test_address_of_one_interface_is_refused(address: str) -> None:
    """An address with a zone means a network of this machine, whatever it looks like without the zone."""
    Egress().check("host.example", 443, "2606:4700:4700::1111")
    with pytest.raises(httpx.RequestError):
        Egress().check("host.example", 443, address)
