"""Bad arguments and images, a table each: the error names the argument, its value, what is due."""

from vae_helpers.data import load_images
from vae_helpers.evaluation import active_units, evaluate, log_likelihood
from vae_helpers.models import Decoder, Encoder, standard_normal, tfd
from vae_helpers.objective import averaged_beta, distortion, effective_beta
from vae_helpers.training import batch_indices, run_steps, train

import inspect
import re

import numpy as np
import pytest
import tensorflow as tf

JOINT = tfd.MultivariateNormalDiag([0.0, 0.0])
IMAGES = np.random.default_rng(0).integers(0, 256, [9, 4, 4, 1], np.uint8)
NETWORK, NETWORKS = {"hidden_sizes": [4]}, {"encoder": None, "decoder": None, "prior": None}
BETA, STEPS = {"num_pixels": 16, "latent_size": 2}, {"batch_size": 3, "training_steps": 1}
GOOD = {
    Encoder: {"latent_size": 2, **NETWORK},
    Decoder: {"output_shape": [4, 4, 1], **NETWORK},
    standard_normal: {"latent_size": 2},
    effective_beta: {"beta": 1.0, **BETA},
    averaged_beta: {"effective_beta": 1.0, **BETA},
    train: {"images": IMAGES, "progress": False, **STEPS, **NETWORKS},
    run_steps: {"images": IMAGES, "step": lambda x, seed: {"x": x[0, 0, 0, 0]}, **STEPS},
    evaluate: {"images": IMAGES, **NETWORKS},
    log_likelihood: {"images": IMAGES, "num_samples": 1, "progress": False, **NETWORKS},
    active_units: {"images": IMAGES, "encoder": None},
    batch_indices: {"num_images": 9, "batch_size": 3, "seed": 0},
}


def call(function, **arguments):
    """Calls a function with what is good, but for these arguments."""
    new = {"encoder": Encoder([4], 2), "decoder": Decoder([4], [4, 4, 1])}
    new["prior"] = standard_normal(2)
    known = {name: new.get(name, value) for name, value in GOOD[function].items()}
    result = function(**known | arguments)
    return next(result) if function is batch_indices else result


SIZES = "positive integer", [0, -1, 1.5, True, None, "3", np.nan, 2**31, 10**400]
SEEDS = "an integer from 0", [-1, 0.5, None, True, "0", 2**31]
LISTS = "a list of positive integers", [3, "16", None]
NUMBERS = "a finite number, 0 or above", [-0.1, np.nan, np.inf, 1e39, "1", None, True, 1j]
STEP_SIZES = "a finite number above 0", [0, -1.0, np.nan, 1e-39, 1e39, None]
KINDS = {name: SIZES for name in ("latent_size", "num_pixels", "batch_size", "training_steps")}
KINDS |= {"num_samples": SIZES, "hidden_sizes": LISTS, "output_shape": LISTS, "seed": SEEDS}
KINDS |= {"beta": NUMBERS, "effective_beta": NUMBERS, "learning_rate": STEP_SIZES}


@pytest.mark.parametrize("name", KINDS)
def test_a_number_out_of_its_range_is_named(name):
    words, values = KINDS[name]
    for function in [f for f in GOOD if name in inspect.signature(f).parameters]:
        for value in values:
            message = f"^{name} must be .*{words}.*got {re.escape(repr(value))}"
            with pytest.raises(ValueError, match=message):
                call(function, **{name: value})


@pytest.mark.parametrize(
    ("function", "name", "value", "message"),
    [
        (Encoder, "hidden_sizes", [16, 0], r"hidden_sizes\[1\] must be a positive integer.* got 0"),
        (Encoder, "activation", None, "activation must be a function"),
        (Encoder, "scale_fn", "exp", "scale_fn must be a function"),
        (Decoder, "activation", lambda: 0, "activation must be a function"),
        (Decoder, "likelihood", tfd.Normal, "likelihood must be a function of .*logits"),
        (train, "batch_size", 10, "batch_size must be at most .*9.* got 10"),
        (train, "decoder", Decoder([4], [5, 5, 1]), "x must have the shape of p"),
        (evaluate, "encoder", lambda x: x, "what encoder returns must be a distribution of TFP"),
        (evaluate, "decoder", lambda z: z, "what decoder returns must be a distribution of TFP"),
        (run_steps, "labels", [1, 2], "labels must be as many as the images, 9, got 2"),
        (run_steps, "step", lambda *_: None, "step must return a dictionary of scalars, got None"),
        (run_steps, "step", lambda x, _: {"x": x}, "step must return a dictionary of scalars"),
        (run_steps, "step", lambda *_: {}, "step must return a dictionary of scalars"),
        (train, "transform", lambda x, _: None, "what transform returns must be"),
        (run_steps, "transform", lambda x, _: x > 127, "what transform returns must be gray"),
        (train, "prior", tfd.Normal, "prior must be a distribution of TFP"),
        (train, "prior", standard_normal(3), "prior must have the shapes that q has"),
        (train, "prior", JOINT, "prior must .*standard_normal fits"),
        (evaluate, "prior", JOINT, "prior must .*standard_normal fits"),
    ],
)
def test_what_does_not_fit_is_named(function, name, value, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(function, **{name: value})


TAKERS = [train, run_steps, evaluate, log_likelihood, active_units]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES // 128, "multiply them by 255 as uint8"),
        (IMAGES > 127, "multiply them by 255 as uint8"),
        (IMAGES.astype(np.int64), "must be uint8, or floats in"),
        (IMAGES.astype(np.float32), "must be uint8, or floats in"),
        (IMAGES / 255**2, "divided by 255 twice: multiply them by 255"),
        (IMAGES * np.nan, "must be uint8, or floats in"),
        (IMAGES[0], r"must be one array \[N, H, W, C\]"),
        (IMAGES[:0], r"one image or more.* \[0, 4, 4, 1\]"),
        (tf.data.Dataset.from_tensors(IMAGES), "one array .* got a .*Dataset"),
        (load_images("mnist", "test[:9]"), "one array .*load_images.* got a tuple"),
    ],
)
def test_images_of_a_wrong_kind_are_named_wherever_images_are_taken(images, message):
    for function in TAKERS:
        with pytest.raises(ValueError, match=f"^images .*{message}"):
            call(function, images=images)
    p = tfd.Bernoulli(logits=tf.zeros(IMAGES.shape))
    for function in (Encoder([4], 2), lambda x: distortion(p, x)):
        with pytest.raises(ValueError, match=f"^x .*{message}"):
            function(images)


@pytest.mark.slow
@pytest.mark.parametrize("function", [run_steps, evaluate, active_units])
def test_floats_tensors_and_dictionaries_of_tfds_are_taken_as_uint8_is(function):
    known = call(function, images=IMAGES)
    for images in (tf.constant(IMAGES), {"image": IMAGES, "label": 1}, IMAGES / np.float32(255)):
        with np.errstate(all="raise"):  # a state that a reader may have set
            np.testing.assert_allclose(call(function, images=images), known, rtol=1e-4)
