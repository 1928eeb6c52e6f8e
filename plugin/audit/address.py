"""Where a syslog server is."""

from __future__ import annotations

PORT = 6514
"""Of syslog over TLS (RFC 5425 4.1)."""


def syslog_address(text: str) -> tuple[str, int]:
    """Host and port of "host:port" or "host".

    Raises
    ------
    ValueError
        If it is none.
    """
    host, separator, port = text.rpartition(":")
    if not separator:
        return text, PORT
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("must be host:port")
    return host.strip("[]"), int(port)
