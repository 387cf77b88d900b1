"""Goldens of ImagePreparation: Pillow's resizing on 50 random pictures and sizes with each filter, and transformers'
CLIPImageProcessor on Pillow.

    python Tests/Golden/make_image_preparation.py      (writes Fixtures/pictures; Pillow 13.0 made the checked-in files)

Pictures come from a generator that the test repeats, results are kept as SHA-256.
"""
import hashlib
import json
import random
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessorPil

folder = Path(__file__).parent / "Fixtures" / "pictures"


def picture(seed, width, height):
    """Noise, hard edges or gradients, by the seed; from a linear congruential generator."""
    state, pixels = seed, bytearray()
    for y in range(height):
        for x in range(width):
            for c in range(3):
                state = (state * 1664525 + 1013904223) % 2**32
                noise = state >> 24
                if seed % 3 == 0:
                    pixels.append(noise)
                elif seed % 3 == 1:
                    pixels.append(255 if (x // 3 + y // 5 + c + seed) % 2 else noise // 64)
                else:
                    pixels.append((x * 5 + y * 3 + c * 60 + noise // 32) % 256)
    return Image.frombytes("RGB", (width, height), bytes(pixels))


def sha(data):
    return hashlib.sha256(data).hexdigest()


def resized(image, size, resample):
    """Across first. Pillow 13 takes the other pass first where height shrinks much more than width."""
    across = image.resize((size[0], image.height), resample)
    result = across.resize(size, resample).tobytes()
    direct = image.resize(size, resample).tobytes()
    down = image.resize((image.width, size[1]), resample).resize(size, resample).tobytes()
    assert direct in (result, down)
    return result, direct == result


rng = random.Random(20)
sizes = [((1, 1), (7, 5)), ((1, 9), (4, 4)), ((200, 1), (3, 2)), ((1, 150), (2, 90)), ((64, 64), (1, 1)),
         ((33, 47), (33, 12)), ((33, 47), (90, 47)), ((31, 17), (31, 17)), ((120, 4), (5, 60)), ((3, 3), (97, 101))]
while len(sizes) < 50:
    side = lambda: int(2 ** rng.uniform(0, 6.6))
    sizes.append(((side(), side()), (side(), side())))
filters = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
cases, same = [], 0
for seed, (source, target) in enumerate(sizes):
    image = picture(seed, *source)
    digests = {}
    for name, resample in filters.items():
        data, is_direct = resized(image, target, resample)
        digests[name] = sha(data)
        same += is_direct
    cases.append({"seed": seed, "from": source, "to": target, **digests})
print(f"{same} of {3 * len(cases)} are also what this Pillow gives in one call")
(folder / "resize_random.json").write_text(
    "[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")

configs = [
    {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}},
    {"size": 20, "crop_size": 16, "resample": 3},
    {"size": {"height": 14, "width": 9}, "crop_size": {"height": 12, "width": 13}, "resample": 2},
    {"size": {"shortest_edge": 11}, "do_center_crop": False, "resample": 1},
    {"do_resize": False, "crop_size": {"height": 31, "width": 6}, "do_normalize": False},
    {"size": 8, "crop_size": 9, "do_rescale": False, "image_mean": [100, 120, 130.5], "image_std": [50, 60, 70.25]},
    {"size": 12, "crop_size": 12, "rescale_factor": 0.0078, "image_mean": [1, 1, 1], "image_std": [0.5, 0.25, 1]},
    {"size": 12, "crop_size": 12, "do_convert_rgb": False, "do_normalize": False, "do_rescale": False},
]
prepared = []
# Sizes at which Pillow 13 goes across first, too.
for seed, (config, size) in enumerate(
        (config, size) for config in configs for size in [(37, 23), (19, 30), (16, 16)]):
    image = picture(seed, *size)
    values = CLIPImageProcessorPil(**config)(image, return_tensors="np")["pixel_values"][0]
    values = np.ascontiguousarray(values.transpose(1, 2, 0), dtype="<f4")
    prepared.append({"seed": seed, "from": size, "config": config, "shape": values.shape, "sha256": sha(values.tobytes()),
                     "first": values.ravel()[:3].tolist()})
(folder / "prepare.json").write_text("[\n" + ",\n".join(json.dumps(p) for p in prepared) + "\n]\n")
