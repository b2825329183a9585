"""The flexible dual grid is a state of the framework: autoencoders make it too."""

from shapewright.states import FlexibleDualGrid

__all__ = ["FlexibleDualGrid"]
