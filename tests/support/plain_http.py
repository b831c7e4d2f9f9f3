"""What a client of loopback servers verifies: nothing, as they speak plain HTTP."""

import ssl

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For `verify`: trusts nobody. Without it every client reads the certificates of the system, in some 20 ms."""
