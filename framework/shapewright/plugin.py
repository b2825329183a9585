"""What a plugin's light module imports: descriptions and markers, nothing heavy."""

from .hookspecs import hookimpl
from .spec import API_VERSION, Capabilities, ComponentSpec, FileFormat, ParityHandler, Verb

__all__ = ["API_VERSION", "Capabilities", "ComponentSpec", "FileFormat", "ParityHandler", "Verb", "hookimpl"]
