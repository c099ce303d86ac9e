"""The same networks in PyTorch: channels last, on an NVIDIA GPU if there is one.

Eager, which is its fastest on a CPU, or compiled (`torch:compiled`), with CUDA graphs
on a GPU. There, float32 products are computed in TensorFloat-32, as XLA does by
default.
"""

import math
import time

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.work import ROTATION, SHIFT, ZOOM, Layer, Work, cores, make_images

PACKAGES = ("torch",)


def prepare(work: Work, options: list[str]):
    """Build the network and its optimizer; see `work.prepare`."""
    torch.set_num_threads(cores())
    torch.set_float32_matmul_precision("high")  # no effect on a CPU
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, labels = make_images(work)
    every = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
    targets = torch.from_numpy(labels).long().to(device)
    model = nn.Sequential(*_build(work.recipe.layers), nn.LazyLinear(10)).to(device)
    model(every[:2].float())  # gives the lazy layers their shapes
    model.to(memory_format=torch.channels_last)
    optimizers = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
    }
    optimizer = optimizers[work.recipe.optimizer](
        model.parameters(), lr=work.recipe.learning_rate
    )
    forward = model
    if "compiled" in options:
        forward = torch.compile(model, mode="reduce-overhead")

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


def _augment(batch):
    """Rotate, zoom and shift as the report does, in one warp of the whole batch."""
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


def _build(layers: list[Layer]) -> list[nn.Module]:
    activations = {"relu": nn.ReLU, "tanh": nn.Tanh}
    stack, flat = [], False
    for kind, *arguments in layers:
        match kind:
            case "conv":
                channels, size, padding, activation = arguments
                stack.append(nn.LazyConv2d(channels, size, padding=padding))
                stack.append(activations[activation]())
            case "bare_conv":
                channels, size, stride = arguments
                sizes = {"stride": stride, "padding": size // 2}
                stack.append(nn.LazyConv2d(channels, size, **sizes, bias=False))
            case "separable":
                inputs, outputs = arguments
                options = {"padding": 1, "groups": inputs, "bias": False}
                stack.append(nn.Conv2d(inputs, inputs, 3, **options))
                stack.append(nn.Conv2d(inputs, outputs, 1, bias=False))
            case "add":
                stack.append(
                    _Add(*(nn.Sequential(*_build(each)) for each in arguments))
                )
            case "relu":
                stack.append(nn.ReLU())
            case "overlapping_pool":
                stack.append(nn.MaxPool2d(3, 2, padding=1))
            case "mean":
                stack += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
            case "dense":
                units, activation = arguments
                stack += [nn.LazyLinear(units), activations[activation]()]
            case "norm":
                norm = nn.LazyBatchNorm1d if flat else nn.LazyBatchNorm2d
                stack.append(norm(eps=1e-3, momentum=0.01))
            case "flatten":
                stack, flat = [*stack, nn.Flatten()], True
            case "three_channels":
                stack.append(_ThreeChannels())
            case "pad":
                stack.append(nn.ZeroPad2d(*arguments))
            case "dropout":
                stack.append(nn.Dropout(*arguments))
            case "max_pool":
                stack.append(nn.MaxPool2d(2))
            case "average_pool":
                stack.append(nn.AvgPool2d(2))
    return stack


class _Add(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images):
        return self.first(images) + self.second(images)


class _ThreeChannels(nn.Module):
    def forward(self, images):
        return images.expand(-1, 3, -1, -1)
