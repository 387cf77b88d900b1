"""Golden fixtures of the upscalers: small random networks of Real-ESRGAN's two kinds, and what they compute.

    python make_upscalers.py [CASE ...]

writes Fixtures/CASE as make_models.py does. The networks are written here from the papers (arXiv:1809.00219,
arXiv:2107.10833) with PyTorch's own layers; their parameters have the names of BasicSR's files.
"""

import torch
from torch import nn
from torch.nn import functional

import make_models
from make_models import case, randomize, write

make_models.CASES.clear()


def convolution(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def leaky(x):
    return functional.leaky_relu(x, 0.2)


class DenseBlock(nn.Module):
    def __init__(self, features, growth):
        super().__init__()
        for index in range(5):
            outputs = growth if index < 4 else features
            self.add_module(f"conv{index + 1}", convolution(features + index * growth, outputs))

    def forward(self, x):
        seen = [x]
        for name, layer in self.named_children():
            out = layer(torch.cat(seen, 1))
            seen.append(out if name == "conv5" else leaky(out))
        return x + 0.2 * seen[-1]


class TripleBlock(nn.Module):
    def __init__(self, features, growth):
        super().__init__()
        for index in range(3):
            self.add_module(f"rdb{index + 1}", DenseBlock(features, growth))

    def forward(self, x):
        out = x
        for block in self.children():
            out = block(out)
        return x + 0.2 * out


class RRDBNet(nn.Module):
    def __init__(self, blocks, features, growth, scale):
        super().__init__()
        self.fold = 4 // scale
        self.conv_first = convolution(3 * self.fold ** 2, features)
        self.body = nn.Sequential(*(TripleBlock(features, growth) for _ in range(blocks)))
        self.conv_body = convolution(features, features)
        self.conv_up1 = convolution(features, features)
        self.conv_up2 = convolution(features, features)
        self.conv_hr = convolution(features, features)
        self.conv_last = convolution(features, 3)

    def forward(self, x):
        first = self.conv_first(functional.pixel_unshuffle(x, self.fold))
        out = first + self.conv_body(self.body(first))
        for layer in (self.conv_up1, self.conv_up2):
            out = leaky(layer(functional.interpolate(out, scale_factor=2, mode="nearest")))
        return self.conv_last(leaky(self.conv_hr(out)))


class Compact(nn.Module):
    def __init__(self, convolutions, features, scale):
        super().__init__()
        self.scale = scale
        layers = [convolution(3, features), nn.PReLU(features)]
        for _ in range(convolutions):
            layers += [convolution(features, features), nn.PReLU(features)]
        self.body = nn.Sequential(*layers, convolution(features, 3 * scale ** 2))

    def forward(self, x):
        return (functional.pixel_shuffle(self.body(x), self.scale)
                + functional.interpolate(x, scale_factor=self.scale, mode="nearest"))


def upscaler(name, model, config):
    """Two pictures, neither of them square."""
    randomize(model)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.PReLU):
                # Slopes on both sides of one and of zero.
                part.weight.copy_(torch.randn_like(part.weight))
    picture = torch.rand(2, 3, 10, 14)
    write(name, config, model.state_dict(), {"picture": picture, "output": model(picture)})


@case
def upscaler_rrdb_x4():
    upscaler("upscaler_rrdb_x4", RRDBNet(2, 12, 8, 4), {"blocks": 2, "features": 12, "growth": 8, "scale": 4})


@case
def upscaler_rrdb_x2():
    upscaler("upscaler_rrdb_x2", RRDBNet(1, 8, 4, 2), {"blocks": 1, "features": 8, "growth": 4, "scale": 2})


@case
def upscaler_compact_x4():
    upscaler("upscaler_compact_x4", Compact(3, 16, 4), {"convolutions": 3, "features": 16, "scale": 4})


@case
def upscaler_compact_x3():
    upscaler("upscaler_compact_x3", Compact(1, 8, 3), {"convolutions": 1, "features": 8, "scale": 3})


if __name__ == "__main__":
    make_models.main()
