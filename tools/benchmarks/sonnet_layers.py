"""The weights of Sonnet's encoder and decoder, in the order that all programs share."""

from collections.abc import Sequence

import numpy as np
import sonnet as snt
import tensorflow as tf


def variables(encoder: snt.Module, decoder: snt.Module) -> list[tuple[tf.Variable, tf.Variable]]:
    """Returns (weights, biases) of the encoder's hidden layers, its mean, scale, and the decoder.

    A module lists the variables of its attributes by name, and those of a layer biases first.
    """
    mean, *hidden, scale = zip(encoder.variables[1::2], encoder.variables[::2], strict=True)
    return [
        *hidden,
        mean,
        scale,
        *zip(decoder.variables[1::2], decoder.variables[::2], strict=True),
    ]


def assign(
    encoder: snt.Module, decoder: snt.Module, layers: Sequence[tuple[np.ndarray, np.ndarray]]
) -> None:
    """Makes the weights of modules without any, and sets them to those of the layers."""
    images = tf.zeros([1, 28, 28, 1])
    decoder(encoder(images).loc)
    for pair, arrays in zip(variables(encoder, decoder), layers, strict=True):
        for variable, array in zip(pair, arrays, strict=True):
            variable.assign(array)
