"""Compares a model's pictures with those that diffusers draws of it; exits 1 where they differ by more than 2/255.

usage: agree.py MODEL [--tool langevin]     needs torch, diffusers and transformers"""
import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

PROMPTS = ["red heart", "cat face", "rocket", "a lion with a crown"]
BAR = 2


def write_latents(file, latents):
    entry = {"dtype": "F32", "shape": list(latents.shape), "data_offsets": [0, latents.nbytes]}
    header = json.dumps({"latents": entry}).encode()
    header += b" " * (-len(header) % 8)
    file.write_bytes(struct.pack("<Q", len(header)) + header + latents.tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--tool", default="langevin")
    arguments = parser.parse_args()
    pipeline = StableDiffusionPipeline.from_pretrained(arguments.model, torch_dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    settings = json.loads((arguments.model / "langevin.json").read_text())
    size = pipeline.unet.config.sample_size
    shape = (1, pipeline.unet.config.in_channels, size, size)
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for seed, prompt in enumerate(PROMPTS):
            latents = np.random.default_rng(seed).standard_normal(shape, np.float32)
            write_latents(folder / "latents.safetensors", latents)
            subprocess.run([arguments.tool, "generate", prompt, "--model", arguments.model, "--init-latents",
                            folder / "latents.safetensors", "--output", folder / "ours.png", "--sampler", "ddim",
                            "--steps", str(settings["steps"]), "--guidance", str(settings["guidance"]),
                            "--quiet"], check=True, stdout=subprocess.DEVNULL)
            theirs = pipeline(prompt, num_inference_steps=settings["steps"], latents=torch.from_numpy(latents),
                              guidance_scale=settings["guidance"]).images[0]
            ours = Image.open(folder / "ours.png").convert("RGB")
            difference = np.abs(np.asarray(ours, np.int16) - np.asarray(theirs, np.int16))
            print(f"{prompt}: at most {difference.max()}/255, mean {difference.mean():.3f}/255")
            worst = max(worst, int(difference.max()))
    sys.exit(0 if worst <= BAR else 1)


if __name__ == "__main__":
    main()
