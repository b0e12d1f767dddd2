"""The package itself: training, the ELBO, the bound, and sweeps."""

from vae_helpers.data import binarize
from vae_helpers.evaluation import evaluate, log_likelihood
from vae_helpers.experiments import sweep
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.training import train

import child
import sonnet_layers
from child import task

encoder = Encoder(task.hidden_sizes, task.latent_size)
decoder = Decoder(task.hidden_sizes, [28, 28, 1])
prior = standard_normal(task.latent_size)
sonnet_layers.assign(encoder, decoder, child.layers())


images = child.images("test" if task.variant in ("elbo", "bound") else "train")
options = {"batch_size": task.batch_size, "beta": task.beta, "seed": task.seed}


def training(steps=task.steps, **more):
    train(encoder, decoder, prior, images, training_steps=steps, progress=False, **options, **more)


def evaluation(of_images):
    some = images[: task.images]
    child.measure(lambda: float(of_images(encoder, decoder, prior, some).mean()), task.images)


def elbo(*model_and_images):
    return evaluate(*model_and_images)["elbo"]


def bound(*model_and_images):
    return log_likelihood(*model_and_images, num_samples=task.samples, progress=False)


def trainings():
    for _ in range(task.configurations):
        training()


def configurations():
    one = {"hidden_sizes": task.hidden_sizes, "latent_size": task.latent_size}
    one |= options | {"training_steps": task.steps}
    return [one | {"seed": seed} for seed in range(task.configurations)]


match task.variant:
    case "train" | "binarized":
        child.measure(
            lambda: training(transform=binarize if task.variant == "binarized" else None),
            task.steps,
            after_first=lambda: child.keep(sonnet_layers.variables(encoder, decoder)),
        )
    case "once":  # for long runs
        training(steps=64)
        child.measure(training, task.steps, calls=0)
    case "elbo":
        evaluation(elbo)
    case "bound":
        evaluation(bound)
    case "trainings":
        training(steps=64)
        child.measure(trainings, task.configurations, calls=0)
    case "sweep":
        test_images = child.images("test")
        child.measure(
            lambda: sweep(configurations(), images, test_images, progress=False)["elbo"].mean(),
            task.configurations,
            calls=0,
        )
