"""Sphinx configuration."""

from importlib.metadata import version as version_of

project = "pymc-multimodal"
author = "the pymc-multimodal developers"
copyright = author
version = release = version_of("pymc-multimodal")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
]
exclude_patterns = ["_build"]

# The API page follows `__all__`; signatures show names, the docstrings say the types.
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False

html_theme = "alabaster"
html_theme_options = {
    "description": "Exact draws and mode weights for multimodal PyMC models",
    "fixed_sidebar": True,
    "page_width": "1000px",
}
