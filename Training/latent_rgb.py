"""Fits red, green and blue to latents by least squares, for previews (LatentProjection.swift).

    langevin generate --prompt-file prompts.txt --save-latents latents.safetensors --output pictures/p.png
    python3 latent_rgb.py latents.safetensors pictures/p-*.png

Each picture is averaged down to the size of its latent. The rows that are printed are red, green and blue of each
channel, and last what is added.
"""

import sys

import numpy as np
from PIL import Image
from safetensors.numpy import load_file


def main(latents, pictures):
    latents = load_file(latents)["latents"].astype(np.float64)
    count, channels, height, width = latents.shape
    if count != len(pictures):
        sys.exit(f"{count} latents and {len(pictures)} pictures")
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in pictures]) / 127.5 - 1
    y, x = pixels.shape[1] // height, pixels.shape[2] // width
    means = pixels.reshape(count, height, y, width, x, 3).mean((2, 4)).reshape(-1, 3)
    rows = latents.transpose(0, 2, 3, 1).reshape(-1, channels)
    rows = np.concatenate([rows, np.ones((len(rows), 1))], 1)
    fit = np.linalg.lstsq(rows, means, rcond=None)[0]
    for row in fit:
        print("[" + ", ".join(f"{value:.4f}" for value in row) + "],")
    rest = ((rows @ fit - means) ** 2).mean(0) / means.var(0)
    print("unexplained share of the variance:", ", ".join(f"{value:.3f}" for value in rest))


main(sys.argv[1], sys.argv[2:])
