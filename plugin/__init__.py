"""The service: talks DICOMweb and FHIR, composes ``nlp`` and ``model``, writes results, serves pages."""

__version__ = "0.1.0"
