"""The documentation site: `make docs`. Every warning is an error, so a page that nobody links to stops the build."""

from __future__ import annotations

import sys
from pathlib import Path

import shapewright

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "Shapewright"
copyright = "the Shapewright authors, Apache-2.0"
version = release = shapewright.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "module_table"]
exclude_patterns = ["_build", "_extensions"]
suppress_warnings = ["myst.directive_option_comments"]

html_theme = "furo"
html_title = f"Shapewright {version}"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]
pygments_style = "default"
pygments_dark_style = "github-dark"

myst_heading_anchors = 3

# Docstrings are contracts: fields in the order of the source, types where they are declared.
autodoc_default_options = {
    "members": True,
    "undoc-members": True,
    "show-inheritance": True,
    "member-order": "bysource",
}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Source"]
