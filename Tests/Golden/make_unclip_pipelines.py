"""Tiny random folders of diffusers' four unCLIP pipelines, and what each makes of a prompt or a picture.

    python make_unclip_pipelines.py

writes Fixtures/tiny-unclip, tiny-unclip-variation, tiny-stable-unclip and tiny-stable-unclip-img2img (parts that two
of them share are links) and Fixtures/unclip-pipelines/{a.png, b.png, settings.json, io.safetensors}. Noise is that of
torch's CPU generator, so the order of the draws is part of what is compared. Layouts are PyTorch's.
"""

import json
import shutil

import numpy
import torch
from diffusers import (
    AutoencoderKL, DDIMScheduler, DDPMScheduler, PriorTransformer, StableUnCLIPImg2ImgPipeline, StableUnCLIPPipeline,
    UnCLIPImageVariationPipeline, UnCLIPPipeline, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel,
)
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessor, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from make_models import FIXTURES, TOKENIZER, randomize
from make_unclip import randomize_prior

WIDTH = 16
SETTINGS = {"prompt": "a grinning face with big eyes", "negativePrompt": "red heart", "priorSteps": 5, "steps": 6,
            "superResolutionSteps": 3, "priorGuidance": 4.0, "guidance": 3.0, "noiseLevel": 200, "frames": 3, "seed": 22}


def text_config():
    return CLIPTextConfig(
        vocab_size=2388, hidden_size=WIDTH, projection_dim=WIDTH, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=77, bos_token_id=2386, eos_token_id=2387, pad_token_id=2387)


def tokenizer():
    return CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=77)


def super_resolution():
    # Outputs of about the noise's size, as a trained network's are.
    return randomize(UNet2DModel(
        sample_size=16, in_channels=6, out_channels=3, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D",) * 2, up_block_types=("ResnetUpsampleBlock2D",) * 2,
        add_attention=False, resnet_time_scale_shift="scale_shift", norm_num_groups=4))


def prior():
    return randomize_prior(PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, num_layers=2, embedding_dim=WIDTH, num_embeddings=77))


def image_encoder():
    return randomize(CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=WIDTH, projection_dim=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=32, patch_size=8)))


def feature_extractor():
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def text_projection():
    model = randomize(UnCLIPTextProjModel(
        clip_extra_context_tokens=4, clip_embeddings_dim=WIDTH, time_embed_dim=32, cross_attention_dim=20))
    model.learned_classifier_free_guidance_embeddings.copy_(torch.randn(WIDTH))
    return model


def decoder():
    return randomize(UNet2DConditionModel(
        sample_size=8, in_channels=3, out_channels=6, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), cross_attention_dim=20,
        attention_head_dim=4, resnet_time_scale_shift="scale_shift", class_embed_type="identity", norm_num_groups=4))


def normalizer():
    model = StableUnCLIPImageNormalizer(embedding_dim=WIDTH)
    model.mean.copy_(0.3 * torch.randn(1, WIDTH))
    model.std.copy_(0.5 + torch.rand(1, WIDTH))
    return model


def stable_unet():
    return randomize(UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, attention_head_dim=(2, 4),
        cross_attention_dim=WIDTH, use_linear_projection=True, class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * WIDTH, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")))


def vae():
    return randomize(AutoencoderKL(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2))


def unclip_scheduler(**config):
    """In float32 beta and 1 - alpha of timestep 0 differ by 5e-4, so that a last step, which is to return the denoised
    sample, would multiply it by as much, and guidance by more."""
    scheduler = UnCLIPScheduler(**config)
    scheduler.betas[0] = 1 - scheduler.alphas_cumprod[0]
    return scheduler


def prior_scheduler():
    return unclip_scheduler(prediction_type="sample", clip_sample_range=5.0, variance_type="fixed_small_log")


def save(pipe, name, links):
    """Stored as float16, computed in float32 from the rounded values."""
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    models = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    for model in models:
        model.half()
    pipe.save_pretrained(folder)
    for model in models:
        model.float()
    for part, target in links.items():
        shutil.rmtree(folder / part)
        (folder / part).symlink_to(f"../{target}")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def slerp(a, b, t):
    """Along the great circle: arXiv:2204.06125, section 3.2."""
    angle = torch.arccos(torch.nn.functional.cosine_similarity(a.double(), b.double()))
    return ((torch.sin((1 - t) * angle) * a.double() + torch.sin(t * angle) * b.double()) / torch.sin(angle)).float()


class Recorder:
    """What goes between the stages."""

    def __init__(self, pipe, io, name):
        def embedding(module, args, kwargs):
            io[f"{name}.embedding"] = kwargs["image_embeddings"]

        def enlarged(module, args, kwargs):
            io.setdefault(f"{name}.enlarged", kwargs["sample"][:, 3:].contiguous())

        def step(*args, **kwargs):
            output = self.step(*args, **kwargs)
            io[f"{name}.small"] = output.prev_sample
            return output

        self.scheduler = pipe.decoder_scheduler
        self.step, self.scheduler.step = self.scheduler.step, step
        self.hooks = [pipe.text_proj.register_forward_pre_hook(embedding, with_kwargs=True),
                      pipe.super_res_first.register_forward_pre_hook(enlarged, with_kwargs=True)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()
        self.scheduler.step = self.step


def pixels(images):
    """To -1...1, [N, C, H, W]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() * 2 - 1


def generator():
    return torch.Generator().manual_seed(SETTINGS["seed"])


def karlo(io, pictures):
    shared = dict(
        decoder=decoder(), text_encoder=randomize(CLIPTextModelWithProjection(text_config())), tokenizer=tokenizer(),
        text_proj=text_projection(), super_res_first=super_resolution(), super_res_last=super_resolution(),
        decoder_scheduler=unclip_scheduler(variance_type="learned_range"), super_res_scheduler=unclip_scheduler())
    pipe = save(UnCLIPPipeline(prior=prior(), prior_scheduler=prior_scheduler(), **shared), "tiny-unclip",
                {"tokenizer": "tiny-sd/tokenizer"})
    steps = dict(decoder_num_inference_steps=SETTINGS["steps"],
                 super_res_num_inference_steps=SETTINGS["superResolutionSteps"],
                 decoder_guidance_scale=SETTINGS["guidance"], output_type="np")
    for name, scale in (("text", SETTINGS["priorGuidance"]), ("text-prior-alone", 1.0)):
        with Recorder(pipe, io, name):
            io[f"{name}.picture"] = pixels(pipe(
                SETTINGS["prompt"], generator=generator(), prior_num_inference_steps=SETTINGS["priorSteps"],
                prior_guidance_scale=scale, **steps).images)
    with Recorder(pipe, io, "text-unguided"):
        io["text-unguided.picture"] = pixels(pipe(
            SETTINGS["prompt"], generator=generator(), prior_num_inference_steps=SETTINGS["priorSteps"],
            prior_guidance_scale=1.0, **(steps | {"decoder_guidance_scale": 1.0})).images)

    variation = save(
        UnCLIPImageVariationPipeline(feature_extractor=feature_extractor(), image_encoder=image_encoder(), **shared),
        "tiny-unclip-variation", {"tokenizer": "tiny-sd/tokenizer"} | {
            part: f"tiny-unclip/{part}" for part in shared if part != "tokenizer"})
    with Recorder(variation, io, "variation"):
        io["variation.picture"] = pixels(variation(pictures[0], generator=generator(), **steps).images)
    a, b = (variation.image_encoder(variation.feature_extractor(p, return_tensors="pt").pixel_values).image_embeds
            for p in pictures)
    for frame in range(SETTINGS["frames"]):
        name = f"interpolation.{frame}"
        embedding = slerp(a, b, frame / (SETTINGS["frames"] - 1))
        with Recorder(variation, io, name):
            io[f"{name}.picture"] = pixels(variation(
                image_embeddings=embedding, generator=generator(), **steps).images)
    return pipe, variation


def stable(io, pictures, karlo_pipe, variation):
    shared = dict(
        image_normalizer=normalizer(),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"), tokenizer=tokenizer(),
        text_encoder=randomize(CLIPTextModel(text_config())), unet=stable_unet(),
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                                set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction"), vae=vae())
    # The noising of embeddings is trained against a scheduler of its own; the prior's is DDPM here, as in the model
    # that was published.
    pipe = save(StableUnCLIPPipeline(
        prior_tokenizer=tokenizer(), prior_text_encoder=karlo_pipe.text_encoder, prior=karlo_pipe.prior,
        prior_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="fixed_small_log",
                                      prediction_type="sample", clip_sample_range=5.0), **shared),
        "tiny-stable-unclip", {
            "tokenizer": "tiny-sd/tokenizer", "prior_tokenizer": "tiny-sd/tokenizer", "prior": "tiny-unclip/prior",
            "prior_text_encoder": "tiny-unclip/text_encoder"})
    arguments = dict(negative_prompt=SETTINGS["negativePrompt"], num_inference_steps=SETTINGS["steps"],
                     guidance_scale=SETTINGS["guidance"], noise_level=SETTINGS["noiseLevel"], output_type="latent")
    io["stable.latents"] = pipe(
        SETTINGS["prompt"], generator=generator(), prior_num_inference_steps=SETTINGS["priorSteps"],
        prior_guidance_scale=SETTINGS["priorGuidance"], **arguments).images
    io["stable.picture"] = pipe.vae.decode(io["stable.latents"] / pipe.vae.config.scaling_factor).sample

    image_pipe = save(StableUnCLIPImg2ImgPipeline(
        feature_extractor=variation.feature_extractor, image_encoder=variation.image_encoder, **shared),
        "tiny-stable-unclip-img2img", {
            "tokenizer": "tiny-sd/tokenizer", "image_encoder": "tiny-unclip-variation/image_encoder",
            "feature_extractor": "tiny-unclip-variation/feature_extractor"} | {
            part: f"tiny-stable-unclip/{part}" for part in shared if part != "tokenizer"})
    for name, prompt in (("stable-image", SETTINGS["prompt"]), ("stable-image-alone", "")):
        io[f"{name}.latents"] = image_pipe(pictures[0], prompt, generator=generator(), **arguments).images
    return pipe


def component(folder, name, inputs, call):
    """What `langevin run` is given and must give; integers are int64, as the reference has them."""
    components = FIXTURES / folder / "components"
    components.mkdir(exist_ok=True)
    for kind, tensors in (("inputs", inputs), ("outputs", call(**inputs))):
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, components / f"{name}.{kind}.safetensors")


def components(pipe, stable_pipe):
    text = dict(encoder_hidden_states=torch.randn(2, 77, WIDTH), attention_mask=torch.zeros(2, 77, dtype=torch.int64))
    text["attention_mask"][0, :9] = 1
    text["attention_mask"][1, :2] = 1
    component(
        "tiny-unclip", "prior",
        text | dict(hidden_states=torch.randn(2, WIDTH), timestep=torch.tensor(541), proj_embedding=torch.randn(2, WIDTH)),
        lambda attention_mask, **rest: dict(pipe.prior(attention_mask=attention_mask.bool(), **rest)))
    component("tiny-unclip", "prior.post_process_latents", {"prior_latents": torch.randn(2, WIDTH)},
              lambda prior_latents: {"prior_latents": pipe.prior.post_process_latents(prior_latents)})

    def project(**inputs):
        context, time = pipe.text_proj(do_classifier_free_guidance=True, **inputs)
        return {"text_encoder_hidden_states": context, "additive_clip_time_embeddings": time}

    component("tiny-unclip", "text_proj", dict(
        image_embeddings=torch.randn(1, WIDTH), prompt_embeds=torch.randn(2, WIDTH),
        text_encoder_hidden_states=torch.randn(2, 5, WIDTH)), project)
    mask = torch.ones(2, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    component("tiny-unclip", "decoder", dict(
        sample=torch.randn(2, 3, 8, 8), timestep=torch.tensor([700, 3]), encoder_hidden_states=torch.randn(2, 7, 20),
        class_labels=torch.randn(2, 32), attention_mask=mask),
        lambda attention_mask, **rest: dict(pipe.decoder(attention_mask=attention_mask.bool(), **rest)))
    for name in ("super_res_first", "super_res_last"):
        component("tiny-unclip", name, dict(sample=torch.randn(1, 6, 16, 16), timestep=torch.tensor(166)),
                  lambda **inputs: dict(getattr(pipe, name)(**inputs)))
    for name in ("scale", "unscale"):
        component("tiny-stable-unclip", f"image_normalizer.{name}", {"embeds": torch.randn(2, WIDTH)},
                  lambda embeds: {"embeds": getattr(stable_pipe.image_normalizer, name)(embeds)})


def main():
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(4100)
    folder = FIXTURES / "unclip-pipelines"
    folder.mkdir(exist_ok=True)
    pictures = []
    for index, (name, size) in enumerate((("a", (30, 40)), ("b", (48, 36)))):
        # Coarse and fine structure, so that resizing has something to do.
        rng = numpy.random.default_rng(index)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=numpy.uint8)).resize(size, Image.BICUBIC)
        noisy = numpy.asarray(coarse, dtype=int) + rng.integers(-30, 31, (size[1], size[0], 3))
        pictures.append(Image.fromarray(noisy.clip(0, 255).astype(numpy.uint8)))
        pictures[-1].save(folder / f"{name}.png")
    io = {}
    pipe, variation = karlo(io, pictures)
    stable_pipe = stable(io, pictures, pipe, variation)
    components(pipe, stable_pipe)
    (folder / "settings.json").write_text(json.dumps(SETTINGS, indent=2) + "\n")
    save_file({k: v.contiguous().clone() for k, v in io.items()}, folder / "io.safetensors")


if __name__ == "__main__":
    main()
