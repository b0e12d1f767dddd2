"""What several notebooks of the tutorial need, in the words of the post it follows.

Each module holds one subject; import from it by name, e.g.
``from vae_helpers.models import Encoder``. Importing the package itself loads
nothing else.
"""
