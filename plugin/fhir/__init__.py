"""FHIR in and out: tolerant reading of other people's resources, strict writing of ours."""
