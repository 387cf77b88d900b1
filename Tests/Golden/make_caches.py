"""Final latents of diffusers' pipelines on tiny random networks, with caches that leave out work of the UNet.

    python make_caches.py

writes Fixtures/caches/{runs.json, latents.safetensors} for Fixtures/tiny-sd and Fixtures/tiny-xl. Needs DeepCache, tomesd and
tgate of PyPI beside torch and diffusers: the caches are their authors' own. tomesd keeps the upper left pixel of each square
(`use_rand` off), in the largest pictures that have transformers; T-GATE reuses cross-attentions alone.
"""

import json

import tomesd
import torch
from DeepCache import DeepCacheSDHelper
from diffusers import (
    DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from safetensors.torch import save_file
from tgate import TgateSDLoader, TgateSDXLLoader

from make_models import FIXTURES

FOLDER = FIXTURES / "caches"
SAMPLERS = {"ddim": DDIMScheduler, "dpmpp-2m": DPMSolverMultistepScheduler, "euler": EulerDiscreteScheduler}
RUNS = {
    "sd.none": {"model": "tiny-sd", "sampler": "ddim", "steps": 7, "guidance": 5.0},
    "sd.deep": {"model": "tiny-sd", "sampler": "ddim", "steps": 7, "guidance": 5.0, "cache": "deepcache:3"},
    "sd.deep.branch": {
        "model": "tiny-sd", "sampler": "dpmpp-2m", "steps": 8, "guidance": 5.0, "cache": "deepcache:2:1"},
    "sd.deep.plain": {"model": "tiny-sd", "sampler": "ddim", "steps": 6, "guidance": 1.0, "cache": "deepcache:4"},
    "sd.gate": {"model": "tiny-sd", "sampler": "ddim", "steps": 8, "guidance": 5.0, "cache": "tgate:3"},
    "sd.merged": {"model": "tiny-sd", "sampler": "ddim", "steps": 5, "guidance": 5.0, "cache": "tome:0.5"},
    "sd.merged.more": {"model": "tiny-sd", "sampler": "ddim", "steps": 5, "guidance": 1.0, "cache": "tome:0.7"},
    "xl.deep": {"model": "tiny-xl", "sampler": "euler", "steps": 6, "guidance": 4.0, "cache": "deepcache:2"},
    "xl.gate": {"model": "tiny-xl", "sampler": "euler", "steps": 6, "guidance": 4.0, "cache": "tgate:2"},
    "xl.merged": {"model": "tiny-xl", "sampler": "euler", "steps": 5, "guidance": 4.0, "cache": "tome:0.3"},
}
WIDTH, HEIGHT = 24, 16


def run_once(run):
    is_xl = run["model"] == "tiny-xl"
    extra = {"add_watermarker": False} if is_xl else {
        "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = (StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline).from_pretrained(
        FIXTURES / run["model"], torch_dtype=torch.float32, **extra)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = SAMPLERS[run["sampler"]].from_config(pipe.scheduler.config)
    kind, *numbers = (run.get("cache") or "none").split(":")
    call = pipe
    more = {}
    if kind == "deepcache":
        helper = DeepCacheSDHelper(pipe=pipe)
        helper.set_params(cache_interval=int(numbers[0]), cache_branch_id=branch(pipe.unet, numbers))
        helper.enable()
    elif kind == "tgate":
        pipe = (TgateSDXLLoader if is_xl else TgateSDLoader)(pipe)
        call, more = pipe.tgate, {"gate_step": int(numbers[0]), "sp_interval": 1, "fi_interval": 1, "warm_up": 0}
    elif kind == "tome":
        level = [name.startswith("CrossAttn") for name in pipe.unet.config.down_block_types].index(True)
        tomesd.apply_patch(pipe, ratio=float(numbers[0]), max_downsample=2**level, use_rand=False)
    return call(
        prompt=run["prompt"], negative_prompt=run["negativePrompt"], width=WIDTH, height=HEIGHT,
        num_inference_steps=run["steps"], guidance_scale=run["guidance"], output_type="latent",
        generator=torch.Generator().manual_seed(run["seed"]), **more).images.contiguous()


def branch(unet, numbers):
    """DeepCache counts three layers a block whatever there are; skips are counted here one after the other."""
    skip = int(numbers[1]) if len(numbers) > 1 else 0
    layers = unet.config.layers_per_block + 1
    return skip // layers * 3 + skip % layers


def main():
    FOLDER.mkdir(exist_ok=True)
    latents = {}
    for name, run in RUNS.items():
        # Runs with caches are of the same noise as the one without.
        run |= {"prompt": "a face", "negativePrompt": "heart", "seed": 91 if run["model"] == "tiny-sd" else 92,
                "width": WIDTH, "height": HEIGHT}
        latents[name] = run_once(run)
        print(name, tuple(latents[name].shape))
    (FOLDER / "runs.json").write_text(json.dumps(RUNS, indent=2) + "\n")
    save_file(latents, FOLDER / "latents.safetensors")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    main()
