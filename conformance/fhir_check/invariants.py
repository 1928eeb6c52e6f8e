"""Invariants in FHIRPath, through fhirpathpy."""

from __future__ import annotations

from functools import cache
from typing import Any

import fhirpathpy
from antlr4 import CommonTokenStream, InputStream
from fhirpathpy.models import models
from fhirpathpy.parser.generated.FHIRPathLexer import FHIRPathLexer
from fhirpathpy.parser.generated.FHIRPathParser import FHIRPathParser

from fhir_check.definitions import Json


def holds(expression: str, value: Json, resource: Json, release: str) -> bool:
    """Whether an invariant holds: unless it says no, or trips over data of a wrong form."""
    try:
        return _compiled(expression, release)(value, {"resource": resource, "rootResource": resource}) != [False]
    except Exception:  # noqa: BLE001  the evaluator raises whatever its own code meets
        return False


def is_fhirpath(expression: str, release: str) -> bool:
    """Whether *expression* is FHIRPath, to its end, with functions that exist; fhirpathpy's own parser is lenient."""
    lexer = FHIRPathLexer(InputStream(expression))
    lexer.removeErrorListeners()
    parser = FHIRPathParser(CommonTokenStream(lexer))
    parser.removeErrorListeners()
    parser.entireExpression()
    if parser.getNumberOfSyntaxErrors():
        return False
    try:
        _compiled(expression, release)({"resourceType": "Basic"}, {})
    except Exception:  # noqa: BLE001
        return False
    return True


@cache
def _compiled(expression: str, release: str) -> Any:
    # R4 fhirpath.html adds hasValue(); trace() would print.
    extra = {
        "hasValue": {"fn": lambda inputs: [len(inputs) == 1 and not isinstance(inputs[0], dict)], "arity": {0: []}}
    }
    options = {"userInvocationTable": extra, "traceFn": lambda *_: None}
    return fhirpathpy.compile(expression, models[release.lower()], options)
