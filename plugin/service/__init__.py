"""The HTTP service: submit studies, follow jobs, read evidence, ask the model."""

from plugin.service.app import create_app, serve
from plugin.service.parts import Check, Services

__all__ = ["Check", "Services", "create_app", "serve"]
