"""How Sphinx makes the book: `make book`."""

import json
import re
import sys
from importlib.metadata import distribution
from pathlib import Path

from docutils import nodes

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import address
import paths

REPOSITORY = f"https://github.com/{address.read(ROOT)}"

project = "Variational autoencoders"
html_title = "Learn variational autoencoders"
html_show_copyright = False
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# From the root: the pages of this folder lie beside the notebooks, not among them.
include_patterns = [
    *(f"notebooks/{paths.name(path)}" for path in [*paths.notebooks(), *paths.pages()]),
    "tools/book/*.md",
]
exclude_patterns = [".*", "build"]
root_doc = "tools/book/index"
templates_path = ["."]
html_additional_pages = {"index": "redirect.html"}

nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # sentences that a notebook computes have formulas too
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 4

# Names of ours must resolve; those of other packages have no place in this book.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!vae_helpers).*")]
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
default_role = "code"
add_module_names = False

# As long as there is no address; `make links` asks for the others.
linkcheck_ignore = [f"https://github.com/{address.UNSET}"]
linkcheck_timeout, linkcheck_retries = 30, 3

html_theme = "sphinx_book_theme"
html_theme_options = {
    "repository_url": REPOSITORY,
    "repository_branch": "main",
    "use_repository_button": True,
    "use_source_button": True,
    "use_issues_button": True,
    "launch_buttons": {
        "notebook_interface": "jupyterlab",
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
    },
    "show_toc_level": 2,
    "navbar_persistent": [],  # the sidebar has the search field
    "footer_content_items": [],  # an author and a year
}
html_context = {"default_mode": "auto"}
html_domain_indices = html_use_index = False

# MathJax from a package, with its fonts in the file: the book asks no other server for anything.
MATHJAX = "sphinx-mathjax-offline/static/mathjax/tex-svg-full.js"
html_static_path = [str(distribution("sphinx-mathjax-offline").locate_file(MATHJAX)), "book.css"]
html_css_files = ["book.css"]
mathjax_path = "tex-svg-full.js"
mathjax3_config = {"options": {"enableMenu": False}}  # it would ask for more files


def is_ours(path: Path) -> bool:
    """Tells whether the book has a page or a picture of this file."""
    return path.suffix == ".svg" or (
        path.is_relative_to(ROOT / "notebooks") and path.suffix in {".md", ".ipynb", ".png"}
    )


def prepare(app, docname: str, source: list[str]) -> None:
    """Leaves out what only a runner of a notebook needs, and leads links outside to GitHub."""
    path = Path(app.env.doc2path(docname))
    executed = ROOT / app.config.executed / paths.name(path)
    if path.suffix == ".ipynb" and executed.exists():
        source[0] = executed.read_text(encoding="utf-8")
    source[0] = address.outward(source[0], path.parent, ROOT, kept=is_ours)
    if path.suffix != ".ipynb":
        return
    notebook = json.loads(source[0])
    notebook["cells"] = [
        cell
        for cell in notebook["cells"]
        if cell["id"] != "badges"
        and "setup" not in cell["metadata"].get("tags", [])
        and ("guard" not in cell["metadata"].get("tags", []) or cell["outputs"])
    ]
    for cell in notebook["cells"]:
        shown = cell["metadata"].setdefault("mystnb", {})
        tags = cell["metadata"].get("tags", [])
        if "guard" in tags:  # what it says of other values
            tags.append("remove-input")
        if "folded" in tags:
            tags.append("hide-input")
            title = cell["source"][0].removeprefix("# @title ").strip()
            shown |= {"code_prompt_show": title, "code_prompt_hide": title}
        for output in cell.get("outputs", []):
            size = output.get("metadata", {}).get("image/png", {})
            size.pop("height", None)  # the width alone keeps the proportions on a phone
        if "alt" in cell["metadata"]:
            shown["image"] = {"alt": cell["metadata"]["alt"]}
        if cell["source"][:1] == ["# NBVAL_CHECK_OUTPUT\n"]:
            del cell["source"][0]
        if cell["cell_type"] == "code":  # what makes a form on Colab
            lines = [re.sub(r"^# @(title|markdown) ", "# ", line) for line in cell["source"]]
            cell["source"] = [re.sub(r"  # @param .*", "", line) for line in lines]
    source[0] = json.dumps(notebook)


def fold(app, doctree: nodes.document) -> None:
    """Folds each solution, from its first cell of code on, and what goes deeper, until a reader
    asks for it."""
    for section in doctree[0].findall(nodes.section):
        if section.parent is not doctree[0]:
            continue
        start, summary = None, "Solution"
        if app.env.docname.startswith("notebooks/solutions/"):
            start = next((i for i, n in enumerate(section) if "nb_element" in n.attributes), None)
        elif section[0].astext() == "Go deeper":
            subsections = [n for n in section if isinstance(n, nodes.section)]
            start, summary = section.index(subsections[0]), "Show it"
        if start is not None:
            opening = f"<details class='folded'><summary>{summary}</summary>"
            section.insert(start, nodes.raw("", opening, format="html"))
            section.append(nodes.raw("", "</details>", format="html"))


def setup(app) -> None:
    # A folder with notebooks that were run just now, to show in place of those that are stored.
    app.add_config_value("executed", "", "env")
    app.connect("source-read", prepare)
    app.connect("doctree-read", fold)
