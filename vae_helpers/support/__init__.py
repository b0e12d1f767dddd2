"""What no reader needs: argument checks, compiled programs, progress, diagnosis, the start-up log.

Whatever imports from here has TensorFlow loaded without its start-up log.
"""

import vae_helpers.support.startup_log  # noqa: F401
