"""How nbconvert makes the slides: `make slides`."""

import sys
from importlib.metadata import distribution
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import address

REVEAL = distribution("sphinx-revealjs").locate_file("sphinx_revealjs/_static/revealjs")
MATHJAX = distribution("sphinx-mathjax-offline").locate_file(
    "sphinx-mathjax-offline/static/mathjax"
)


def prepare(notebook, resources):
    """Leaves out the line that only nbval needs, and leads links to other files to GitHub."""
    folder = Path(resources["metadata"]["path"])
    for cell in notebook.cells:
        cell.source = cell.source.removeprefix("# NBVAL_CHECK_OUTPUT\n")
        if cell.cell_type == "markdown":
            cell.source = address.outward(cell.source, folder, ROOT)
    return notebook, resources


c = get_config()  # noqa: F821
c.NbConvertApp.export_format = "slides"
c.SlidesExporter.template_name = "slides"
c.SlidesExporter.extra_template_basedirs = [str(HERE.parent)]
c.SlidesExporter.extra_template_paths = [str(REVEAL), str(MATHJAX)]
c.SlidesExporter.preprocessors = [prepare]
c.SlidesExporter.exclude_input_prompt = True
c.SlidesExporter.exclude_output_prompt = True
c.SlidesExporter.exclude_anchor_links = True
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = {"setup", "guard"}
