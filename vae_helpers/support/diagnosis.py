"""What to say when a training goes wrong."""

import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd
import tensorflow as tf

ACTIVE_VARIANCE = 0.01  # of a latent's posterior mean over images (Burda et al. 2016, section 5.2)


class NonFiniteLossError(ArithmeticError):
    """Raised when a loss or a weight is NaN or infinite; `losses` holds the rows until then."""

    def __init__(self, losses: pd.DataFrame, cause: str = ""):
        step, *terms = (f"{name} {value:g}" for name, value in losses.iloc[-1].items())
        what = "weights are" if np.isfinite(losses.iloc[-1]).all() else "loss is"
        super().__init__(f"the {what} not finite at {step} ({', '.join(terms)}). {cause}")
        self.losses, self._cause = losses, cause

    def __reduce__(self):  # which lets it come from another process
        return type(self), (self.losses, self._cause)


def cause(losses: pd.DataFrame, learning_rate: float, beta: float) -> str:
    """Says what made a loss or a weight of `training.train` break, most likely."""
    if len(losses) == 1:  # nothing was trained before it
        return f"Likely causes: encoder, decoder or prior as they were given; the beta, {beta:g}."
    return (
        "The likely cause is a step size that threw the weights out of range: make the networks "
        f"anew and try a learning_rate below {learning_rate:g}, or a beta below {beta:g}."
    )


def check_all_trained(used: Iterable[tf.Variable], trained: Iterable[tf.Variable]) -> None:
    """Raises a ValueError if a loss depends on a trainable variable that no step moves."""
    moved = {variable.ref() for variable in trained}
    left = [variable.name for variable in used if variable.ref() not in moved]
    if left:
        raise ValueError(
            f"encoder and decoder must own every variable that the loss depends on, and {left} "
            "would stay untrained: make it an attribute of one of them, create it with "
            "trainable=False, or train it by a step of your own (training.run_steps)"
        )


def warn_of_collapse(means: tf.Tensor, learning_rate: float, beta: float) -> None:
    """Warns if no latent is active, given the means of q(z|x) for some images [N, L]."""
    if np.var(means, axis=0).max() <= ACTIVE_VARIANCE:
        warnings.warn(
            f"none of the {means.shape[-1]} latents is active: the code of an image is that of any "
            "other (posterior collapse, if the rate is near 0). Likely causes are a beta too large, "
            f"{beta:g}; a learning_rate too large, {learning_rate:g}; or images that are all alike.",
            stacklevel=3,
        )
