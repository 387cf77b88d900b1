"""Whole pipelines of diffusers on tiny random networks, from prompt to latents: Stable Diffusion XL, DDPM and DDIM.

    python make_more_pipelines.py

writes Fixtures/tiny-xl and Fixtures/tiny-ddpm: the model's folder, runs.json and latents.safetensors. The tokenizers are
those of Fixtures/tiny-sd, by links; XL's second one pads with another token. Fixtures/weighted-prompts holds what
Fixtures/tiny-sd makes of texts with weights, in chunks of 75 tokens, as A1111's web UI does. Noise is that of torch's CPU generator.
Stored as float16, computed in float32 from the rounded values.
"""

import json
import os
import pathlib
import shutil

import numpy
import torch
from diffusers import (
    AutoencoderKL, DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, EulerDiscreteScheduler,
    StableDiffusionPipeline, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline, UNet2DConditionModel, UNet2DModel,
)
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from make_models import FIXTURES, TOKENIZER, randomize


def finish(folder, runs, latents):
    (folder / "runs.json").write_text(json.dumps(runs, indent=2) + "\n")
    save_file({k: v.contiguous().clone() for k, v in latents.items()}, folder / "latents.safetensors")


def link_tokenizer(folder, padding):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.symlink(os.path.relpath(TOKENIZER / "tokenizer.json", folder), folder / "tokenizer.json")
    config = json.loads((TOKENIZER / "tokenizer_config.json").read_text()) | {"pad_token": padding}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def tiny_xl():
    torch.manual_seed(1)
    folder = FIXTURES / "tiny-xl"
    text = dict(vocab_size=2388, hidden_size=12, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
                max_position_embeddings=77, bos_token_id=2386, eos_token_id=2387, pad_token_id=2387)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), cross_attention_dim=24,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    vae = AutoencoderKL(
        block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=4, sample_size=16, scaling_factor=0.13025,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
    text1 = CLIPTextModel(CLIPTextConfig(**text))
    text2 = CLIPTextModelWithProjection(CLIPTextConfig(**text | {"hidden_act": "gelu", "projection_dim": 24}))
    models = [randomize(m).half() for m in (unet, vae, text1, text2)]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tokenizers = [CLIPTokenizer.from_pretrained(TOKENIZER, pad_token=pad) for pad in ("<|endoftext|>", "!")]
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading")
    pipe = StableDiffusionXLPipeline(
        vae, text1, text2, *tokenizers, unet, scheduler, force_zeros_for_empty_prompt=True, add_watermarker=False)
    pipe.save_pretrained(folder)
    # In the place of the copies that were written.
    link_tokenizer(folder / "tokenizer", "<|endoftext|>")
    link_tokenizer(folder / "tokenizer_2", "!")
    for m in models:
        m.float()

    pixels = numpy.random.default_rng(2).integers(0, 256, (16, 16, 3), dtype=numpy.uint8)
    image = Image.fromarray(pixels)
    image.save(folder / "image.png")
    runs = {
        "text": {"prompt": "a grinning face with big eyes", "steps": 8, "guidance": 5.0, "seed": 3},
        "negative": {"prompt": "a red heart", "negativePrompt": "blurry face", "steps": 5, "guidance": 7.0, "seed": 4},
        "unguided": {"prompt": "cat", "steps": 4, "guidance": 1.0, "seed": 5},
        "wide": {"prompt": "cat", "steps": 4, "guidance": 3.0, "seed": 6, "width": 24, "height": 16},
        "image": {"prompt": "a cat", "steps": 10, "guidance": 4.0, "seed": 7, "strength": 0.6},
    }
    latents = {}
    for name, run in runs.items():
        pipeline = StableDiffusionXLImg2ImgPipeline if name == "image" else StableDiffusionXLPipeline
        pipe2 = pipeline(**{k: v for k, v in pipe.components.items()}, force_zeros_for_empty_prompt=True,
                         add_watermarker=False)
        pipe2.set_progress_bar_config(disable=True)
        extra = {"image": image, "strength": run["strength"]} if name == "image" else {
            key: run[key] for key in ("width", "height") if key in run}
        latents[name] = pipe2(
            prompt=run["prompt"], negative_prompt=run.get("negativePrompt"), num_inference_steps=run["steps"],
            guidance_scale=run["guidance"], output_type="latent",
            generator=torch.Generator().manual_seed(run["seed"]), **extra).images
    finish(folder, runs, latents)
    xl_components(folder / "components", unet, vae, text1, text2)


def xl_components(folder, unet, vae, text1, text2):
    """Inputs and outputs of single components by the names of their forward signatures."""
    folder.mkdir()
    ids = torch.randint(0, 2386, (2, 9))
    ids[:, 0], ids[:, -1] = 2386, 2387
    sample, picture = torch.randn(2, 4, 8, 8), torch.randn(1, 3, 16, 16)
    posterior = vae.encode(picture).latent_dist
    states = text2(ids, output_hidden_states=True)
    added = {"text_embeds": torch.randn(2, 24), "time_ids": torch.tensor([[16, 16, 0, 0, 16, 16], [32, 16, 4, 2, 8, 8]])}
    context = torch.randn(2, 5, 24)
    calls = {
        "unet": ({"sample": sample, "timestep": torch.tensor([17, 930]), "encoder_hidden_states": context, **added}, {
            "sample": unet(sample, torch.tensor([17, 930]), context, added_cond_kwargs=added).sample}),
        "text_encoder": ({"input_ids": ids}, {
            "last_hidden_state": text1(ids).last_hidden_state, "pooler_output": text1(ids).pooler_output}),
        "text_encoder_2": ({"input_ids": ids}, {
            "text_embeds": states.text_embeds, "last_hidden_state": states.last_hidden_state,
            "hidden_states.-2": states.hidden_states[-2]}),
        "vae.encode": ({"x": picture}, {"mean": posterior.mean, "logvar": posterior.logvar}),
        "vae.decode": ({"z": sample}, {"sample": vae.decode(sample).sample}),
    }
    for name, tensors in calls.items():
        for kind, values in zip(("inputs", "outputs"), tensors):
            save_file({k: v.contiguous().clone() for k, v in values.items()}, folder / f"{name}.{kind}.safetensors")


def tiny_ddpm():
    torch.manual_seed(2)
    folder = FIXTURES / "tiny-ddpm"
    shutil.rmtree(folder, ignore_errors=True)
    unet = randomize(UNet2DModel(
        sample_size=16, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, norm_eps=1e-6,
        attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D")))
    unet.half()
    scheduler = DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear", clip_sample=True)
    DDPMPipeline(unet, scheduler).save_pretrained(folder)
    unet.float()
    runs = {"ddpm": {"steps": 20, "seed": 8, "eta": 0.0}, "ddim": {"steps": 10, "seed": 9, "eta": 0.4}}
    latents = {}
    for name, run in runs.items():
        pipe = DDPMPipeline(unet, scheduler) if name == "ddpm" else DDIMPipeline(
            unet, DDIMScheduler.from_config(scheduler.config))
        pipe.set_progress_bar_config(disable=True)
        # The pipelines return pictures; the sample is what the last step returned.
        step, last = pipe.scheduler.step, {}

        def record(*arguments, **options):
            result = step(*arguments, **options)
            last["sample"] = result.prev_sample
            return result

        pipe.scheduler.step = record
        extra = {"eta": run["eta"]} if name == "ddim" else {}
        pipe(num_inference_steps=run["steps"], generator=torch.Generator().manual_seed(run["seed"]),
             output_type="np", **extra)
        latents[name] = last["sample"]
    finish(folder, runs, latents)


# Runs of text and their weights, as the prompt's syntax means them.
WEIGHTED = {
    "weights": ("a (grinning:1.4) [face] with ((big)) eyes \\(yes\\)",
                [("a ", 1), ("grinning", 1.4), (" ", 1), ("face", 1 / 1.1), (" with ", 1), ("big", 1.1 * 1.1),
                 (" eyes (yes)", 1)]),
    "long": ("(red:0.7) " + "cat heart face " * 40, [("red", 0.7), (" " + "cat heart face " * 40, 1)]),
}


def weighted_prompts():
    folder = FIXTURES / "weighted-prompts"
    folder.mkdir(exist_ok=True)
    pipe = StableDiffusionPipeline.from_pretrained(
        FIXTURES / "tiny-sd", torch_dtype=torch.float32, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    start, end = pipe.tokenizer.bos_token_id, pipe.tokenizer.eos_token_id

    def embed(runs, chunks):
        pairs = [(i, w) for text, w in runs for i in pipe.tokenizer(text, add_special_tokens=False).input_ids]
        states = []
        for k in range(chunks):
            chunk = pairs[75 * k:75 * (k + 1)] + [(end, 1)] * max(0, 75 - max(0, len(pairs) - 75 * k))
            ids = torch.tensor([[start] + [i for i, _ in chunk] + [end]])
            weights = torch.tensor([1] + [w for _, w in chunk] + [1])
            state = pipe.text_encoder(ids).last_hidden_state
            scaled = state * weights[None, :, None]
            states.append(scaled * (state.mean() / scaled.mean()))
        return torch.cat(states, 1), -(-len(pairs) // 75)

    runs, latents = {}, {}
    for seed, (name, (prompt, parts)) in enumerate(WEIGHTED.items()):
        _, chunks = embed(parts, 1)
        run = {"prompt": prompt, "negativePrompt": "blurry", "steps": 5, "guidance": 4.0, "seed": seed, "eta": 0.0}
        latents[name] = pipe(
            prompt_embeds=embed(parts, chunks)[0], negative_prompt_embeds=embed([("blurry", 1)], chunks)[0],
            num_inference_steps=run["steps"], guidance_scale=run["guidance"], output_type="latent",
            generator=torch.Generator().manual_seed(seed)).images
        runs[name] = run
    assert chunks > 1
    finish(folder, runs, latents)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    tiny_xl()
    tiny_ddpm()
    weighted_prompts()
