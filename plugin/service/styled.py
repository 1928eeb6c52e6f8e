"""Small pages of the service's own, in the worklist's style: they hold it, run no script, and fetch nothing."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from plugin.page.view import content_security_policy


def rendered(name: str, *, forms: bool = False, **values: Any) -> str:
    """The template *name* with *values*, escaped; *forms*: it sends forms to us."""
    return _environment().get_template(name).render(style=style(), policy=policy(forms=forms), **values)


def policy(*, forms: bool = False) -> str:
    """What such a page may do."""
    told = content_security_policy(style=style(), script="")
    return told.replace("form-action 'none'", "form-action 'self'") if forms else told


@cache
def style() -> Markup:
    """The style sheet."""
    return Markup(files("plugin.service").joinpath("worklist.css").read_text(encoding="utf-8"))  # noqa: S704 - our file


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("plugin.service", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
