"""Final latents of two passes of diffusers' pipelines on tiny random networks: drawn small, enlarged, and drawn over.

    python make_hires.py

writes Fixtures/hires/{runs.json, latents.safetensors} for Fixtures/tiny-sd and Fixtures/tiny-xl. One generator of torch's
CPU makes the noise of both passes, of samplers that draw none themselves: the reference's ancestral ones draw once more at
their last step, for nothing. Latents are enlarged by `interpolate`, pictures by Pillow.
"""

import json

import torch
from diffusers import (
    DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline,
)
from PIL import Image
from safetensors.torch import save_file

from make_models import FIXTURES

FOLDER = FIXTURES / "hires"
SAMPLERS = {
    "ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpmpp-2m": DPMSolverMultistepScheduler,
}
RUNS = {
    "sd.latent": {
        "model": "tiny-sd", "sampler": "dpmpp-2m", "steps": 8, "scale": 1.5, "strength": 0.75, "by": "latent",
        "guidance": 5.0},
    "sd.pixels": {
        "model": "tiny-sd", "sampler": "euler", "steps": 6, "scale": 2.0, "strength": 0.5, "by": "pixels",
        "guidance": 1.0},
    "xl.latent": {
        "model": "tiny-xl", "sampler": "euler", "steps": 5, "scale": 2.0, "strength": 0.6, "by": "latent",
        "guidance": 4.0},
    "xl.pixels": {
        "model": "tiny-xl", "sampler": "ddim", "steps": 8, "scale": 1.5, "strength": 0.5, "by": "pixels",
        "guidance": 4.0},
}
WIDTH, HEIGHT = 24, 16


def main():
    FOLDER.mkdir(exist_ok=True)
    latents = {}
    for seed, (name, run) in enumerate(RUNS.items(), start=71):
        run |= {"prompt": "a face", "negativePrompt": "heart", "seed": seed, "width": WIDTH, "height": HEIGHT}
        is_xl = run["model"] == "tiny-xl"
        extra = {"add_watermarker": False} if is_xl else {
            "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        first = (StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline).from_pretrained(
            FIXTURES / run["model"], torch_dtype=torch.float32, **extra)
        first.scheduler = SAMPLERS[run["sampler"]].from_config(first.scheduler.config)
        components = {key: value for key, value in first.components.items()}
        second = (StableDiffusionXLImg2ImgPipeline if is_xl else StableDiffusionImg2ImgPipeline)(**components, **{
            key: value for key, value in extra.items() if key not in components})
        for pipe in (first, second):
            pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(seed)
        common = {
            "prompt": run["prompt"], "negative_prompt": run["negativePrompt"], "num_inference_steps": run["steps"],
            "guidance_scale": run["guidance"], "generator": generator}
        size = (round(WIDTH * run["scale"]), round(HEIGHT * run["scale"]))
        kind = "latent" if run["by"] == "latent" else "pil"
        drawn = first(**common, width=WIDTH, height=HEIGHT, output_type=kind).images
        if run["by"] == "latent":
            image = torch.nn.functional.interpolate(
                drawn, scale_factor=run["scale"], mode="bicubic", antialias=True)
        else:
            image = drawn[0].resize(size, Image.LANCZOS)
        sizes = {"original_size": size[::-1], "target_size": size[::-1]} if is_xl else {}
        latents[name] = second(
            **common, **sizes, image=image, strength=run["strength"], output_type="latent").images.contiguous()
        print(name, tuple(latents[name].shape))
    (FOLDER / "runs.json").write_text(json.dumps(RUNS, indent=2) + "\n")
    save_file(latents, FOLDER / "latents.safetensors")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    main()
