"""Pixels and phrases in, heatmaps and regions out. No DICOM, no FHIR."""
