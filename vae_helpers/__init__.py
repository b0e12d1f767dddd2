"""What several notebooks of the tutorial need, in the words of the post it follows.

The modules are the post's chapters; import from them by name, e.g.
``from vae_helpers.models import Encoder``. Importing the package itself loads
nothing.
"""
