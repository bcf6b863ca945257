"""Sphinx configuration."""

import os
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

project = "pymc-multimodal"
author = "the pymc-multimodal developers"
copyright = author
version = release = version_of("pymc-multimodal")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_copybutton",
    "myst_nb",
]
# With this package the pages bring MathJax with them, so that formulas need no network either.
try:
    version_of("sphinx-mathjax-offline")
    extensions.append("sphinx-mathjax-offline")
except PackageNotFoundError:
    pass
# The inventories of other projects need a network, and a build without one must not warn.
if os.environ.get("READTHEDOCS") or os.environ.get("DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "pandas": ("https://pandas.pydata.org/docs", None),
    "matplotlib": ("https://matplotlib.org/stable", None),
    "xarray": ("https://docs.xarray.dev/en/stable", None),
    "pymc": ("https://www.pymc.io/projects/docs/en/stable", None),
    "arviz": ("https://python.arviz.org/en/stable", None),
}
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]

# The pages of the gallery are executed, and their outputs kept until a cell of the page changes:
# a rebuild executes nothing. They lie beside the output, in docs/_build/.jupyter_cache.
# Draws of other samplers are read from docs/gallery/others.
nb_execution_mode = "cache"
# Seconds of a cell, with compilation from cold caches on a machine that others use, too.
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
# What a cell writes to stderr while the model compiles says nothing about the result.
nb_output_stderr = "remove"

# Every public name has a page; signatures show names, the docstrings say the types.
autosummary_generate = True
# File systems without upper case know no difference between the pages of `fit` and `Fit`.
autosummary_filename_map = {"pymc_multimodal.fit": "pymc_multimodal.fit-function"}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False

# The button copies what is typed: no prompts, no output.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# The theme of PyMC's own documentation.
html_theme = "pydata_sphinx_theme"
html_title = "pymc-multimodal"
html_sidebars = {"**": ["globaltoc"]}
html_static_path = ["_static"]
html_css_files = ["page.css"]
html_theme_options = {
    "github_url": "https://github.com/pymc-multimodal/pymc-multimodal",
    "navbar_center": [],
    "navbar_end": ["theme-switcher", "navbar-icon-links"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 1,
}
