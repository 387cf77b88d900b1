"""Diffusers' state dicts under the keys of the original single-file Stable Diffusion 1.x checkpoints."""

import torch

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}


def unet(state, config):
    """UNet2DConditionModel -> `model.diffusion_model.`"""
    layers, down, up = config["layers_per_block"], config["down_block_types"], config["up_block_types"]
    last = len(down) - 1
    prefixes = {
        "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2", "conv_norm_out": "out.0", "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    index = 1
    for i in range(len(down)):
        for j in range(layers):
            prefixes[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{index}.0"
            prefixes[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{index}.1"
            index += 1
        if i < last:
            prefixes[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{index}.0.op"
            index += 1
    index = 0
    for i, kind in enumerate(up):
        for j in range(layers + 1):
            prefixes[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{index}.0"
            prefixes[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{index}.1"
            index += 1
        place = 2 if kind.startswith("CrossAttn") else 1
        prefixes[f"up_blocks.{i}.upsamplers.0.conv"] = f"output_blocks.{index - 1}.{place}.conv"
    return {"model.diffusion_model." + rename(key, prefixes, RESNET): value for key, value in state.items()}


def vae(state, config):
    """AutoencoderKL -> `first_stage_model.`; the attention's projections become 1x1 convolutions."""
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    prefixes = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for side in ("encoder", "decoder"):
        for old, new in {
            "conv_in": "conv_in", "conv_out": "conv_out", "conv_norm_out": "norm_out",
            "mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2",
            "mid_block.attentions.0": "mid.attn_1",
        }.items():
            prefixes[f"{side}.{old}"] = f"{side}.{new}"
    for i in range(levels):
        for j in range(layers):
            prefixes[f"encoder.down_blocks.{i}.resnets.{j}"] = f"encoder.down.{i}.block.{j}"
        prefixes[f"encoder.down_blocks.{i}.downsamplers.0.conv"] = f"encoder.down.{i}.downsample.conv"
        for j in range(layers + 1):
            prefixes[f"decoder.up_blocks.{i}.resnets.{j}"] = f"decoder.up.{levels - 1 - i}.block.{j}"
        prefixes[f"decoder.up_blocks.{i}.upsamplers.0.conv"] = f"decoder.up.{levels - 1 - i}.upsample.conv"
    names = {
        "conv_shortcut": "nin_shortcut", "group_norm": "norm",
        "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
    }
    result = {}
    for key, value in state.items():
        new = rename(key, prefixes, names)
        if "attn_1" in new and value.dim() == 2:
            value = value[:, :, None, None].contiguous()
        result["first_stage_model." + new] = value
    return result


def text_encoder(state):
    """CLIPTextModel -> `cond_stage_model.transformer.text_model.`, with the buffer that the originals have."""
    result = {}
    for key, value in state.items():
        result["cond_stage_model.transformer.text_model." + key.removeprefix("text_model.")] = value
    positions = next(v for k, v in state.items() if k.endswith("position_embedding.weight")).shape[0]
    result["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(positions)[None]
    return result


def single_file(unet_state, unet_config, vae_state, vae_config, text_state):
    """One checkpoint, with some of the schedule's buffers, as the originals have them."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    buffers = {"betas": betas.float(), "alphas_cumprod": torch.cumprod(1 - betas, 0).float()}
    parts = [unet(unet_state, unet_config), vae(vae_state, vae_config), text_encoder(text_state), buffers]
    return {key: value for part in parts for key, value in part.items()}


def rename(key, prefixes, names):
    """Replaces the longest known prefix, then the name that follows it."""
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        prefix = ".".join(parts[:end])
        if prefix in prefixes:
            rest = ".".join(parts[end:])
            for old, new in names.items():
                if rest == old or rest.startswith(old + "."):
                    rest = new + rest[len(old):]
                    break
            return f"{prefixes[prefix]}.{rest}" if rest else prefixes[prefix]
    raise KeyError(key)
