"""Keeps the prose of the notebooks true: a claim stands beside the numbers it speaks of."""

import vae_helpers.support  # noqa: F401  # TensorFlow without its start-up log

import os


def claim(condition: bool, sentence: str) -> None:
    """Says so where a sentence of the notebook no longer holds for its numbers.

    Args:
        condition: whether the sentence holds.
        sentence: what the notebook claims, as a student would understand it.

    Raises:
        ValueError: if `sentence` is no text.
        AssertionError: if it does not hold and the environment variable
            VAE_STRICT is set to 1, as the tests do. Elsewhere it is printed:
            with other hyperparameters that is a finding, not a fault.
    """
    if not isinstance(sentence, str):  # the two in the wrong order would hold for ever
        raise ValueError(f"sentence must be a text, got {sentence!r}")
    if not condition and os.environ.get("VAE_STRICT") == "1":
        raise AssertionError(f"This claim of the notebook does not hold: {sentence}")
    if not condition:
        print(f"With these hyperparameters this no longer holds: {sentence}")
