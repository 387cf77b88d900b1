"""Final latents of diffusers' inpainting pipelines on tiny random networks: a part of a picture is drawn anew.

    python make_inpainting.py

writes Fixtures/tiny-inpainting, a folder whose UNet has nine input channels and whose other components are links to
those of Fixtures/tiny-sd, and Fixtures/inpainting/{image.png, mask.png, runs.json, latents.safetensors}: what that folder,
Fixtures/tiny-sd and Fixtures/tiny-xl make of the picture. Noise is that of torch's CPU generator, so the order of the
draws is part of what is compared. Stored as float16, computed in float32 from the rounded values.
"""

import json
import os
import shutil

import numpy
import torch
from diffusers import (
    DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler,
    StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline, UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import save_file

from make_models import FIXTURES, randomize

FOLDER = FIXTURES / "inpainting"
SAMPLERS = {
    "ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "euler-a": EulerAncestralDiscreteScheduler,
    "dpmpp-2m": DPMSolverMultistepScheduler,
}
RUNS = {
    "sd.ddim": {"model": "tiny-sd", "sampler": "ddim", "steps": 10, "strength": 0.6, "eta": 0.5, "guidance": 5.0},
    "sd.euler-a": {"model": "tiny-sd", "sampler": "euler-a", "steps": 6, "strength": 1.0, "eta": 0.0, "guidance": 5.0},
    "sd.dpmpp-2m": {"model": "tiny-sd", "sampler": "dpmpp-2m", "steps": 10, "strength": 0.8, "eta": 0.0, "guidance": 1.0},
    "inpainting.euler": {
        "model": "tiny-inpainting", "sampler": "euler", "steps": 6, "strength": 1.0, "eta": 0.0, "guidance": 5.0},
    "inpainting.ddim": {
        "model": "tiny-inpainting", "sampler": "ddim", "steps": 8, "strength": 0.7, "eta": 0.5, "guidance": 4.0},
    "inpainting.unguided": {
        "model": "tiny-inpainting", "sampler": "euler-a", "steps": 6, "strength": 0.9, "eta": 0.0, "guidance": 1.0},
    "xl.euler": {"model": "tiny-xl", "sampler": "euler", "steps": 8, "strength": 0.7, "eta": 0.0, "guidance": 4.0},
    "xl.full": {"model": "tiny-xl", "sampler": "euler-a", "steps": 5, "strength": 1.0, "eta": 0.0, "guidance": 4.0},
}


def inpainting_folder():
    torch.manual_seed(31)
    folder, base = FIXTURES / "tiny-inpainting", FIXTURES / "tiny-sd"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = UNet2DConditionModel.load_config(base / "unet")
    randomize(UNet2DConditionModel.from_config(config | {"in_channels": 9})).half().save_pretrained(folder / "unet")
    index = json.loads((base / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionInpaintPipeline"
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    for name in ("scheduler", "text_encoder", "tokenizer", "vae"):
        os.symlink(os.path.relpath(base / name, folder), folder / name)


def pictures():
    generator = numpy.random.default_rng(4)
    image = Image.fromarray(generator.integers(0, 256, (16, 24, 3), dtype=numpy.uint8))
    grey = numpy.zeros((16, 24), dtype=numpy.uint8)
    grey[4:13, 7:20] = 255
    # Just below and just above the middle, and no whole squares of latents.
    grey[0:3, 0:5], grey[13:16, 2:9] = 127, 128
    mask = Image.fromarray(grey)
    image.save(FOLDER / "image.png")
    mask.save(FOLDER / "mask.png")
    return image, mask


def main():
    FOLDER.mkdir(exist_ok=True)
    inpainting_folder()
    image, mask = pictures()
    latents = {}
    for seed, (name, run) in enumerate(RUNS.items(), start=41):
        run |= {"prompt": "a face", "negativePrompt": "heart", "seed": seed}
        is_xl = run["model"] == "tiny-xl"
        extra = {"add_watermarker": False} if is_xl else {
            "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipe = (StableDiffusionXLInpaintPipeline if is_xl else StableDiffusionInpaintPipeline).from_pretrained(
            FIXTURES / run["model"], torch_dtype=torch.float32, **extra)
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = SAMPLERS[run["sampler"]].from_config(pipe.scheduler.config)
        latents[name] = pipe(
            prompt=run["prompt"], negative_prompt=run["negativePrompt"], image=image, mask_image=mask,
            width=24, height=16, strength=run["strength"], num_inference_steps=run["steps"],
            guidance_scale=run["guidance"], output_type="latent", eta=run["eta"],
            generator=torch.Generator().manual_seed(seed)).images.contiguous()
    (FOLDER / "runs.json").write_text(json.dumps(RUNS, indent=2) + "\n")
    save_file(latents, FOLDER / "latents.safetensors")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    main()
