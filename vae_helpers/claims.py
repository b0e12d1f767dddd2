"""Keeps the prose of the notebooks true: a claim stands beside the numbers it speaks of."""

import vae_helpers._quiet  # noqa: F401  # isort: skip  (before TensorFlow)

import os


def check(condition: bool, claim: str) -> None:
    """Says so where a sentence of the notebook no longer holds for its numbers.

    Args:
        condition: whether the claim holds.
        claim: the sentence, as a student would understand it.

    Raises:
        ValueError: if `claim` is no text.
        AssertionError: if the claim fails and the environment variable
            VAE_STRICT is set to 1, as the tests do. Elsewhere the claim is
            printed: with other hyperparameters that is a finding, not a fault.
    """
    if not isinstance(claim, str):  # the two in the wrong order would hold for ever
        raise ValueError(f"claim must be a sentence, got {claim!r}")
    if condition:
        return
    if os.environ.get("VAE_STRICT") == "1":
        raise AssertionError(f"This claim of the notebook does not hold: {claim}")
    print(f"With these hyperparameters this no longer holds: {claim}")
