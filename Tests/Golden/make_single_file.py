"""Makes Fixtures/single-file: how diffusers maps single-file Stable Diffusion checkpoints.

    python Tests/Golden/make_single_file.py

For each layout a table, one tensor of the file per line: key, shape, component, diffusers' name or names (three
where query, key and value are fused, `-` where nothing reads it); and diffusers' configurations. The file's keys
are written down here from the original implementation's module tree; diffusers' own conversion then says which
name each becomes, and every parameter of diffusers' models must be reached.

Also writer.safetensors, the bytes that the Swift writer must produce, which Python's safetensors must read.
"""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as single
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

out = Path(__file__).resolve().parent / "Fixtures" / "single-file"


def unet_keys(state, config):
    layers, levels = config["layers_per_block"], len(config["block_out_channels"])
    resnet = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
              "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    fixed = {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
             "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
             "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    for name in state:
        module, kind = name.rsplit(".", 1)
        parts = module.split(".")
        if module in fixed:
            key = fixed[module]
        elif parts[0] == "mid_block":
            place = {"resnets0": 0, "attentions0": 1, "resnets1": 2}[parts[1] + parts[2]]
            rest = [resnet[parts[3]]] if parts[1] == "resnets" else parts[3:]
            key = ".".join([f"middle_block.{place}", *rest])
        else:
            down, level, part, layer, rest = parts[0] == "down_blocks", int(parts[1]), parts[2], int(parts[3]), parts[4:]
            root = "input_blocks" if down else "output_blocks"
            index = 1 + level * (layers + 1) + layer if down else level * (layers + 1) + layer
            if part == "resnets":
                key = f"{root}.{index}.0.{resnet[rest[0]]}"
            elif part == "attentions":
                key = ".".join([f"{root}.{index}.1", *rest])
            elif part == "downsamplers":
                key = f"{root}.{(level + 1) * (layers + 1)}.0.op"
            else:
                place = 2 if config["up_block_types"][level].startswith("CrossAttn") else 1
                key = f"{root}.{level * (layers + 1) + layers}.{place}.conv"
        yield name, f"model.diffusion_model.{key}.{kind}"


def vae_keys(state, config):
    levels = len(config["block_out_channels"])
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
    for name in state:
        module, kind = name.rsplit(".", 1)
        parts = module.split(".")
        if len(parts) == 1:
            key = module
        elif len(parts) == 2:
            key = f"{parts[0]}.{'norm_out' if parts[1] == 'conv_norm_out' else parts[1]}"
        elif parts[1] == "mid_block":
            key = f"{parts[0]}.mid." + (f"block_{int(parts[3]) + 1}.{parts[4]}" if parts[2] == "resnets"
                                        else f"attn_1.{attention[parts[4]]}")
        else:
            level = int(parts[2]) if parts[0] == "encoder" else levels - 1 - int(parts[2])
            side = "down" if parts[0] == "encoder" else "up"
            rest = f"block.{parts[4]}.{parts[5]}" if parts[3] == "resnets" else f"{side}sample.conv"
            key = f"{parts[0]}.{side}.{level}.{rest}".replace("conv_shortcut", "nin_shortcut")
        yield name, f"first_stage_model.{key}.{kind}"


def open_clip_file(width, layers, vocabulary, positions, intermediate, projection=None, root="cond_stage_model.model."):
    """OpenCLIP's text tower; the first column of the fused tensors counts rows, so that slices can be told."""
    file = {root + "positional_embedding": [positions, width], root + "token_embedding.weight": [vocabulary, width],
            root + "ln_final.weight": [width], root + "ln_final.bias": [width],
            root + "text_projection": [width, projection or width], root + "logit_scale": []}
    for i in range(layers):
        block = f"{root}transformer.resblocks.{i}."
        file |= {block + f"{n}.{k}": [width] for n in ("ln_1", "ln_2") for k in ("weight", "bias")}
        file |= {block + "attn.in_proj_weight": [3 * width, width], block + "attn.in_proj_bias": [3 * width],
                 block + "attn.out_proj.weight": [width, width], block + "attn.out_proj.bias": [width],
                 block + "mlp.c_fc.weight": [intermediate, width], block + "mlp.c_fc.bias": [intermediate],
                 block + "mlp.c_proj.weight": [width, intermediate], block + "mlp.c_proj.bias": [width]}
    return file


def origin(tensor):
    return tensor if tensor._base is None else tensor._base


def projected_rows(second):
    """Stable Diffusion XL's second encoder: every layer is run, and the projection is transposed."""
    prefix, c = "conditioner.embedders.1.model.", second.config
    wanted = {k: list(v.shape) for k, v in second.state_dict().items() if not k.endswith("position_ids")}
    file = open_clip_file(c.hidden_size, c.num_hidden_layers, c.vocab_size, c.max_position_embeddings,
                          c.intermediate_size, c.projection_dim, prefix)
    rows = []
    for key, shape in file.items():
        tensor = torch.zeros(shape, dtype=torch.int16)
        if "in_proj" in key:
            tensor += torch.arange(shape[0], dtype=torch.int16).reshape([-1] + [1] * (len(shape) - 1))
        one = {prefix + "text_projection": torch.empty(file[prefix + "text_projection"], device="meta"), key: tensor}
        got = single.convert_open_clip_checkpoint(second, one, prefix=prefix)
        if key != prefix + "text_projection":
            got.pop("text_projection.weight", None)
        for n, t in got.items():
            assert list(t.shape) == wanted[n], (n, t.shape)
        names = sorted(got, key=lambda n: int(got[n].flatten()[0]))
        rows.append((key, shape, "text2" if names else "-", names))
    assert sorted(n for row in rows for n in row[3]) == sorted(wanted)
    return rows


def layout(name, unet, vae, text, open_clip_layers, second=None):
    with torch.device("meta"):
        second = second and CLIPTextModelWithProjection(CLIPTextConfig(**second))
        unet, vae, text = UNet2DConditionModel(**unet), AutoencoderKL(**vae), CLIPTextModel(CLIPTextConfig(**text))
    rows = []
    for part, model, keys, convert in [
        ("unet", unet, unet_keys, single.convert_ldm_unet_checkpoint),
        ("vae", vae, vae_keys, single.convert_ldm_vae_checkpoint),
    ]:
        state, config = model.state_dict(), dict(model.config)
        file = {}
        for parameter, key in keys(state, config):
            tensor = state[parameter]
            conv = part == "vae" and ".attn_1." in key and tensor.dim() == 2
            assert key not in file
            file[key] = torch.empty(list(tensor.shape) + [1, 1] * conv, device="meta")
        converted = convert(dict(file), config)
        assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in state.items()}
        by_tensor = {id(v): k for k, v in file.items()}
        reached = {by_tensor[id(origin(v))]: k for k, v in converted.items()}
        assert set(reached) == set(file)
        rows += [(k, list(v.shape), part, [reached[k]]) for k, v in file.items()]

    wanted = {"text_model." + k.removeprefix("text_model."): list(v.shape) for k, v in text.state_dict().items()
              if not k.endswith("position_ids")}
    if open_clip_layers is None:
        root = "conditioner.embedders.0.transformer." if second else "cond_stage_model.transformer."
        file = {root + k: torch.empty(v, device="meta") for k, v in wanted.items()}
        converted = single.convert_ldm_clip_checkpoint(dict(file))
        assert {k: list(v.shape) for k, v in converted.items()} == wanted
        by_tensor = {id(v): k for k, v in file.items()}
        reached = {by_tensor[id(v)]: k for k, v in converted.items()}
        rows += [(k, list(v.shape), "text", [reached[k]]) for k, v in file.items()]
        rows.append((root + "text_model.embeddings.position_ids", [1, text.config.max_position_embeddings], "-", []))
    else:
        c = text.config
        file = open_clip_file(
            c.hidden_size, open_clip_layers, c.vocab_size, c.max_position_embeddings, c.intermediate_size)
        # Conversion one tensor at a time; the projection's extent is where it cuts.
        projection = "cond_stage_model.model.text_projection"
        reached = {}
        for key, shape in file.items():
            tensor = torch.zeros(shape, dtype=torch.int16)
            if "in_proj" in key:
                tensor += torch.arange(shape[0], dtype=torch.int16).reshape([-1] + [1] * (len(shape) - 1))
            one = {projection: torch.empty(file[projection], device="meta"), key: tensor}
            got = single.convert_open_clip_checkpoint(text, one)
            got.pop("text_projection.weight", None)
            # diffusers names the layer that ViT-H does not run; in a narrower model it is the last as well.
            if f"resblocks.{open_clip_layers - 1}." in key:
                got = {}
            for n, t in got.items():
                assert list(t.shape) == wanted[n], (n, t.shape)
            first = lambda t: int(t.flatten()[0])
            names = sorted(got, key=lambda n: first(got[n]))
            assert len(names) in (0, 1, 3) and all(first(got[n]) == i * c.hidden_size for i, n in enumerate(names))
            reached[key] = names
            rows.append((key, shape, "text" if names else "-", names))
        assert sorted(n for names in reached.values() for n in names) == sorted(wanted)
    if second:
        rows += projected_rows(second)
    for key in ["betas", "alphas_cumprod", "sqrt_one_minus_alphas_cumprod", "model_ema.diffusion_modelout2bias"]:
        rows.append((key, [1000], "-", []))

    (out / f"{name}.tsv").write_text("".join(
        f"{k}\t{','.join(map(str, s))}\t{p}\t{' '.join(n) or '-'}\n" for k, s, p, n in rows))
    configs = {"unet": dict(unet.config), "vae": dict(vae.config), "text": text.config.to_dict()}
    if second:
        configs["text2"] = second.config.to_dict()
    for config in configs.values():
        config.pop("_use_default_values", None)
    (out / f"{name}.json").write_text(json.dumps(configs, indent=1, sort_keys=True) + "\n")
    print(name, len(rows), "tensors")


def unet(widths, attention, layers, context, **more):
    cross = ["CrossAttn" * a for a in attention]
    return dict(block_out_channels=widths, layers_per_block=layers, cross_attention_dim=context,
                down_block_types=[c + "DownBlock2D" for c in cross],
                up_block_types=[c + "UpBlock2D" for c in reversed(cross)], **more)


def vae(widths, layers, sample_size, **more):
    return dict(**more, block_out_channels=widths, layers_per_block=layers, sample_size=sample_size, latent_channels=4,
                down_block_types=["DownEncoderBlock2D"] * len(widths), up_block_types=["UpDecoderBlock2D"] * len(widths))


def text(width, layers, act, vocabulary=49408, intermediate=None, **more):
    return dict(**more, hidden_size=width, num_hidden_layers=layers, num_attention_heads=max(1, width // 64), hidden_act=act,
                intermediate_size=intermediate or 4 * width, vocab_size=vocabulary, max_position_embeddings=77,
                bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1)


out.mkdir(parents=True, exist_ok=True)
full = (320, 640, 1280, 1280)
layout("sd1.5", unet(full, (1, 1, 1, 0), 2, 768, sample_size=64, attention_head_dim=8),
       vae((128, 256, 512, 512), 2, 512), text(768, 12, "quick_gelu"), None)
layout("sd2.1", unet(full, (1, 1, 1, 0), 2, 1024, sample_size=96, attention_head_dim=[5, 10, 20, 20],
                     use_linear_projection=True),
       vae((128, 256, 512, 512), 2, 768), text(1024, 23, "gelu"), 24)
layout("small1", unet((32, 64, 96), (0, 1, 1), 1, 48, sample_size=256, attention_head_dim=8),
       vae((32, 64), 1, 512), text(48, 2, "quick_gelu", 300, 80), None)
layout("small2", unet((64, 128), (1, 0), 3, 64, sample_size=192, attention_head_dim=[1, 2], use_linear_projection=True),
       vae((32, 32, 64), 2, 768), text(64, 3, "gelu", 300), 4)


def xl(widths, layers, depths, context, pooled, sizes):
    return unet(widths, (0, 1, 1), layers, context, sample_size=128, attention_head_dim=[w // 64 for w in widths],
                use_linear_projection=True, transformer_layers_per_block=depths, addition_embed_type="text_time",
                addition_time_embed_dim=sizes, projection_class_embeddings_input_dim=pooled + 6 * sizes)


layout("sdxl", xl((320, 640, 1280), 2, [1, 2, 10], 2048, 1280, 256),
       vae((128, 256, 512, 512), 2, 1024, scaling_factor=0.13025), text(768, 12, "quick_gelu"), None,
       text(1280, 32, "gelu", projection_dim=1280))
layout("smallxl", xl((64, 64, 128), 1, [1, 1, 2], 48 + 64, 40, 8),
       vae((32, 32, 32, 64), 1, 1024, scaling_factor=0.13025), text(48, 2, "quick_gelu", 300, 80), None,
       text(64, 2, "gelu", 300, projection_dim=40))

header = (b'{"__metadata__":{"k":"a\\"\\\\\\u000a"},"y":{"dtype":"I32","shape":[1],"data_offsets":[0,4]},'
          b'"x":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]}}')
header += b" " * (-len(header) % 8)
data = torch.tensor([7], dtype=torch.int32).numpy().tobytes() + torch.tensor([1.0, -2.0]).numpy().tobytes()
path = out / "writer.safetensors"
path.write_bytes(len(header).to_bytes(8, "little") + header + data)
with safe_open(path, framework="pt") as file:
    assert file.metadata() == {"k": 'a"\\\n'} and set(file.keys()) == {"x", "y"}
    assert file.get_tensor("x").tolist() == [[1.0, -2.0]] and file.get_tensor("y").tolist() == [7]
