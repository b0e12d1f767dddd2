"""How nbconvert makes the slides: `make slides`."""

from importlib.metadata import distribution
from pathlib import Path

HERE = Path(__file__).parent
REVEAL = distribution("sphinx-revealjs").locate_file("sphinx_revealjs/_static/revealjs")
MATHJAX = distribution("sphinx-mathjax-offline").locate_file(
    "sphinx-mathjax-offline/static/mathjax"
)

c = get_config()  # noqa: F821
c.NbConvertApp.export_format = "slides"
c.SlidesExporter.template_name = "slides"
c.SlidesExporter.extra_template_basedirs = [str(HERE.parent)]
c.SlidesExporter.extra_template_paths = [str(REVEAL), str(MATHJAX)]
c.SlidesExporter.exclude_input_prompt = True
c.SlidesExporter.exclude_output_prompt = True
c.SlidesExporter.exclude_anchor_links = True
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = {"setup", "guard"}
