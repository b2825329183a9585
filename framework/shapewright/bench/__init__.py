"""Round trips compared: the product of representations, extractors, shapes and resolutions, measured and recorded.

``request`` says what to run, ``matrix`` expands it into cells, ``worker`` measures cells in child processes, ``cards``
keeps one file per finished cell, ``sweep`` drives it all, ``summary`` turns cells into tables.
"""
