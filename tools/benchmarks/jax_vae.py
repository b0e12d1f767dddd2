"""JAX with Optax: training by steps or by scans of them, the ELBO and the bound; all compiled."""

import functools
import math

import child
import jax
import jax.numpy as jnp
import optax
from child import task

num_hidden = len(task.hidden_sizes)
optimizer = optax.adam(1e-3)
weights = jax.tree.map(jnp.asarray, child.layers())


def dense(layer, x):
    w, b = layer
    return x @ w + b


def encode(layers, x):
    """Returns the mean and the scale of q(z|x), [B, L], for images [B, 784] from 0 to 1."""
    for layer in layers[:num_hidden]:
        x = jax.nn.relu(dense(layer, x))
    mu, sigma = (dense(layer, x) for layer in layers[num_hidden : num_hidden + 2])
    return mu, jnp.square(sigma) + child.SCALE_FLOOR


def terms(layers, mu, sigma, x, noise):
    """Returns rate and distortion, [B] in nats, at the code with this noise."""
    h = mu + sigma * noise
    for layer in layers[num_hidden + 2 : -1]:
        h = jax.nn.relu(dense(layer, h))
    pixels = optax.sigmoid_binary_cross_entropy(dense(layers[-1], h), x)
    kl = 0.5 * (jnp.square(sigma) + jnp.square(mu) - 1) - jnp.log(sigma)
    return kl.sum(axis=1), pixels.sum(axis=1)


def from_bytes(images):
    return images.astype(jnp.float32) / 255


def step(state, indices, key, images):
    def loss_fn(layers):
        x = from_bytes(images[indices])
        mu, sigma = encode(layers, x)
        rate, distortion = terms(layers, mu, sigma, x, jax.random.normal(key, mu.shape))
        rate, distortion = rate.mean(), distortion.mean()
        return distortion / 784 + task.beta * rate / task.latent_size, (rate, distortion)

    layers, moments = state
    gradient, losses = jax.grad(loss_fn, has_aux=True)(layers)
    updates, moments = optimizer.update(gradient, moments)
    return (optax.apply_updates(layers, updates), moments), losses


one_step = jax.jit(step, donate_argnums=0)


@functools.partial(jax.jit, donate_argnums=0)
def many_steps(state, indices, keys, images):
    return jax.lax.scan(lambda state, xs: step(state, *xs, images), state, (indices, keys))


@functools.partial(jax.jit, static_argnums=1)
def batches(key, num_images):
    """Returns the indices of a call's steps, [steps, B], each epoch a new shuffle."""
    in_epoch = num_images // task.batch_size
    keys = jax.random.split(key, math.ceil(task.steps / in_epoch))
    orders = jax.vmap(lambda key: jax.random.permutation(key, num_images))(keys)
    return orders[:, : in_epoch * task.batch_size].reshape(-1, task.batch_size)[: task.steps]


def train():
    images = jnp.asarray(child.images("train").reshape(-1, 784))  # uint8, on the device
    state = (weights, optimizer.init(weights))
    key = jax.random.key(task.seed)

    def call():
        nonlocal state, key
        key, order, noise = jax.random.split(key, 3)
        indices, keys = batches(order, len(images)), jax.random.split(noise, task.steps)
        if task.variant == "scan":
            state, losses = many_steps(state, indices, keys, images)
        else:
            for i, key_i in zip(list(indices), list(keys), strict=True):
                state, losses = one_step(state, i, key_i, images)
        jax.block_until_ready((state, losses))

    child.measure(call, task.steps, after_first=lambda: child.keep(jax.device_get(state[0])))


@jax.jit
def elbo(layers, blocks, key):
    """Returns the ELBO of images [N / 1000, 1000, 784], [N] in nats."""

    def of_block(arguments):
        images, key = arguments
        x = from_bytes(images)
        mu, sigma = encode(layers, x)
        rate, distortion = terms(layers, mu, sigma, x, jax.random.normal(key, mu.shape))
        return -rate - distortion

    return jax.lax.map(of_block, (blocks, jax.random.split(key, len(blocks)))).ravel()


@jax.jit
def bound(layers, blocks, key):
    """Returns the importance-weighted bound of images [N / 200, 200, 784], [N] in nats."""

    def of_block(arguments):
        images, key = arguments
        x = from_bytes(images)
        mu, sigma = encode(layers, x)

        def draw(i, total):
            noise = jax.random.normal(jax.random.fold_in(key, i), mu.shape)
            _, distortion = terms(layers, mu, sigma, x, noise)
            z = mu + sigma * noise
            ratio = 0.5 * (jnp.square(noise) - jnp.square(z)) + jnp.log(sigma)
            return jnp.logaddexp(total, ratio.sum(axis=1) - distortion)

        total = jax.lax.fori_loop(0, task.samples, draw, jnp.full(len(x), -jnp.inf))
        return total - math.log(task.samples)

    return jax.lax.map(of_block, (blocks, jax.random.split(key, len(blocks)))).ravel()


def evaluate(of_images, images_per_block):
    blocks = child.images("test")[: task.images].reshape(-1, images_per_block, 784)
    key = jax.random.key(task.seed)
    child.measure(
        lambda: float(jax.device_get(of_images(weights, blocks, key)).mean()), task.images
    )


if task.variant == "elbo":
    evaluate(elbo, 1000)
elif task.variant == "bound":
    evaluate(bound, 200)
else:
    train()
