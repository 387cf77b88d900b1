"""Final latents of diffusers' pipelines over Fixtures/tiny-sd: text-to-image and image-to-image, each sampler.

    python make_pipelines.py

writes Fixtures/pipelines/{image.png, settings.json, latents.safetensors}. Noise is that of torch's CPU generator, so the
order of the draws is part of what is compared. Needs torch, diffusers, transformers, safetensors and Pillow.
"""

import json
import pathlib

import numpy
import torch
from diffusers import (
    DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline, StableDiffusionPipeline,
)
from PIL import Image
from safetensors.torch import save_file

FIXTURES = pathlib.Path(__file__).parent / "Fixtures"
FOLDER = FIXTURES / "pipelines"
SAMPLERS = {
    "ddpm": DDPMScheduler, "ddim": DDIMScheduler, "euler": EulerDiscreteScheduler,
    "euler-a": EulerAncestralDiscreteScheduler, "dpmpp-2m": DPMSolverMultistepScheduler,
}
SETTINGS = {"prompt": "a face", "negativePrompt": "heart", "steps": 10, "guidance": 5.0, "strength": 0.6, "eta": 0.5,
            "seed": 21}


def main():
    FOLDER.mkdir(exist_ok=True)
    pixels = numpy.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=numpy.uint8)
    image = Image.fromarray(pixels)
    image.save(FOLDER / "image.png")
    # Stored as float16, computed in float32 from the rounded values.
    pipe = StableDiffusionPipeline.from_pretrained(
        FIXTURES / "tiny-sd", torch_dtype=torch.float32, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)
    config = pipe.scheduler.config
    latents = {}
    for kind, pipeline, extra in (
            ("text", StableDiffusionPipeline, {}),
            ("image", StableDiffusionImg2ImgPipeline, {"image": image, "strength": SETTINGS["strength"]})):
        run = pipeline(**pipe.components, requires_safety_checker=False)
        run.set_progress_bar_config(disable=True)
        for name, scheduler in SAMPLERS.items():
            run.scheduler = scheduler.from_config(config)
            eta = {"eta": SETTINGS["eta"]} if name == "ddim" else {}
            latents[f"{kind}.{name}"] = run(
                prompt=SETTINGS["prompt"], negative_prompt=SETTINGS["negativePrompt"],
                num_inference_steps=SETTINGS["steps"], guidance_scale=SETTINGS["guidance"], output_type="latent",
                generator=torch.Generator().manual_seed(SETTINGS["seed"]), **extra, **eta).images.contiguous()
    (FOLDER / "settings.json").write_text(json.dumps(SETTINGS, indent=2) + "\n")
    save_file(latents, FOLDER / "latents.safetensors")


main()
