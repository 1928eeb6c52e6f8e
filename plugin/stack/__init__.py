"""The whole system on one machine, natively and on loopback: Orthanc, a FHIR engine, and the service with OHIF."""
