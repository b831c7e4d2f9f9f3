"""Outgoing connections: the addresses of a name, proxies, and the certificate authorities that are trusted."""
