"""The HTTP service: submit studies, follow jobs, read evidence, ask the model."""

from plugin.service.app import create_app, serve
from plugin.service.events import SignedEvents, any_event, no_event
from plugin.service.parts import Check, Services

__all__ = ["Check", "Services", "SignedEvents", "any_event", "create_app", "no_event", "serve"]
