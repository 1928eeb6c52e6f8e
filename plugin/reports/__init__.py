"""Where reports come from and FHIR results go to: a folder of FHIR JSON, or a FHIR server."""
