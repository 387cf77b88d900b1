"""Golden fixtures of the UNets beyond Stable Diffusion 1.x and 2.x: tiny random blocks and networks of diffusers.

    python make_unets.py [CASE ...]

As make_models.py, whose helpers these are.
"""

import sys

import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import (
    AttnDownBlock2D, AttnUpBlock2D, ResnetDownsampleBlock2D, ResnetUpsampleBlock2D, SimpleCrossAttnDownBlock2D,
    SimpleCrossAttnUpBlock2D, UNetMidBlock2D, UNetMidBlock2DSimpleCrossAttn,
)

from make_models import model_config, randomize, write

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


# Blocks

def resnet_case(name, **more):
    block = randomize(ResnetBlock2D(in_channels=16, out_channels=24, temb_channels=48, groups=4, eps=1e-5, **more))
    x, temb = torch.randn(2, 16, 6, 10), torch.randn(2, 48)
    config = {"in_channels": 16, "out_channels": 24, "temb_channels": 48, "groups": 4, "eps": 1e-5} | more
    write(name, config, block.state_dict(), {"sample": x, "temb": temb, "output": block(x, temb)})


@case
def resnet_scale_shift():
    resnet_case("resnet_scale_shift", time_embedding_norm="scale_shift")


@case
def resnet_halve():
    resnet_case("resnet_halve", down=True)


@case
def resnet_double():
    resnet_case("resnet_double", time_embedding_norm="scale_shift", up=True)


SIDES = dict(in_channels=8, out_channels=16, temb_channels=48, resnet_eps=1e-5, resnet_groups=4)
CROSS = dict(attention_head_dim=8, cross_attention_dim=32, resnet_time_scale_shift="scale_shift")


def block_config(kind, resize, **more):
    return {"kind": kind, "resize": resize, "in_channels": 8, "out_channels": 16, "temb_channels": 48, "groups": 4,
            "eps": 1e-5, "layers": 2, "cross_attention_dim": 32} | more


def run_block(name, config, block, x, skips, attends):
    """Skips are given on the way up, and come out on the way down."""
    randomize(block)
    temb, context = torch.randn(2, 48), torch.randn(2, 7, 32)
    arguments = {"encoder_hidden_states": context} if attends else {}
    io = {"sample": x, "temb": temb, "context": context}
    if skips:
        output = block(x, skips, temb, **arguments)
    else:
        output = block(x, temb=temb, **arguments)
        output, skips = output if isinstance(output, tuple) else (output, ())
    write(name, config, block.state_dict(), io | {"output": output} | {f"skip.{i}": s for i, s in enumerate(skips)})


def down_case(name, config, block, attends=False):
    run_block(name, config, block, torch.randn(2, 8, 8, 6), (), attends)


def up_case(name, config, block, attends=False):
    skips = tuple(torch.randn(2, c, 4, 6) for c in (8, 16))
    run_block(name, config | {"prev_output_channel": 24}, block, torch.randn(2, 24, 4, 6), skips, attends)


@case
def attn_down():
    down_case("attn_down", block_config("attention", "conv", heads=4, downsample_padding=0), AttnDownBlock2D(
        num_layers=2, attention_head_dim=4, downsample_padding=0, **SIDES))


@case
def attn_down_resnet():
    down_case("attn_down_resnet", block_config("attention", "resnet", heads=1), AttnDownBlock2D(
        num_layers=2, attention_head_dim=16, downsample_type="resnet", **SIDES))


@case
def attn_up():
    up_case("attn_up", block_config("attention", "conv", heads=2), AttnUpBlock2D(
        num_layers=2, attention_head_dim=8, prev_output_channel=24, **SIDES))


@case
def attn_up_resnet():
    up_case("attn_up_resnet", block_config("attention", "resnet", heads=1), AttnUpBlock2D(
        num_layers=2, attention_head_dim=16, upsample_type="resnet", prev_output_channel=24, **SIDES))


@case
def resnet_down():
    down_case("resnet_down", block_config("none", "resnet", scale_shift=True), ResnetDownsampleBlock2D(
        num_layers=2, resnet_time_scale_shift="scale_shift", **SIDES))


@case
def resnet_up():
    up_case("resnet_up", block_config("none", "resnet"), ResnetUpsampleBlock2D(
        num_layers=2, prev_output_channel=24, **SIDES))


@case
def simple_cross_down():
    down_case("simple_cross_down", block_config("simple", "resnet", heads=2, scale_shift=True),
              SimpleCrossAttnDownBlock2D(num_layers=2, **CROSS, **SIDES), True)


@case
def simple_cross_down_only():
    down_case("simple_cross_down_only",
              block_config("simple", "resnet", heads=2, scale_shift=True, only_cross_attention=True,
                           cross_attention_norm="group_norm"),
              SimpleCrossAttnDownBlock2D(num_layers=2, only_cross_attention=True, cross_attention_norm="group_norm",
                                         **CROSS, **SIDES), True)


@case
def simple_cross_up():
    up_case("simple_cross_up", block_config("simple", "resnet", heads=2, scale_shift=True),
            SimpleCrossAttnUpBlock2D(num_layers=2, prev_output_channel=24, **CROSS, **SIDES), True)


def mid_case(name, config, block, attends=False):
    run_block(name, config, block, torch.randn(2, 16, 4, 6), (), attends)


MIDDLE = dict(in_channels=16, temb_channels=48, resnet_eps=1e-5, resnet_groups=4)


@case
def mid_attention():
    mid_case("mid_attention", block_config("attention", None, in_channels=16, layers=1, heads=2), UNetMidBlock2D(
        attention_head_dim=8, **MIDDLE))


@case
def mid_attention_unnormalised():
    mid_case("mid_attention_unnormalised",
             block_config("attention", None, in_channels=16, layers=1, heads=1, scale_shift=True, normalised=False),
             UNetMidBlock2D(attention_head_dim=16, resnet_time_scale_shift="scale_shift", **MIDDLE))


@case
def mid_plain():
    mid_case("mid_plain", block_config("none", None, in_channels=16, layers=1), UNetMidBlock2D(
        add_attention=False, **MIDDLE))


@case
def mid_simple_cross():
    """The norm over the context, as wide as the block."""
    block = UNetMidBlock2DSimpleCrossAttn(
        attention_head_dim=4, cross_attention_dim=16, cross_attention_norm="layer_norm", **MIDDLE)
    randomize(block)
    x, temb, context = torch.randn(2, 16, 4, 6), torch.randn(2, 48), torch.randn(2, 7, 16)
    config = block_config("simple", None, in_channels=16, layers=1, heads=4, cross_attention_dim=16,
                          cross_attention_norm="layer_norm")
    write("mid_simple_cross", config, block.state_dict(), {
        "sample": x, "temb": temb, "context": context, "output": block(x, temb, encoder_hidden_states=context)})


# Unconditional networks

def unet_case(name, labels=None, size=(8, 12), **config):
    model = randomize(UNet2DModel(**config))
    x, t = torch.randn(2, config["in_channels"], *size), torch.tensor([981.0, 17.0])
    output = model(x, t, class_labels=labels).sample
    io = {"sample": x, "timesteps": t, "output": output}
    write(name, model_config(model), model.state_dict(), io | ({} if labels is None else {"class_labels": labels.float()}))


@case
def unet2d_cifar10():
    """google/ddpm-cifar10-32, narrower."""
    unet_case("unet2d_cifar10", sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16, 16),
              layers_per_block=1, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6,
              norm_num_groups=4, attention_head_dim=None,
              down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
              up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"))


@case
def unet2d_super_resolution():
    """Karlo's, narrower."""
    unet_case("unet2d_super_resolution", sample_size=8, in_channels=6, out_channels=3, block_out_channels=(8, 8, 16),
              layers_per_block=1, norm_num_groups=4, add_attention=False, resnet_time_scale_shift="scale_shift",
              down_block_types=("ResnetDownsampleBlock2D",) * 3, up_block_types=("ResnetUpsampleBlock2D",) * 3)


@case
def unet2d_class_table():
    unet_case("unet2d_class_table", torch.tensor([3, 0]), in_channels=3, out_channels=6, block_out_channels=(8, 16),
              layers_per_block=2, norm_num_groups=4, attention_head_dim=4, num_class_embeds=5,
              attn_norm_num_groups=8, resnet_time_scale_shift="scale_shift", downsample_type="resnet",
              upsample_type="resnet", down_block_types=("AttnDownBlock2D", "DownBlock2D"),
              up_block_types=("UpBlock2D", "AttnUpBlock2D"))


@case
def unet2d_class_timestep():
    unet_case("unet2d_class_timestep", torch.tensor([250.0, 3.0]), in_channels=3, out_channels=3,
              block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, class_embed_type="timestep",
              time_embedding_dim=20, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)


@case
def unet2d_class_identity():
    unet_case("unet2d_class_identity", torch.randn(2, 32), in_channels=3, out_channels=3,
              block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, class_embed_type="identity",
              mid_block_type=None, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)


# Conditional networks

def condition_case(name, context_width=None, labels=None, text=None, ids=None, condition=None, mask=None, **config):
    config = dict(sample_size=8, layers_per_block=1, norm_num_groups=4, cross_attention_dim=24) | config
    model = randomize(UNet2DConditionModel(**config))
    x, t = torch.randn(2, config.get("in_channels", 4), 8, 12), torch.tensor([981.0, 17.5])
    context = torch.randn(2, 7, context_width or config["cross_attention_dim"])
    arguments, io = {}, {"sample": x, "timesteps": t, "context": context}
    if labels is not None:
        arguments["class_labels"] = labels
        io["class_labels"] = labels.float()
    if text is not None:
        arguments["added_cond_kwargs"] = {"text_embeds": text, "time_ids": ids}
        io |= {"text_embeds": text, "time_ids": ids}
    if condition is not None:
        arguments["timestep_cond"] = condition
        io["timestep_cond"] = condition
    if mask is not None:
        # As the reference's unCLIP pipeline passes it.
        arguments["attention_mask"] = mask
        io["attention_mask"] = mask.float()
    write(name, model_config(model), model.state_dict(), io | {"output": model(x, t, context, **arguments).sample})


PLAIN = dict(block_out_channels=(8, 8), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
             attention_head_dim=4)


@case
def unet_sdxl():
    condition_case("unet_sdxl", block_out_channels=(8, 8, 16), attention_head_dim=(1, 2, 4),
                   transformer_layers_per_block=(1, 1, 2), use_linear_projection=True,
                   addition_embed_type="text_time", addition_time_embed_dim=8,
                   projection_class_embeddings_input_dim=20 + 6 * 8, text=torch.randn(2, 20),
                   ids=torch.tensor([[1024.0, 768, 0, 64, 1024, 1024], [512, 512, 0, 0, 1024, 1024]]),
                   down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                   up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"))


@case
def unet_asymmetric():
    """Other depths on the way up, a depth of zero, a mid block without attention (SSD-1B)."""
    condition_case("unet_asymmetric", block_out_channels=(8, 16), attention_head_dim=2, use_linear_projection=True,
                   transformer_layers_per_block=[[1, 2], [0, 1]], reverse_transformer_layers_per_block=[[1, 0, 1], 1],
                   layers_per_block=2, mid_block_type="UNetMidBlock2D", cross_attention_dim=12,
                   down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2)


@case
def unet_inpainting():
    condition_case("unet_inpainting", in_channels=9, block_out_channels=(8, 16), attention_head_dim=4,
                   down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                   up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))


@case
def unet_class_table():
    condition_case("unet_class_table", labels=torch.tensor([6, 2]), num_class_embeds=7, **PLAIN)


@case
def unet_class_timestep():
    condition_case("unet_class_timestep", labels=torch.tensor([20.0, 350.0]), class_embed_type="timestep", **PLAIN)


@case
def unet_class_identity():
    condition_case("unet_class_identity", labels=torch.randn(2, 32), class_embed_type="identity", **PLAIN)


@case
def unet_class_projection():
    """stable-unclip's."""
    condition_case("unet_class_projection", labels=torch.randn(2, 20), class_embed_type="projection",
                   projection_class_embeddings_input_dim=20, **PLAIN)


@case
def unet_class_simple_projection():
    condition_case("unet_class_simple_projection", labels=torch.randn(2, 20), class_embed_type="simple_projection",
                   projection_class_embeddings_input_dim=20, **PLAIN)


@case
def unet_guided():
    """A timestep condition (LCM), a projected context, attention over pixels; no mid block."""
    condition_case("unet_guided", condition=torch.randn(2, 10), time_cond_proj_dim=10, encoder_hid_dim=14,
                   encoder_hid_dim_type="text_proj", context_width=14, block_out_channels=(8, 16),
                   attention_head_dim=4, mid_block_type=None,
                   down_block_types=("AttnDownBlock2D", "CrossAttnDownBlock2D"),
                   up_block_types=("CrossAttnUpBlock2D", "AttnUpBlock2D"))


@case
def unet_karlo():
    """Karlo's decoder, narrower: some tokens of the second text are hidden."""
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    condition_case("unet_karlo", labels=torch.randn(2, 32), mask=mask, in_channels=3, out_channels=6,
                   block_out_channels=(8, 8, 16), attention_head_dim=4, resnet_time_scale_shift="scale_shift",
                   class_embed_type="identity", mid_block_type="UNetMidBlock2DSimpleCrossAttn",
                   down_block_types=("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * 2,
                   up_block_types=("SimpleCrossAttnUpBlock2D",) * 2 + ("ResnetUpsampleBlock2D",))


@case
def unet_only_cross():
    """One flag for every block and the mid block."""
    condition_case("unet_only_cross", in_channels=3, out_channels=3, block_out_channels=(8, 16), attention_head_dim=4,
                   only_cross_attention=True, cross_attention_norm="group_norm", cross_attention_dim=32,
                   mid_block_type="UNetMidBlock2DSimpleCrossAttn",
                   down_block_types=("SimpleCrossAttnDownBlock2D", "ResnetDownsampleBlock2D"),
                   up_block_types=("ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"))


@case
def unet_scale_shift():
    """Classes and times scale the norms; the second block attends."""
    condition_case("unet_scale_shift", labels=torch.randn(2, 20), class_embed_type="projection",
                   projection_class_embeddings_input_dim=20, resnet_time_scale_shift="scale_shift",
                   block_out_channels=(8, 16), attention_head_dim=4, cross_attention_dim=12,
                   down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                   up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))


def main():
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    for index, (name, function) in enumerate(CASES.items()):
        torch.manual_seed(4000 + index)
        if not sys.argv[1:] or name in sys.argv[1:]:
            function()


if __name__ == "__main__":
    main()
