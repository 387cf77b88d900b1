"""Golden fixtures of FLUX.1: tiny random transformers of diffusers, and Fixtures/tiny-flux and tiny-schnell: whole folders,
with the final latents of their pipelines and what the transformer makes of inputs.

    python make_flux.py [CASE ...]

Layouts are PyTorch's; latents are unpacked, [N, C, H, W]. Tokenizers are links to those of other fixtures. Noise is that of
torch's CPU generator. Stored as float16, computed in float32 from the rounded values.
"""

import inspect
import json
import os
import shutil
import sys

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler, FluxImg2ImgPipeline, FluxInpaintPipeline, FluxPipeline, FluxTransformer2DModel,
)
from diffusers.loaders import single_file_utils
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from make_models import FIXTURES, TOKENIZER, model_config, randomize, write
from make_more_pipelines import finish, link_tokenizer
from make_sd3 import clip_text, link_t5_tokenizer, pictures, save_call, tiny_t5, tiny_vae

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def ids(rows, columns):
    return torch.tensor([[0, y, x] for y in range(rows) for x in range(columns)], dtype=torch.float32)


def unpacked(tokens, rows, columns):
    return tokens.view(-1, rows, columns, tokens.shape[2] // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(
        -1, tokens.shape[2] // 4, 2 * rows, 2 * columns)


def transformer_case(name, rows, columns, text, timesteps, guidance=None, **config):
    model = randomize(FluxTransformer2DModel(
        joint_attention_dim=20, pooled_projection_dim=14, guidance_embeds=guidance is not None, **config))
    count, times = len(timesteps), torch.tensor(timesteps)
    tokens, states = torch.randn(count, rows * columns, config["in_channels"]), torch.randn(count, text, 20)
    pooled = torch.randn(count, 14)
    output = model(tokens, states, pooled, times / 1000, ids(rows, columns), torch.zeros(text, 3),
                   None if guidance is None else torch.full([count], guidance)).sample
    io = {"latent": unpacked(tokens, rows, columns), "timesteps": times, "text": states, "pooled": pooled,
          "output": unpacked(output, rows, columns)}
    if guidance is not None:
        io["guidance"] = torch.tensor([guidance])
    write(name, model_config(model), model.state_dict(), io)


@case
def flux_transformer():
    """As dev: told a scale of guidance."""
    transformer_case("flux_transformer", 3, 5, 7, [999.0], guidance=3.5, in_channels=8, num_layers=2, num_single_layers=2,
                     attention_head_dim=8, num_attention_heads=2, axes_dims_rope=(2, 2, 4))


@case
def flux_transformer_plain():
    """As schnell: without; two pictures at two times, and other channels going out."""
    transformer_case("flux_transformer_plain", 4, 2, 5, [431.0, 12.5], in_channels=12, out_channels=8, num_layers=1,
                     num_single_layers=3, attention_head_dim=12, num_attention_heads=1, axes_dims_rope=(4, 2, 6))


RUNS = {
    "tiny-flux": {
        "text": {"prompt": "a grinning face with big eyes", "steps": 8, "guidance": 3.5, "seed": 3},
        "wide": {"prompt": "cat", "steps": 4, "guidance": 1.0, "seed": 6, "width": 24, "height": 12},
        "image": {"prompt": "a cat", "steps": 9, "guidance": 7.0, "seed": 7, "strength": 0.6},
        "mask": {"prompt": "a cat", "steps": 6, "guidance": 4.0, "seed": 8, "strength": 1.0, "mask": True},
        "part": {"prompt": "a cat", "steps": 6, "guidance": 4.0, "seed": 9, "strength": 0.75, "mask": True},
    },
    "tiny-schnell": {
        "text": {"prompt": "a red heart", "steps": 4, "guidance": 1.0, "seed": 5},
        "one": {"prompt": "cat", "steps": 1, "guidance": 1.0, "seed": 6},
    },
}


def folder_case(name, guided, **scheduler):
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    transformer = randomize(FluxTransformer2DModel(
        in_channels=64, num_layers=2, num_single_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=8, guidance_embeds=guided, axes_dims_rope=(2, 2, 4)))
    vae = randomize(tiny_vae(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159))
    text1 = randomize(CLIPTextModel(CLIPTextConfig(**clip_text(8))))
    text2, tokenizer2 = tiny_t5(24)
    models = [m.half() for m in (transformer, vae, text1, text2)]
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, pad_token="<|endoftext|>")
    pipe = FluxPipeline(
        FlowMatchEulerDiscreteScheduler(**scheduler), vae, text1, tokenizer, text2, tokenizer2, transformer)
    pipe.save_pretrained(folder)
    link_tokenizer(folder / "tokenizer", "<|endoftext|>")
    link_t5_tokenizer(folder / "tokenizer_2")
    if not guided:
        for part in ("vae", "text_encoder", "text_encoder_2"):
            shutil.rmtree(folder / part)
            os.symlink(os.path.relpath(FIXTURES / "tiny-flux" / part, folder), folder / part)
    # The class that FLUX's own folders name.
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer_2"] = ["transformers", "T5TokenizerFast"]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    if not guided:
        pipe = FluxPipeline.from_pretrained(FIXTURES / "tiny-flux", transformer=transformer, scheduler=pipe.scheduler,
                                            tokenizer_2=tokenizer2, tokenizer=tokenizer, torch_dtype=torch.float32)
    for m in [transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2]:
        m.float()

    image, mask = pictures(folder) if guided else (None, None)
    latents = {}
    for run_name, run in RUNS[name].items():
        kind = FluxPipeline
        extra = {"width": run.get("width", 16), "height": run.get("height", 16)}
        if "strength" in run:
            kind = FluxInpaintPipeline if "mask" in run else FluxImg2ImgPipeline
            extra |= {"image": image, "strength": run["strength"]}
        if "mask" in run:
            extra["mask_image"] = mask
        pipeline = kind(**{k: v for k, v in pipe.components.items() if v is not None})
        pipeline.set_progress_bar_config(disable=True)
        tokens = pipeline(
            prompt=run["prompt"], num_inference_steps=run["steps"], guidance_scale=run["guidance"], output_type="latent",
            max_sequence_length=512 if guided else 256, generator=torch.Generator().manual_seed(run["seed"]),
            **extra).images
        latents[run_name] = unpacked(tokens, extra["height"] // 4, extra["width"] // 4)
    finish(folder, RUNS[name], latents)
    if guided:
        tokens, states, pooled = torch.randn(2, 6, 64), torch.randn(2, 5, 24), torch.randn(2, 8)
        times, scales = torch.tensor([0.017, 0.93]), torch.tensor([3.5])
        places, words = ids(2, 3), torch.zeros(5, 3)
        save_call(folder / "components", "transformer", {
            "hidden_states": tokens, "encoder_hidden_states": states, "pooled_projections": pooled, "timestep": times,
            "img_ids": places, "txt_ids": words, "guidance": scales,
        }, {"sample": transformer(tokens, states, pooled, times, places, words, scales).sample})


@case
def tiny_flux():
    folder_case("tiny-flux", True, shift=3.0, use_dynamic_shifting=True, base_image_seq_len=4, max_image_seq_len=24)


@case
def tiny_schnell():
    folder_case("tiny-schnell", False, shift=1.0)


@case
def original_names():
    """single-file/flux.safetensors: tiny-flux's transformer under the names that FLUX's authors gave its tensors. diffusers'
    own conversion must give back the other."""
    folder = FIXTURES / "tiny-flux" / "transformer"
    state, config = load_file(folder / "diffusion_pytorch_model.safetensors"), json.loads((folder / "config.json").read_text())
    file = {}

    def layer(key, *names, swaps=False):
        for part in ("weight", "bias"):
            tensors = [state[f"{name}.{part}"] for name in names]
            file[f"{key}.{part}"] = torch.cat(list(reversed(tensors[0].chunk(2))) if swaps else tensors).contiguous()

    for key, name in (("time_in", "timestep"), ("vector_in", "text"), ("guidance_in", "guidance")):
        layer(f"{key}.in_layer", f"time_text_embed.{name}_embedder.linear_1")
        layer(f"{key}.out_layer", f"time_text_embed.{name}_embedder.linear_2")
    layer("img_in", "x_embedder")
    layer("txt_in", "context_embedder")
    for i in range(config["num_layers"]):
        key, name = f"double_blocks.{i}", f"transformer_blocks.{i}"
        layer(f"{key}.img_mod.lin", f"{name}.norm1.linear")
        layer(f"{key}.txt_mod.lin", f"{name}.norm1_context.linear")
        layer(f"{key}.img_attn.qkv", *(f"{name}.attn.to_{p}" for p in "qkv"))
        layer(f"{key}.txt_attn.qkv", *(f"{name}.attn.add_{p}_proj" for p in "qkv"))
        layer(f"{key}.img_attn.proj", f"{name}.attn.to_out.0")
        layer(f"{key}.txt_attn.proj", f"{name}.attn.to_add_out")
        for stream, own, mlp in (("img", "", "ff"), ("txt", "added_", "ff_context")):
            file[f"{key}.{stream}_attn.norm.query_norm.scale"] = state[f"{name}.attn.norm_{own}q.weight"]
            file[f"{key}.{stream}_attn.norm.key_norm.scale"] = state[f"{name}.attn.norm_{own}k.weight"]
            layer(f"{key}.{stream}_mlp.0", f"{name}.{mlp}.net.0.proj")
            layer(f"{key}.{stream}_mlp.2", f"{name}.{mlp}.net.2")
    for i in range(config["num_single_layers"]):
        key, name = f"single_blocks.{i}", f"single_transformer_blocks.{i}"
        layer(f"{key}.modulation.lin", f"{name}.norm.linear")
        layer(f"{key}.linear1", *(f"{name}.attn.to_{p}" for p in "qkv"), f"{name}.proj_mlp")
        file[f"{key}.norm.query_norm.scale"] = state[f"{name}.attn.norm_q.weight"]
        file[f"{key}.norm.key_norm.scale"] = state[f"{name}.attn.norm_k.weight"]
        layer(f"{key}.linear2", f"{name}.proj_out")
    layer("final_layer.linear", "proj_out")
    layer("final_layer.adaLN_modulation.1", "norm_out.linear", swaps=True)
    save_file(file, FIXTURES / "single-file" / "flux.safetensors")

    # The conversion knows one width.
    width = config["num_attention_heads"] * config["attention_head_dim"]
    code = inspect.getsource(single_file_utils.convert_flux_transformer_checkpoint_to_diffusers)
    assert "inner_dim = 3072" in code
    scope = dict(vars(single_file_utils))
    exec(code.replace("inner_dim = 3072", f"inner_dim = {width}"), scope)
    back = scope["convert_flux_transformer_checkpoint_to_diffusers"](file)
    assert not file and back.keys() == state.keys() and all(back[k].equal(state[k]) for k in state)


def main():
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    for index, (name, function) in enumerate(CASES.items()):
        torch.manual_seed(7000 + index)
        if not sys.argv[1:] or name in sys.argv[1:]:
            function()


if __name__ == "__main__":
    main()
