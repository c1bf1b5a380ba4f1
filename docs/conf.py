"""The handbook's configuration: `make docs` builds it, and fails where a link or a reference leads nowhere."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from generated import fill_in, resolve_name

import gradual

project = "gradual"
author = "the authors of gradual"
copyright = author
version = release = gradual.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md", "_build"]
nitpicky = True
smartquotes = False  # options begin with two hyphens

myst_heading_anchors = 3  # as on GitHub, so that links to headings work in both places
myst_enable_extensions = ["deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = "gradual"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_js_files = ["accessible.js"]
html_show_sphinx = False
html_copy_source = False


def setup(app):
    """Write the generated pages, and find names of the package by their paths."""
    app.connect("source-read", fill_in)
    app.connect("missing-reference", resolve_name)
