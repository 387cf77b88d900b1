"""Golden fixtures of the models: tiny random networks of diffusers and transformers, and what they compute.

    python make_models.py [CASE ...]

writes Fixtures/CASE/{config.json, weights.safetensors, io.safetensors} beside this file, and Fixtures/tiny-sd: a
whole Stable Diffusion folder, the same weights as a single file, and a guided DDIM trajectory. Layouts are
PyTorch's ([N, C, H, W]). Every parameter is random, norms and biases too, so that one which is dropped shows.
"""

import json
import pathlib
import shutil
import sys

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import (
    CrossAttnDownBlock2D, CrossAttnUpBlock2D, DownBlock2D, UNetMidBlock2DCrossAttn, UpBlock2D,
)
from diffusers.models.upsampling import Upsample2D
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import ldm_layout

FIXTURES = pathlib.Path(__file__).parent / "Fixtures"
# An input: the BPE vocabulary of 2388 tokens that was trained for the default model. It is kept as it is.
TOKENIZER = FIXTURES / "tiny-sd" / "tokenizer"
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def randomize(module, scale=1.0):
    """Norms around 1, biases around 0, products that keep the variance of what they are given."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn_like(parameter)
            if name.endswith("bias"):
                parameter.copy_(0.2 * noise)
            elif parameter.dim() == 1:
                parameter.copy_(1 + 0.3 * noise)
            elif "embedding" in name and "linear" not in name:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(scale * noise / parameter[0].numel() ** 0.5)
    return module.eval()


def write(name, config, state, io):
    folder = FIXTURES / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({k: v.contiguous().clone() for k, v in sorted(state.items())}, folder / "weights.safetensors")
    save_file({k: v.contiguous().clone() for k, v in sorted(io.items())}, folder / "io.safetensors")


def model_config(model):
    return {k: v for k, v in dict(model.config).items() if not k.startswith("_") or k == "_class_name"} | {
        "_class_name": type(model).__name__}


# Blocks of the UNet

def resnet_case(name, inputs, outputs):
    block = randomize(ResnetBlock2D(in_channels=inputs, out_channels=outputs, temb_channels=48, groups=4, eps=1e-5))
    x, temb = torch.randn(2, inputs, 6, 10), torch.randn(2, 48)
    config = {"in_channels": inputs, "out_channels": outputs, "temb_channels": 48, "groups": 4, "eps": 1e-5}
    write(name, config, block.state_dict(), {"sample": x, "temb": temb, "output": block(x, temb)})


@case
def resnet():
    resnet_case("resnet", 16, 16)


@case
def resnet_shortcut():
    resnet_case("resnet_shortcut", 16, 24)


def transformer_case(name, linear, depth, only_cross):
    block = randomize(Transformer2DModel(
        num_attention_heads=4, attention_head_dim=6, in_channels=24, num_layers=depth, cross_attention_dim=20,
        norm_num_groups=8, use_linear_projection=linear, only_cross_attention=only_cross))
    x, context = torch.randn(2, 24, 6, 5), torch.randn(2, 7, 20)
    config = {"channels": 24, "heads": 4, "depth": depth, "cross_attention_dim": 20, "groups": 8,
              "only_cross_attention": only_cross}
    write(name, config, block.state_dict(), {
        "sample": x, "context": context, "output": block(x, encoder_hidden_states=context).sample})


@case
def transformer_conv():
    transformer_case("transformer_conv", False, 1, False)


@case
def transformer_linear():
    transformer_case("transformer_linear", True, 2, False)


@case
def transformer_only_cross():
    transformer_case("transformer_only_cross", False, 1, True)


SIDES = dict(in_channels=8, out_channels=16, temb_channels=48, resnet_eps=1e-5, resnet_groups=4)
ATTENDS = dict(num_attention_heads=4, cross_attention_dim=24)


def block_config(layers, attends, **more):
    config = {"in_channels": 8, "out_channels": 16, "temb_channels": 48, "groups": 4, "eps": 1e-5, "layers": layers}
    return config | ({"heads": 4, "cross_attention_dim": 24} if attends else {}) | more


def down_case(name, block, config, attends):
    randomize(block)
    x, temb, context = torch.randn(2, 8, 8, 6), torch.randn(2, 48), torch.randn(2, 7, 24)
    arguments = {"encoder_hidden_states": context} if attends else {}
    output, skips = block(x, temb, **arguments)
    io = {"sample": x, "temb": temb, "context": context, "output": output}
    write(name, config, block.state_dict(), io | {f"skip.{i}": skip for i, skip in enumerate(skips)})


@case
def down():
    down_case("down", DownBlock2D(num_layers=2, downsample_padding=1, **SIDES),
              block_config(2, False, downsample_padding=1), False)


@case
def cross_attn_down():
    down_case("cross_attn_down", CrossAttnDownBlock2D(num_layers=2, downsample_padding=0, **SIDES, **ATTENDS),
              block_config(2, True, downsample_padding=0), True)


def up_case(name, block, config, attends):
    randomize(block)
    # From below 24 channels; the way down left 8 (its input) and then 16 for each layer.
    skips = tuple(torch.randn(2, c, 4, 6) for c in (8, 16))
    x, temb, context = torch.randn(2, 24, 4, 6), torch.randn(2, 48), torch.randn(2, 7, 24)
    arguments = {"encoder_hidden_states": context} if attends else {}
    output = block(x, skips, temb, **arguments)
    io = {"sample": x, "temb": temb, "context": context, "output": output}
    write(name, config, block.state_dict(), io | {f"skip.{i}": skip for i, skip in enumerate(skips)})


@case
def up():
    up_case("up", UpBlock2D(num_layers=2, prev_output_channel=24, **SIDES),
            block_config(2, False, prev_output_channel=24), False)


@case
def cross_attn_up():
    up_case("cross_attn_up", CrossAttnUpBlock2D(num_layers=2, prev_output_channel=24, **SIDES, **ATTENDS),
            block_config(2, True, prev_output_channel=24), True)


@case
def mid_cross_attn():
    block = randomize(UNetMidBlock2DCrossAttn(
        in_channels=16, temb_channels=48, resnet_eps=1e-5, resnet_groups=4, **ATTENDS))
    x, temb, context = torch.randn(2, 16, 4, 6), torch.randn(2, 48), torch.randn(2, 7, 24)
    write("mid_cross_attn", block_config(1, True, in_channels=16), block.state_dict(), {
        "sample": x, "temb": temb, "context": context,
        "output": block(x, temb, encoder_hidden_states=context)})


def resize_case(name, block, config):
    randomize(block)
    x = torch.randn(2, 16, 8, 6)
    write(name, config, block.state_dict(), {"sample": x, "output": block(x)})


@case
def downsample():
    resize_case("downsample", Downsample2D(16, use_conv=True, padding=1, name="op"), {"channels": 16, "padding": 1})


@case
def downsample_asymmetric():
    resize_case("downsample_asymmetric", Downsample2D(16, use_conv=True, padding=0, name="op"),
                {"channels": 16, "padding": 0})


@case
def upsample():
    resize_case("upsample", Upsample2D(16, use_conv=True), {"channels": 16})


# Whole networks

def unet_case(name, tokens, **config):
    model = randomize(UNet2DConditionModel(**config))
    x, t = torch.randn(2, config["in_channels"], 8, 12), torch.tensor([981.0, 17.5])
    context = torch.randn(2, tokens, config["cross_attention_dim"])
    write(name, model_config(model), model.state_dict(), {
        "sample": x, "timesteps": t, "context": context, "output": model(x, t, context).sample})


@case
def unet_sd1():
    unet_case("unet_sd1", 7, sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16, 24),
              layers_per_block=1, attention_head_dim=4, cross_attention_dim=24, norm_num_groups=4,
              down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
              up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"))


@case
def unet_sd2():
    unet_case("unet_sd2", 9, sample_size=8, in_channels=5, out_channels=3, block_out_channels=(8, 16),
              layers_per_block=(2, 1), attention_head_dim=(2, 4), cross_attention_dim=40, norm_num_groups=4,
              use_linear_projection=True, transformer_layers_per_block=(1, 2), norm_eps=1e-4,
              flip_sin_to_cos=False, freq_shift=1, downsample_padding=0, only_cross_attention=(False, True),
              down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
              up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), conv_in_kernel=5, conv_out_kernel=1)


@case
def vae():
    model = randomize(AutoencoderKL(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=3, scaling_factor=0.25,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16))
    picture, latent = torch.randn(2, 3, 16, 12), torch.randn(2, 3, 6, 4)
    posterior = model.encode(picture).latent_dist
    write("vae", model_config(model), model.state_dict(), {
        "picture": picture, "mean": posterior.mean, "logvar": posterior.logvar,
        "latent": latent, "decoded": model.decode(latent).sample})


@case
def vae_plain():
    """Without the quantisation's convolutions and without attention."""
    model = randomize(AutoencoderKL(
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, shift_factor=0.1, use_quant_conv=False,
        use_post_quant_conv=False, mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2))
    picture, latent = torch.randn(1, 3, 8, 8), torch.randn(1, 4, 4, 4)
    posterior = model.encode(picture).latent_dist
    write("vae_plain", model_config(model), model.state_dict(), {
        "picture": picture, "mean": posterior.mean, "logvar": posterior.logvar,
        "latent": latent, "decoded": model.decode(latent).sample})


def text_case(name, prefix, ids, **config):
    config = CLIPTextConfig(vocab_size=99, max_position_embeddings=12, bos_token_id=97, pad_token_id=0, **config)
    model = randomize(CLIPTextModel(config))
    out = model(torch.tensor(ids), output_hidden_states=True)
    penultimate = model.final_layer_norm(out.hidden_states[-2])
    state = {prefix + k.removeprefix("text_model."): v for k, v in model.state_dict().items()}
    if prefix:  # old files store this buffer
        state[prefix + "embeddings.position_ids"] = torch.arange(12)[None]
    write(name, config.to_dict(), state, {
        "ids": torch.tensor(ids, dtype=torch.int32), "last_hidden_state": out.last_hidden_state,
        "penultimate": penultimate, "pooled": out.pooler_output})


@case
def text_quick_gelu():
    ids = [[97, 4, 55, 8, 98, 0, 0, 0, 0], [97, 98, 98, 98, 98, 98, 98, 98, 98]]
    text_case("text_quick_gelu", "", ids, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
              num_attention_heads=4, hidden_act="quick_gelu", eos_token_id=98)


@case
def text_gelu():
    ids = [[97, 4, 98, 8, 3, 0], [97, 1, 2, 3, 4, 98]]
    text_case("text_gelu", "text_model.", ids, hidden_size=24, intermediate_size=56, num_hidden_layers=3,
              num_attention_heads=3, hidden_act="gelu", eos_token_id=2)


# A whole pipeline

@case
def tiny_sd():
    """Widths are multiples of 32 and heads as in Stable Diffusion 1.x, which single files leave to convention."""
    unet = randomize(UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 32), layers_per_block=1, attention_head_dim=8, cross_attention_dim=64,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")))
    vae = randomize(AutoencoderKL(
        block_out_channels=(32, 32), layers_per_block=1, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2))
    text = randomize(CLIPTextModel(CLIPTextConfig(
        vocab_size=2388, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=1,
        max_position_embeddings=77, bos_token_id=2386, eos_token_id=2387, pad_token_id=2387)))
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                              set_alpha_to_one=False, steps_offset=1)
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=77)
    # Stored as float16, computed in float32 from the rounded values.
    models = [m.half() for m in (unet, vae, text)]
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False)
    folder = FIXTURES / "tiny-sd"
    for part in ("unet", "vae", "text_encoder", "scheduler"):
        shutil.rmtree(folder / part, ignore_errors=True)
    pipe.save_pretrained(folder)
    save_file({k: v.contiguous().clone() for k, v in ldm_layout.single_file(
        unet.state_dict(), dict(unet.config), vae.state_dict(), dict(vae.config), text.state_dict()).items()},
        FIXTURES / "tiny-sd.safetensors")
    for m in models:
        m.float()

    run = {"prompt": "a grinning face with big eyes", "negative_prompt": "red heart, blurry", "steps": 10,
           "guidance": 7.5, "seed": 20}
    pipe.set_progress_bar_config(disable=True)
    initial = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(run["seed"]))
    arguments = dict(prompt=run["prompt"], negative_prompt=run["negative_prompt"], latents=initial.clone(),
                     num_inference_steps=run["steps"], guidance_scale=run["guidance"])
    latents = pipe(output_type="latent", **arguments).images
    positive, negative = pipe.encode_prompt(
        run["prompt"], "cpu", 1, True, negative_prompt=run["negative_prompt"])
    ids = {key: pipe.tokenizer(run[key], padding="max_length", max_length=77, truncation=True).input_ids
           for key in ("prompt", "negative_prompt")}
    (folder / "trajectory.json").write_text(json.dumps(run, indent=2) + "\n")
    save_file({
        "initial_latents": initial, "expected_latents": latents.contiguous(),
        "prompt_embeds": positive.contiguous(), "negative_prompt_embeds": negative.contiguous(),
        "prompt_ids": torch.tensor([ids["prompt"]], dtype=torch.int32),
        "negative_prompt_ids": torch.tensor([ids["negative_prompt"]], dtype=torch.int32),
        "expected_picture": vae.decode(latents / vae.config.scaling_factor).sample.contiguous(),
    }, folder / "io.safetensors")


def main():
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    for index, (name, function) in enumerate(CASES.items()):
        torch.manual_seed(1000 + index)
        if not sys.argv[1:] or name in sys.argv[1:]:
            function()


if __name__ == "__main__":
    main()
