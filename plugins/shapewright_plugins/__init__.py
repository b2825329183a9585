"""Built-in plugins of Shapewright, each an ordinary plugin like any third party's."""
