"""The matrix products of a training step and nothing else: what no program can be faster than.

A layer has three: its output, the gradient of its weights, and that of its input, which the first
layer needs not. The variant names the library that multiplies.
"""

import child
import numpy as np
from child import task

layers = []  # (weights, input, gradient of the output)
for w, b in child.layers():
    x, dy = (np.ones([task.batch_size, size], np.float32) for size in w.shape)
    layers.append((w, x, dy))


if task.variant == "torch":
    import torch

    layers = [tuple(map(torch.from_numpy, layer)) for layer in layers]
    outputs = [tuple(map(torch.empty_like, (dy, w, x))) for w, x, dy in layers]

    @torch.no_grad()
    def call():
        for _ in range(task.steps):
            for i, ((w, x, dy), (y, dw, dx)) in enumerate(zip(layers, outputs, strict=True)):
                torch.mm(x, w, out=y)
                torch.mm(x.T, dy, out=dw)
                if i:
                    torch.mm(dy, w.T, out=dx)

else:
    import jax

    def products(_, layers):
        """Computes them all; the barriers keep XLA from leaving any out."""
        layers = jax.lax.optimization_barrier(layers)
        out = [(x @ w, x.T @ dy, dy @ w.T if i else x) for i, (w, x, dy) in enumerate(layers)]
        return [(dw, dx, y) for y, dw, dx in jax.lax.optimization_barrier(out)]

    many = jax.jit(lambda layers: jax.lax.fori_loop(0, task.steps, products, layers))

    def call():
        jax.block_until_ready(many(layers))


child.measure(call, task.steps)
