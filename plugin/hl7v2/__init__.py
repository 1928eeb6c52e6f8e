"""HL7 v2 in: results (ORU^R01) of sites without FHIR, received over MLLP and kept as FHIR in the folder of reports."""
