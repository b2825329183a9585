"""``python -m shapewright`` is the same as ``shapewright``."""

from .cli import main

if __name__ == "__main__":
    main()
