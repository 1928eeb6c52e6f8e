"""What happens to a received message: its reports are kept, and the answer says so. Logs hold no patient data."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from plugin.errors import TransientError
from plugin.hl7v2.inbox import Inbox
from plugin.hl7v2.message import Acknowledgment, Code, MessageError, acknowledgment, message_of
from plugin.hl7v2.reports import reports_in
from plugin.service.problems import log_defect

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receiver:
    """Takes messages, from several threads at once.

    Parameters
    ----------
    otherwise : the codec of text that declares no character set and is not UTF-8.
    accession_fields : where the accession number stands; see :data:`plugin.hl7v2.reports.ACCESSION_FIELDS`.
    wake : called after something new was kept.
    """

    inbox: Inbox
    otherwise: str
    accession_fields: tuple[str, ...]
    wake: Callable[[], object] = lambda: None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __call__(self, content: bytes) -> bytes:
        """The acknowledgment: AA once everything is on disk, AE to send it again later, AR to mend it first."""
        now = self.clock()
        try:
            new = self._kept(content, now)
        except MessageError as error:
            _log.warning("HL7 message refused (%s %s): %s", error.code, error.where, error)
            return acknowledgment(content, Acknowledgment.REJECT, now=now, error=error)
        except TransientError as error:
            _log.warning("HL7 message not kept: %s", error)
            return acknowledgment(content, Acknowledgment.ERROR, now=now, because=str(error))
        except Exception as error:  # noqa: BLE001 - one message must not end the listener; logged without data
            log_defect("receiving an HL7 message", error)
            return acknowledgment(content, Acknowledgment.ERROR, now=now, because="Unexpected error; see the log.")
        if new:
            self.wake()
        return acknowledgment(content, Acknowledgment.ACCEPT, now=now)

    def refused(self, beginning: bytes, because: str) -> bytes:
        """The acknowledgment of a message that is not read to its end."""
        return acknowledgment(
            beginning, Acknowledgment.REJECT, now=self.clock(), error=MessageError(because, Code.INTERNAL)
        )

    def _kept(self, content: bytes, now: datetime) -> int:
        """How many reports were new."""
        message = message_of(content, otherwise=self.otherwise)
        reports = reports_in(message, accession_fields=self.accession_fields)
        new = [report.report_id for report in reports if self.inbox.keep(report, now=now)]
        for report_id in new:
            _log.info("HL7 message kept: report %s", report_id)
        return len(new)
