"""The report page of a bench: one HTML file that needs no network.

While a bench runs, ``views`` keeps a small display mesh of every result (``display_mesh`` is its file format,
``simplification`` makes it small; ``paint`` is what it shows of materials, found by ``mesh_paint``, with pictures made
small by ``textures``). ``run_folder`` reads what a bench wrote, ``page_data`` arranges it for the script, ``page``
writes the file, ``notebook`` shows a single mesh in a cell or on a page. The script's source is in ``viewer``, its
build in ``assets``.
Nothing here imports torch, except that ``views`` and ``notebook`` take meshes that hold tensors.
"""
