"""The same networks in PyTorch: channels last, on an NVIDIA GPU if there is one.

Eager, which is its fastest on a CPU, or compiled (`torch:compiled`), with CUDA graphs
on a GPU. There, float32 products are computed in TensorFloat-32, as XLA does by
default.
"""

import functools
import importlib.metadata
import math
import time

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.work import ROTATION, SHIFT, ZOOM, Work, cores, make_images


def prepare(work: Work, way: str = ""):
    """Build the network and its optimizer; see `work.prepare`.

    Args:
        work: what to train.
        way: "compiled" for `torch.compile`.
    """
    torch.set_num_threads(cores())
    torch.set_float32_matmul_precision("high")  # no effect on a CPU
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = nn.Sequential(*_STACKS[work.network]())
    model.to(device, memory_format=torch.channels_last).train()
    optimizers = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}
    optimizer = optimizers[work.recipe.optimizer](
        [p for p in model.parameters() if p.requires_grad],
        lr=work.recipe.learning_rate,
    )
    forward = torch.compile(model, mode="reduce-overhead") if way else model
    images, labels = make_images(work)
    every = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
    targets = torch.from_numpy(labels).long().to(device)

    def run() -> float:
        begin = time.perf_counter()
        order = torch.randperm(work.images, device=device).reshape(work.steps, -1)
        losses, hits = [], []
        for rows in order:
            batch = every[rows].float() / 255
            if work.augmented:
                batch = _augment(batch)
            batch = batch.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad(set_to_none=True)
            logits = forward(batch)
            loss = F.cross_entropy(logits, targets[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            hits.append((logits.detach().argmax(1) == targets[rows]).float().mean())
        float(torch.stack(losses).mean()), float(torch.stack(hits).mean())
        return time.perf_counter() - begin

    return run


def versions() -> dict[str, str]:
    """Return the version of PyTorch."""
    return {"torch": importlib.metadata.version("torch")}


def _augment(batch):
    """Turn, zoom and shift as the report does, in one warp of the whole batch."""
    drawn = torch.rand(len(batch), 5, device=batch.device) * 2 - 1
    angle = drawn[:, 0] * math.radians(ROTATION)
    rows, columns = 1 + ZOOM * drawn[:, 1], 1 + ZOOM * drawn[:, 2]
    # A shift of 1 is half the image here.
    down, across = 2 * SHIFT * drawn[:, 3], 2 * SHIFT * drawn[:, 4]
    cos, sin = angle.cos(), angle.sin()
    first = torch.stack([cos * columns, -sin * rows, across], 1)
    second = torch.stack([sin * columns, cos * rows, down], 1)
    grid = F.affine_grid(
        torch.stack([first, second], 1), list(batch.shape), align_corners=True
    )
    return F.grid_sample(batch, grid, padding_mode="border", align_corners=True)


def _lenet5():
    return [
        nn.ZeroPad2d(2),
        nn.Conv2d(1, 6, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, 10),
    ]


def _double_cnn():
    stack, before = [], 1
    for channels, size in ((32, 5), (64, 3)):
        for _ in range(2):
            stack += [nn.Conv2d(before, channels, size, padding="same"), nn.ReLU()]
            before = channels
        stack += [nn.MaxPool2d(2), nn.Dropout(0.25)]
    return [
        *stack,
        nn.Flatten(),
        nn.Linear(3136, 256),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(256, 10),
    ]


def _triple_cnn():
    stack, before = [], 1
    for channels in (32, 64, 128):
        for _ in range(2):
            stack += [nn.Conv2d(before, channels, 3, padding="same"), nn.ReLU()]
            before = channels
        stack += [nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)]
        stack += [nn.MaxPool2d(2), nn.Dropout(0.25)]
    stack.append(nn.Flatten())
    before = 1152
    for units, rate in ((512, 0.5), (256, 0.4), (64, 0.3)):
        stack += [nn.Linear(before, units), nn.ReLU()]
        stack += [nn.BatchNorm1d(units, eps=1e-3, momentum=0.01), nn.Dropout(rate)]
        before = units
    return [*stack, nn.Linear(64, 10)]


def _vgg16(*, frozen=False):
    stack, before = [nn.ZeroPad2d(2), _ThreeChannels()], 3
    for channels, size in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(size):
            stack += [nn.Conv2d(before, channels, 3, padding="same"), nn.ReLU()]
            before = channels
        stack.append(nn.MaxPool2d(2))
    body = nn.Sequential(*stack).requires_grad_(not frozen)
    return [
        body,
        nn.Flatten(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(512, 10),
    ]


class _ThreeChannels(nn.Module):
    def forward(self, images):
        return images.expand(-1, 3, -1, -1)


_STACKS = {
    "lenet5": _lenet5,
    "double_cnn": _double_cnn,
    "triple_cnn": _triple_cnn,
    "vgg16": _vgg16,
    "vgg16_head": functools.partial(_vgg16, frozen=True),
}
