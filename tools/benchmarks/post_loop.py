"""The loop of the post as it stands there: eager, a batch of the TFDS pipeline a step."""

import vae_helpers

from pathlib import Path

import child
import sonnet as snt
import sonnet_layers
import tensorflow as tf
import tensorflow_datasets as tfds
import tensorflow_probability as tfp
from child import task

tfd = tfp.distributions


class Encoder(snt.Module):
    def __init__(self, hidden_sizes, latent_size):
        super().__init__(name="encoder")
        self._network = snt.Sequential(
            [snt.Flatten(), snt.nets.MLP(hidden_sizes, activate_final=True)]
        )
        self._mu_linear = snt.Linear(latent_size)
        self._sigma_linear = snt.Linear(latent_size)

    def __call__(self, x):
        embedding = self._network(x)
        sigma = tf.square(self._sigma_linear(embedding))
        return tfd.Normal(loc=self._mu_linear(embedding), scale=sigma + child.SCALE_FLOOR)


class Decoder(snt.Module):
    def __init__(self, hidden_sizes, output_shape):
        super().__init__(name="decoder")
        self._network = snt.Sequential(
            [snt.nets.MLP([*hidden_sizes, 784]), snt.Reshape(output_shape)]
        )

    def __call__(self, z):
        return tfd.Bernoulli(logits=self._network(z))


dataset = tfds.load(
    "mnist", split="train", data_dir=Path(vae_helpers.__file__).parent / "files" / "tfds"
)
dataset = dataset.map(lambda x: tf.image.convert_image_dtype(x["image"], tf.float32))
dataset = iter(dataset.batch(task.batch_size, drop_remainder=True).repeat())

encoder = Encoder(task.hidden_sizes, task.latent_size)
decoder = Decoder(task.hidden_sizes, [28, 28, 1])
prior = tfd.Normal(loc=tf.zeros(task.latent_size), scale=tf.ones(task.latent_size))
optimizer = snt.optimizers.Adam(1e-3)


def loop():
    for _ in range(task.steps):
        x = next(dataset)
        with tf.GradientTape() as tape:
            q = encoder(x)
            p = decoder(q.sample())
            kl = tf.reduce_mean(q.kl_divergence(prior))
            cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(logits=p.logits, labels=x)
            loss = tf.reduce_mean(cross_entropy) + task.beta * kl
            variables = encoder.trainable_variables + decoder.trainable_variables
            gradients = tape.gradient(loss, variables)
            optimizer.apply(gradients, variables)


sonnet_layers.assign(encoder, decoder, child.layers())
layers = sonnet_layers.variables(encoder, decoder)
child.measure(loop, task.steps, calls=0, after_first=lambda: child.keep(layers))
