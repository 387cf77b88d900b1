"""Golden fixture of the norms: inputs on which a careless mean shows, their value, and PyTorch's error.

    python make_norms.py [CAPTURE.safetensors ...]

writes Fixtures/norms.safetensors. A capture is what `langevin bisect` saved when it blamed a device for the CPU
backend's group norm, whose sums over pixels were floats: of each, the image and the groups that numpy finds worst
in that algorithm are kept. Without captures those that are in the file stay. For each case NAME it holds
NAME.x, NAME.gamma and NAME.beta in float32, NAME.value and NAME.rest, which together are the value in float64, and
in the metadata the operation and the largest and root mean square error of PyTorch's float32.
"""

import json
import os
import sys

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "Fixtures", "norms.safetensors")
torch.set_num_threads(1)


def groups_of(x, groups):
    return x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)


def captured(path):
    """One image and eight groups of a capture: [1, pixels, channels], gamma, beta, {"groups": 8, "epsilon": ...}."""
    with safe_open(path, "np") as file:
        operation = json.loads(file.metadata()["operation"])
        x, gamma, beta = (file.get_tensor(f"input.{i}") for i in range(3))
    norm = operation["groupNorm"]["_0"]
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    parts = groups_of(x, norm["groups"])
    first = parts[:, :1]
    total = np.zeros_like(parts[:, 0])
    for pixel in range(parts.shape[1]):
        total += parts[:, pixel] - first[:, 0]
    mean = (total.astype(np.float64) + parts.shape[1] * first[:, 0]).sum(-1) / (parts.shape[1] * parts.shape[3])
    exact = parts.astype(np.float64)
    error = np.abs(mean - exact.mean((1, 3))) / exact.std((1, 3))
    image = error.max(1).argmax()
    chosen = np.sort(np.argsort(error[image])[-8:])
    width = parts.shape[3]
    channels = (chosen[:, None] * width + np.arange(width)).ravel()
    print(f"{os.path.basename(path)}: the mean was off by {error[image].max():.2g} of the deviation")
    settings = {"operation": "group_norm", "groups": 8, "epsilon": norm["epsilon"]}
    return x[image:image + 1][..., channels], gamma[channels], beta[channels], settings


def adversaries():
    random = np.random.default_rng(20)

    def normal(*shape):
        return random.standard_normal(shape).astype(np.float32)

    def case(x, groups, operation="group_norm", epsilon=1e-5):
        width = x.shape[-1]
        return x.astype(np.float32), normal(width), normal(width), {
            "operation": operation, "groups": groups, "epsilon": epsilon}

    yield "mean_1000", case(normal(2, 100, 16) + 1000, 4)
    yield "narrow", case(normal(1, 200, 16) * 0.01 + 1e4, 4, epsilon=1e-6)
    x = normal(2, 100, 16)
    x[..., ::2] = 5
    yield "constant_channels", case(x, 8)
    x = normal(1, 300, 8)
    x[:, 0] = 300
    yield "loud_first_pixel", case(x, 4)
    yield "big_group", case(normal(1, 2500, 6) + 3, 1)
    yield "ramp", case(normal(1, 800, 8) + np.linspace(-100, 100, 800)[None, :, None], 2)
    for operation in ["layer_norm", "rms_norm"]:
        yield f"{operation}_normal", case(normal(8, 320), 1, operation)
        yield f"{operation}_mean_1000", case(normal(8, 77) + 1000, 1, operation)
        yield f"{operation}_narrow", case(normal(4, 333) * 0.01 + 100, 1, operation, 1e-6)


def value(x, gamma, beta, settings):
    x = x.astype(np.float64)
    epsilon = float(np.float32(settings["epsilon"]))
    parts = groups_of(x, settings["groups"]) if settings["operation"] == "group_norm" else x
    axes = (1, 3) if settings["operation"] == "group_norm" else -1
    if settings["operation"] == "rms_norm":
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * gamma
    d = parts - parts.mean(axes, keepdims=True)
    return (d / np.sqrt((d * d).mean(axes, keepdims=True) + epsilon)).reshape(x.shape) * gamma + beta


def pytorch(x, gamma, beta, settings):
    x, gamma, beta = (torch.from_numpy(np.ascontiguousarray(a)) for a in (x, gamma, beta))
    function, epsilon = torch.nn.functional, settings["epsilon"]
    if settings["operation"] == "layer_norm":
        return function.layer_norm(x, gamma.shape, gamma, beta, epsilon).numpy()
    if settings["operation"] == "rms_norm":
        return function.rms_norm(x, gamma.shape, gamma, epsilon).numpy()
    y = function.group_norm(x.permute(0, 2, 1).contiguous(), settings["groups"], gamma, beta, epsilon)
    return y.permute(0, 2, 1).numpy()


def kept():
    with safe_open(PATH, "np") as file:
        for name, text in file.metadata().items():
            if name.startswith("captured"):
                yield name, (*(file.get_tensor(f"{name}.{part}") for part in ("x", "gamma", "beta")), json.loads(text))


if __name__ == "__main__":
    captures = [(f"captured_{i}", captured(path)) for i, path in enumerate(sys.argv[1:])] or list(kept())
    tensors, metadata = {}, {}
    for name, (x, gamma, beta, settings) in captures + list(adversaries()):
        exact = value(x, gamma, beta, settings)
        error = np.abs(pytorch(x, gamma, beta, settings) - exact)
        settings = {key: settings[key] for key in ("operation", "groups", "epsilon")}
        settings |= {"largest": float(error.max()), "rms": float(np.sqrt((error * error).mean()))}
        print(f"{name} {x.shape}: PyTorch's largest error is {error.max():.2g}")
        rounded = exact.astype(np.float32)
        parts = {"x": x, "gamma": gamma, "beta": beta, "value": rounded, "rest": (exact - rounded).astype(np.float32)}
        tensors |= {f"{name}.{part}": np.ascontiguousarray(array) for part, array in parts.items()}
        metadata[name] = json.dumps(settings)
    save_file(tensors, PATH, metadata=metadata)
    print(f"{os.path.getsize(PATH)} bytes")
