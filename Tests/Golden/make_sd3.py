"""Golden fixtures of Stable Diffusion 3: tiny random transformers of diffusers, and Fixtures/tiny-sd3: a whole folder in
the layout of 3.5, with the final latents of its pipelines and what its components make of inputs.

    python make_sd3.py [CASE ...]

Layouts are PyTorch's. The tokenizers are links to those of Fixtures/tiny-sd and Fixtures/tiny-wan. Noise is that of torch's
CPU generator. Stored as float16, computed in float32 from the rounded values.
"""

import json
import os
import shutil
import sys

import numpy
import torch
from diffusers import (
    AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline, StableDiffusion3Pipeline,
)
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, PreTrainedTokenizerFast, T5Config, T5EncoderModel,
)

from make_models import FIXTURES, TOKENIZER, model_config, randomize, write
from make_more_pipelines import finish, link_tokenizer

T5_TOKENIZER = FIXTURES / "tiny-wan" / "tokenizer"
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def transformer_case(name, latent, text, timesteps, **config):
    model = randomize(SD3Transformer2DModel(joint_attention_dim=20, pooled_projection_dim=14, **config))
    count = len(timesteps)
    io = {"latent": torch.randn(count, config["in_channels"], *latent), "timesteps": torch.tensor(timesteps),
          "text": torch.randn(count, text, 20), "pooled": torch.randn(count, 14)}
    io["output"] = model(io["latent"], io["text"], io["pooled"], io["timesteps"]).sample
    write(name, model_config(model), model.state_dict(), io)


@case
def sd3_transformer():
    """3.0: no norms of queries and keys, one attention a block; a latent off the middle of the positions."""
    transformer_case("sd3_transformer", (6, 10), 7, [999.0], sample_size=8, in_channels=4, out_channels=3, num_layers=3,
                     num_attention_heads=2, attention_head_dim=8, caption_projection_dim=16, pos_embed_max_size=9)


@case
def sd3_transformer_dual():
    """3.5: norms over each head, a second attention in some blocks, another patch; two pictures at two times."""
    transformer_case("sd3_transformer_dual", (9, 6), 5, [431.0, 12.5], sample_size=12, patch_size=3, in_channels=5,
                     out_channels=5, num_layers=3, num_attention_heads=2, attention_head_dim=10, caption_projection_dim=20,
                     pos_embed_max_size=4, qk_norm="rms_norm", dual_attention_layers=(0, 2))


def tiny_t5(width):
    """An encoder of T5 1.1 and its tokenizer."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(T5_TOKENIZER)
    model = randomize(T5EncoderModel(T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=6, d_ff=32, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False)))
    for name, parameter in model.named_parameters():
        if name.endswith(".q.weight"):  # scores are not scaled
            parameter.div_(6 ** 0.5)
    return model, tokenizer


def link_t5_tokenizer(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        os.symlink(os.path.relpath(T5_TOKENIZER / file, folder), folder / file)


def clip_text(projection, **changes):
    return dict(vocab_size=2388, hidden_size=8, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
                max_position_embeddings=77, bos_token_id=2386, eos_token_id=2387, pad_token_id=2387,
                projection_dim=projection) | changes


def tiny_vae(**config):
    return AutoencoderKL(
        block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=4, sample_size=16, use_quant_conv=False,
        use_post_quant_conv=False, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        **config)


def pictures(folder):
    generator = numpy.random.default_rng(6)
    image = Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=numpy.uint8))
    grey = numpy.zeros((16, 16), dtype=numpy.uint8)
    grey[4:13, 6:16] = 255
    mask = Image.fromarray(grey)
    image.save(folder / "image.png")
    mask.save(folder / "mask.png")
    return image, mask


def save_call(folder, name, inputs, outputs):
    folder.mkdir(exist_ok=True)
    for kind, values in (("inputs", inputs), ("outputs", outputs)):
        save_file({k: v.contiguous().clone() for k, v in values.items()}, folder / f"{name}.{kind}.safetensors")


@case
def tiny_sd3():
    folder = FIXTURES / "tiny-sd3"
    shutil.rmtree(folder, ignore_errors=True)
    transformer = randomize(SD3Transformer2DModel(
        sample_size=8, in_channels=16, out_channels=16, num_layers=3, num_attention_heads=2, attention_head_dim=8,
        caption_projection_dim=16, joint_attention_dim=24, pooled_projection_dim=22, pos_embed_max_size=12,
        qk_norm="rms_norm", dual_attention_layers=(0, 1)))
    vae = randomize(tiny_vae(latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609))
    text1 = randomize(CLIPTextModelWithProjection(CLIPTextConfig(**clip_text(10))))
    text2 = randomize(CLIPTextModelWithProjection(CLIPTextConfig(**clip_text(12, hidden_size=12, hidden_act="gelu"))))
    text3, tokenizer3 = tiny_t5(24)
    models = [m.half() for m in (transformer, vae, text1, text2, text3)]
    tokenizers = [CLIPTokenizer.from_pretrained(TOKENIZER, pad_token=pad) for pad in ("<|endoftext|>", "!")]
    pipe = StableDiffusion3Pipeline(
        transformer, FlowMatchEulerDiscreteScheduler(shift=3.0), vae, text1, tokenizers[0], text2, tokenizers[1], text3,
        tokenizer3)
    pipe.save_pretrained(folder)
    link_tokenizer(folder / "tokenizer", "<|endoftext|>")
    link_tokenizer(folder / "tokenizer_2", "!")
    link_t5_tokenizer(folder / "tokenizer_3")
    # The class that Stable Diffusion 3's own folders name.
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer_3"] = ["transformers", "T5TokenizerFast"]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    for m in models:
        m.float()

    image, mask = pictures(folder)
    runs = {
        "text": {"prompt": "a grinning face with big eyes", "steps": 8, "guidance": 5.0, "seed": 3},
        "negative": {"prompt": "a red heart", "negativePrompt": "blurry face", "steps": 5, "guidance": 7.0, "seed": 4},
        "unguided": {"prompt": "cat", "steps": 4, "guidance": 1.0, "seed": 5},
        "wide": {"prompt": "cat", "steps": 4, "guidance": 3.0, "seed": 6, "width": 24, "height": 12},
        # Half a step is run.
        "image": {"prompt": "a cat", "steps": 9, "guidance": 4.0, "seed": 7, "strength": 0.6},
        "mask": {"prompt": "a cat", "steps": 6, "guidance": 4.0, "seed": 8, "strength": 1.0, "mask": True},
        "part": {"prompt": "a cat", "steps": 6, "guidance": 4.0, "seed": 9, "strength": 0.75, "mask": True},
        "without": {"prompt": "a red heart", "negativePrompt": "face", "steps": 5, "guidance": 4.0, "seed": 10},
    }
    latents = {}
    for name, run in runs.items():
        kind = {"image": StableDiffusion3Img2ImgPipeline, "mask": StableDiffusion3InpaintPipeline,
                "part": StableDiffusion3InpaintPipeline}.get(name, StableDiffusion3Pipeline)
        parts = dict(pipe.components)
        if name == "without":
            parts |= {"text_encoder_3": None, "tokenizer_3": None}
        pipeline = kind(**parts)
        pipeline.set_progress_bar_config(disable=True)
        extra = {key: run[key] for key in ("width", "height", "strength") if key in run}
        if "strength" in run:
            extra["image"] = image
        if "mask" in run:
            extra |= {"mask_image": mask, "width": 16, "height": 16}
        latents[name] = pipeline(
            prompt=run["prompt"], negative_prompt=run.get("negativePrompt"), num_inference_steps=run["steps"],
            guidance_scale=run["guidance"], output_type="latent",
            generator=torch.Generator().manual_seed(run["seed"]), **extra).images
    finish(folder, runs, latents)

    own = latents["text"] / vae.config.scaling_factor + vae.config.shift_factor
    sample, context, pooled = torch.randn(2, 16, 8, 6), torch.randn(2, 5, 24), torch.randn(2, 22)
    times, ids = torch.tensor([17, 930]), torch.randint(2, len(tokenizer3), (2, 9))
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    posterior = vae.encode(picture).latent_dist
    calls = folder / "components"
    save_call(calls, "transformer", {"hidden_states": sample, "encoder_hidden_states": context,
                                     "pooled_projections": pooled, "timestep": times},
              {"sample": transformer(sample, context, pooled, times).sample})
    save_call(calls, "text_encoder_3", {"input_ids": ids}, {"last_hidden_state": text3(ids).last_hidden_state})
    save_call(calls, "vae.encode", {"x": picture}, {"mean": posterior.mean, "logvar": posterior.logvar})
    save_call(calls, "vae.decode", {"z": own}, {"sample": vae.decode(own).sample})


@case
def original_names():
    """single-file/sd3.safetensors: tiny-sd3's transformer under the names that its authors gave its tensors. diffusers' own
    conversion must give back the other."""
    folder = FIXTURES / "tiny-sd3" / "transformer"
    state, config = load_file(folder / "diffusion_pytorch_model.safetensors"), json.loads((folder / "config.json").read_text())
    file = {}

    def layer(key, *names, swaps=False):
        for part in ("weight", "bias"):
            tensors = [state[f"{name}.{part}"] for name in names]
            file[f"{key}.{part}"] = torch.cat(list(reversed(tensors[0].chunk(2))) if swaps else tensors).contiguous()

    file["pos_embed"] = state["pos_embed.pos_embed"]
    layer("x_embedder.proj", "pos_embed.proj")
    layer("context_embedder", "context_embedder")
    for key, name in (("t_embedder", "timestep_embedder"), ("y_embedder", "text_embedder")):
        layer(f"{key}.mlp.0", f"time_text_embed.{name}.linear_1")
        layer(f"{key}.mlp.2", f"time_text_embed.{name}.linear_2")
    for i in range(config["num_layers"]):
        own, text, name = f"joint_blocks.{i}.x_block", f"joint_blocks.{i}.context_block", f"transformer_blocks.{i}"
        last = i == config["num_layers"] - 1
        layer(f"{own}.adaLN_modulation.1", f"{name}.norm1.linear")
        layer(f"{text}.adaLN_modulation.1", f"{name}.norm1_context.linear", swaps=last)
        layer(f"{text}.attn.qkv", *(f"{name}.attn.add_{p}_proj" for p in "qkv"))
        for attention in ["attn"] + ["attn2"] * (i in config["dual_attention_layers"]):
            layer(f"{own}.{attention}.qkv", *(f"{name}.{attention}.to_{p}" for p in "qkv"))
            layer(f"{own}.{attention}.proj", f"{name}.{attention}.to_out.0")
            for p in "qk":
                file[f"{own}.{attention}.ln_{p}.weight"] = state[f"{name}.{attention}.norm_{p}.weight"]
        for p in "qk":
            file[f"{text}.attn.ln_{p}.weight"] = state[f"{name}.attn.norm_added_{p}.weight"]
        for stream, mlp in [(own, "ff")] + [(text, "ff_context")] * (not last):
            layer(f"{stream}.mlp.fc1", f"{name}.{mlp}.net.0.proj")
            layer(f"{stream}.mlp.fc2", f"{name}.{mlp}.net.2")
        if not last:
            layer(f"{text}.attn.proj", f"{name}.attn.to_add_out")
    layer("final_layer.linear", "proj_out")
    layer("final_layer.adaLN_modulation.1", "norm_out.linear", swaps=True)
    save_file(file, FIXTURES / "single-file" / "sd3.safetensors")
    back = convert_sd3_transformer_checkpoint_to_diffusers(file)
    assert not file and back.keys() == state.keys() and all(back[k].equal(state[k]) for k in state)


def main():
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    for index, (name, function) in enumerate(CASES.items()):
        torch.manual_seed(6000 + index)
        if not sys.argv[1:] or name in sys.argv[1:]:
            function()


if __name__ == "__main__":
    main()
