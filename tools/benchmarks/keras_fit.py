"""Keras 3: `fit` with a loss of the model's own, on the backend that the variant names."""

import os

import child
from child import task

os.environ["KERAS_BACKEND"] = task.variant

import keras
from keras import ops

keras.utils.set_random_seed(task.seed)
num_hidden = len(task.hidden_sizes)


class VAE(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = []
        for w, _ in child.layers():
            initializer = keras.initializers.Constant(w)
            self.dense.append(keras.layers.Dense(w.shape[1], kernel_initializer=initializer))
        self.noise = keras.random.SeedGenerator(task.seed)

    def call(self, x):
        """Returns the logits, the averaged KL, and the images [B, 784] from 0 to 1."""
        x = ops.cast(x, "float32") / 255
        h = x
        for layer in self.dense[:num_hidden]:
            h = ops.relu(layer(h))
        mu = self.dense[num_hidden](h)
        sigma = ops.square(self.dense[num_hidden + 1](h)) + child.SCALE_FLOOR
        h = mu + sigma * keras.random.normal(ops.shape(mu), seed=self.noise)
        for layer in self.dense[num_hidden + 2 : -1]:
            h = ops.relu(layer(h))
        kl = ops.mean(0.5 * (ops.square(sigma) + ops.square(mu) - 1) - ops.log(sigma))
        return self.dense[-1](h), kl, x

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        logits, kl, x = y_pred
        return ops.mean(ops.binary_crossentropy(x, logits, from_logits=True)) + task.beta * kl


images = child.images("train").reshape(-1, 784)
model = VAE()
model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-8), jit_compile=True)


def call():
    left = task.steps
    while left:
        some = min(left, len(images) // task.batch_size)
        model.fit(images, batch_size=task.batch_size, steps_per_epoch=some, verbose=0)
        left -= some


def weights():
    return [layer.get_weights() for layer in model.dense]


child.measure(call, task.steps, after_first=lambda: child.keep(weights()))
