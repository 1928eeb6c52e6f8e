"""What is written for every study beside the DICOM and FHIR objects: ``evidence.json`` and ``evidence.html``."""

from plugin.page.document import evidence_json
from plugin.page.view import evidence_page

__all__ = ["evidence_json", "evidence_page"]
