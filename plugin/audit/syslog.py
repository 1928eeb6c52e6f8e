"""Audit messages over TLS to a syslog server (RFC 5425).

Syslog answers nothing. So each batch has a connection of its own that is ended in both directions: the server's
close_notify comes after it read all that came before ours, and what it did not end so is sent again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plugin.audit.address import PORT
from plugin.audit.message import framed
from plugin.audit.record import Link
from plugin.errors import InputError, TransientError


@dataclass(frozen=True, slots=True)
class SyslogSink:
    """A :class:`plugin.audit.forwarding.Sink`.

    Parameters
    ----------
    ca_file : authorities that the server's certificate is of; None: the well-known ones.
    certificate_file, key_file : ours, where the server wants one.
    """

    host: str
    port: int = PORT
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    timeout_s: float = 30.0
    name: str = "syslog"
    _context: ssl.SSLContext = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate_file is not None:
                context.load_cert_chain(self.certificate_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise InputError("a file of SIGHTLINE_AUDIT_SYSLOG_... cannot be used; check their paths") from error
        object.__setattr__(self, "_context", context)

    def send(self, links: Sequence[Link]) -> None:
        """Have *links* taken, in order.

        Raises
        ------
        TransientError
            If the server is away, is another one, or did not end the connection.
        """
        host = socket.getfqdn()
        content = b"".join(framed(link, host=host, process=os.getpid()) for link in links)
        try:
            with (
                socket.create_connection((self.host, self.port), self.timeout_s) as plain,
                self._context.wrap_socket(plain, server_hostname=self.host) as stream,
            ):
                stream.sendall(content)
                with contextlib.suppress(ssl.SSLEOFError):  # it closed after ours, and without a word: many do
                    stream.unwrap()
        except (OSError, ssl.SSLError) as error:
            raise TransientError(f"the syslog server did not take the audit trail ({type(error).__name__})") from error
