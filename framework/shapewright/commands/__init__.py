"""Sub-commands of the command line, one module each, imported when called. Each has a ``command``."""
