"""Scopes of SMART App Launch: which forms say the same, and what a grant lacks."""

import pytest

from plugin.fhir.scopes import as_version_1, lacking
from plugin.settings import FHIR_SCOPE


@pytest.mark.parametrize(
    ("wanted", "granted", "missing"),
    [
        ("system/Observation.crus", "system/Observation.crus", ""),
        ("system/Observation.rs", "system/Observation.cruds", ""),
        ("system/Observation.crus", "system/Observation.rs", "system/Observation.crus"),
        ("system/Observation.crus", "system/Observation.r system/Observation.cus", ""),
        ("system/Observation.rs", "system/*.rs", ""),
        ("system/Observation.rs", "system/Observation.read", ""),
        ("system/Observation.crus", "system/Observation.read system/Observation.write", ""),
        ("system/Observation.crus", "system/Observation.*", ""),
        ("system/Observation.crus", "system/*.*", ""),
        ("system/Observation.rs", "system/Observation.write", "system/Observation.rs"),
        ("system/Observation.rs", "user/Observation.rs", "system/Observation.rs"),
        ("system/Observation.rs", "system/Patient.rs", "system/Observation.rs"),
        ("system/Observation.rs openid", "system/Observation.rs openid", ""),
        ("openid", "system/*.cruds", "openid"),
        ("system/Patient.rs system/Binary.r", "", "system/Patient.rs system/Binary.r"),
    ],
)
def test_what_a_grant_lacks(wanted, granted, missing):
    assert lacking(wanted.split(), granted.split()) == tuple(missing.split())


@pytest.mark.parametrize(
    ("scopes", "words"),
    [
        ("system/Patient.rs", "system/Patient.read"),
        ("system/Observation.crus", "system/Observation.read system/Observation.write"),
        ("system/AuditEvent.c openid", "system/AuditEvent.write openid"),
    ],
)
def test_scopes_in_the_words_of_version_1(scopes, words):
    assert as_version_1(scopes.split()) == tuple(words.split())
    assert lacking(scopes.split(), words.split()) == ()


def test_what_is_asked_for_by_default_is_listed_type_by_type():
    assert "*" not in FHIR_SCOPE
    assert all(scope.startswith("system/") for scope in FHIR_SCOPE.split())
