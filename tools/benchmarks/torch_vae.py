"""PyTorch, eager or compiled, with its fused Adam."""

import child
import torch
import torch.nn.functional as F
from child import task

torch.manual_seed(task.seed)
num_hidden = len(task.hidden_sizes)


class VAE(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList()
        for w, b in child.layers():
            layer = torch.nn.Linear(*w.shape)
            layer.weight.data = torch.from_numpy(w.T.copy())
            layer.bias.data = torch.from_numpy(b)
            self.layers.append(layer)

    def forward(self, x):
        """Returns the loss for images [B, 784] from 0 to 1."""
        h = x
        for layer in self.layers[:num_hidden]:
            h = F.relu(layer(h))
        mu = self.layers[num_hidden](h)
        sigma = self.layers[num_hidden + 1](h).square() + child.SCALE_FLOOR
        h = mu + sigma * torch.randn_like(sigma)
        for layer in self.layers[num_hidden + 2 : -1]:
            h = F.relu(layer(h))
        kl = (0.5 * (sigma.square() + mu.square() - 1) - sigma.log()).mean()
        return F.binary_cross_entropy_with_logits(self.layers[-1](h), x) + task.beta * kl


images = torch.from_numpy(child.images("train").reshape(-1, 784))
model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
loss_fn = torch.compile(model) if task.variant == "compile" else model


def batches():
    """Yields the indices of the batches of a call, each epoch a new shuffle."""
    left = task.steps
    while left:
        order = torch.randperm(len(images))[: len(images) // task.batch_size * task.batch_size]
        some = order.view(-1, task.batch_size)[:left]
        yield from some
        left -= len(some)


def call():
    for indices in batches():
        loss = loss_fn(images[indices].float() / 255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def weights():
    return [(a.weight.detach().numpy().T, a.bias.detach().numpy()) for a in model.layers]


child.measure(call, task.steps, after_first=lambda: child.keep(weights()))
