"""Fits red, green and blue to an autoencoder's latents by least squares, for previews (LatentProjection.swift).

    python3 latent_rgb.py VAE_FOLDER PICTURES.npz|PICTURE... [--count N]

Each picture is encoded by the autoencoder and averaged down to the size of its latent; the rows that are printed are
red, green and blue of each channel of the scaled latent, and last what is added. Needs torch and diffusers.
"""

import argparse

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image


def pictures(paths, count):
    """[N, 3, H, W] in -1...1; of an .npz its first array of four axes, channels last."""
    if paths[0].endswith(".npz"):
        arrays = np.load(paths[0])
        pixels = next(arrays[name] for name in arrays.files if arrays[name].ndim == 4)
        pixels = pixels[np.linspace(0, len(pixels) - 1, min(count, len(pixels))).astype(int)]
    else:
        pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths[:count]])
    if pixels.shape[-1] != 3:
        pixels = pixels.transpose(0, 2, 3, 1)
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vae")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--count", type=int, default=400)
    arguments = parser.parse_args()
    vae = AutoencoderKL.from_pretrained(arguments.vae, torch_dtype=torch.float32)
    samples, targets = [], []
    for batch in pictures(arguments.pictures, arguments.count).split(50):
        with torch.no_grad():
            latent = (vae.encode(batch).latent_dist.mean - (vae.config.shift_factor or 0)) * vae.config.scaling_factor
        ratio = batch.shape[-1] // latent.shape[-1]
        targets.append(torch.nn.functional.avg_pool2d(batch, ratio).permute(0, 2, 3, 1).reshape(-1, 3).double())
        samples.append(latent.permute(0, 2, 3, 1).reshape(-1, latent.shape[1]).double())
    x, y = torch.cat(samples), torch.cat(targets)
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    fit = torch.linalg.lstsq(x, y).solution
    rest = ((x @ fit - y) ** 2).mean(0) / y.var(0)
    for row in fit.tolist():
        print("[" + ", ".join(f"{value:.4f}" for value in row) + "],")
    print("unexplained share of the variance:", ", ".join(f"{value:.3f}" for value in rest.tolist()))


main()
