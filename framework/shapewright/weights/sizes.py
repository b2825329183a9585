"""Numbers of bytes for readers."""


def human_bytes(count: int) -> str:
    """Decimal units, as file sizes are given.

    >>> human_bytes(5_758_000_000), human_bytes(120_000_000), human_bytes(1200)
    ('5.8 GB', '120 MB', '1 kB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if unit == "GB" else f"{count / size:.0f} {unit}"
    return f"{count} bytes"
