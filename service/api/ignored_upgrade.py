"""Requests that ask for another protocol (`Upgrade`): read as if they did not, as RFC 9110, section 7.8, permits.

Java's HttpClient and `curl --http2` send `Upgrade: h2c` with the first request of a connection, also with a body.
"""

from array import array
from typing import Protocol

import httptools

CONNECT = b"CONNECT"
WITHOUT_MEANING = frozenset({b"upgrade", b"http2-settings"})
"""Headers that have no meaning without the upgrade."""


class ParsingProtocol(Protocol):
    """A protocol with its parser, and the head of the request that is parsed as it was received."""

    parser: httptools.HttpRequestParser
    url: bytes
    headers: list[tuple[bytes, bytes]]


class UpgradeIgnoringParser(httptools.HttpRequestParser):
    """A parser of requests that never changes the protocol.

    httptools takes whatever follows the head of such a request for another protocol, also its body: it calls
    `on_headers_complete` and `on_message_complete` while `should_upgrade` returns true, and stops. Those two calls have
    to be ignored. Another parser, which replaces this one in its protocol, then parses the head without its upgrade.
    """

    def __init__(self, protocol: ParsingProtocol) -> None:
        super().__init__(protocol)
        self._protocol = protocol
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def feed_data(self, data: "bytes | bytearray | memoryview[int] | array[int]") -> None:
        """Parse `data`; raises HttpParserError, also for CONNECT."""
        parser = self
        while data:
            try:
                httptools.HttpRequestParser.feed_data(parser, data)
            except httptools.HttpParserUpgrade as upgrade:
                data = parser._head_without_upgrade() + bytes(data[upgrade.args[0] :])
                self._protocol.parser = parser = UpgradeIgnoringParser(self._protocol)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        if self.get_method() == CONNECT:
            raise httptools.HttpParserError("CONNECT is for proxies")
        lines = [b"%s %s HTTP/%s" % (self.get_method(), self._protocol.url, self.get_http_version().encode())]
        for name, value in self._protocol.headers:
            kept = value
            if name == b"connection":
                options = map(bytes.strip, value.split(b","))
                kept = b", ".join(each for each in options if each.lower() != b"upgrade")
            if name not in WITHOUT_MEANING and (kept or not value):
                lines.append(name + b": " + kept)
        return b"\r\n".join([*lines, b"", b""])
