"""OHIF beside the service, on its origin: the built viewer, its configuration, our panel, and the archive behind."""

from plugin.service.viewer.routes import Viewer, serve_files, viewer_router

__all__ = ["Viewer", "serve_files", "viewer_router"]
