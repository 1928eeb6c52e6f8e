"""Report text in, finding phrases out. No DICOM, no FHIR, no network."""
