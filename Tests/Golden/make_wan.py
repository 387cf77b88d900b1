"""Golden fixtures of WAN: tiny random transformers of diffusers, and Fixtures/tiny-wan and tiny-wan-image: whole folders
with a guided trajectory of their pipelines, the first with the decoded video.

    python make_wan.py [CASE ...]

Layouts are PyTorch's, latents [N, C, F, H, W].
"""

import json
import os
import shutil
import sys

import numpy
import torch
from diffusers import (
    AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel,
)
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel,
)

from make_models import FIXTURES, model_config, randomize, write

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def transformer_case(name, latent, text, timesteps, image=None, **config):
    model = randomize(WanTransformer3DModel(freq_dim=16, ffn_dim=48, text_dim=20, **config))
    for table in [model] + list(model.blocks):
        table.scale_shift_table.copy_(0.3 * torch.randn_like(table.scale_shift_table))
    io = {
        "latent": torch.randn(len(timesteps), config["in_channels"], *latent),
        "timesteps": torch.tensor(timesteps),
        "text": torch.randn(len(timesteps), text, 20),
    }
    # As the pipeline pads it.
    io["text"][:, text // 2:] = 0
    if image:
        io["image"] = torch.randn(len(timesteps), image, config["image_dim"])
    io["output"] = model(io["latent"], io["timesteps"], io["text"], io.get("image")).sample
    write(name, model_config(model), model.state_dict(), io)


@case
def wan_transformer():
    transformer_case("wan_transformer", latent=(3, 6, 10), text=7, timesteps=[999.0],
                     num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, num_layers=2)


@case
def wan_transformer_patches():
    """Two videos at two times, a patch of several frames, heads that do not divide by six, no norm before the
    cross-attention."""
    transformer_case("wan_transformer_patches", latent=(4, 6, 5), text=9, timesteps=[431.0, 12.5],
                     patch_size=(2, 3, 1), num_attention_heads=3, attention_head_dim=10, in_channels=5,
                     out_channels=3, num_layers=3, cross_attn_norm=False, eps=1e-4)


@case
def wan_transformer_image():
    """Image to video. The reference takes the last 512 states for the text."""
    transformer_case("wan_transformer_image", latent=(2, 4, 6), text=512, timesteps=[700.0, 41.0], image=11,
                     num_attention_heads=2, attention_head_dim=12, in_channels=6, out_channels=2, num_layers=2,
                     image_dim=14, added_kv_proj_dim=24)


# A whole pipeline

TEXT = """a red balloon rises over the harbour at dawn, slow camera, soft light
two foxes run through deep snow; the wind blows, the trees sway
ein Zug fährt durch die Nacht, Regen am Fenster
blurry, low quality, static, overexposed, worst hands"""


def tiny_tokenizer():
    """A Unigram model with UMT5's special tokens and its way with spaces."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    special = ["<pad>", "</s>", "<s>", "<unk>"]
    tokenizer.train_from_iterator(TEXT.splitlines(), trainers.UnigramTrainer(
        vocab_size=160, special_tokens=special, unk_token="<unk>", show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
                                   model_max_length=512)


@case
def tiny_wan():
    tokenizer = tiny_tokenizer()
    text = randomize(UMT5EncoderModel(UMT5Config(
        vocab_size=len(tokenizer), d_model=24, d_kv=6, d_ff=32, num_layers=2, num_heads=4, is_encoder_decoder=False,
        use_cache=False)))
    transformer = randomize(WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=24, freq_dim=16, ffn_dim=48,
        num_layers=2))
    vae = randomize(AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 2, 2], num_res_blocks=1, latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.8, 2.0, 1.1]))
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    # Stored as float16, computed in float32 from the rounded values.
    parts = [m.half() for m in (text, transformer, vae)]
    pipe = WanPipeline(tokenizer=tokenizer, text_encoder=text, vae=vae, scheduler=scheduler, transformer=transformer)
    folder = FIXTURES / "tiny-wan"
    shutil.rmtree(folder, ignore_errors=True)
    pipe.save_pretrained(folder)
    # The class that WAN's own folder names.
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "T5TokenizerFast"]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    for m in parts:
        m.float()

    run = {"prompt": "a red balloon  rises over the snow", "negative_prompt": "blurry, static", "steps": 6,
           "guidance": 5.0, "seed": 20, "width": 48, "height": 32, "frames": 9}
    pipe.set_progress_bar_config(disable=True)
    latents = pipe(
        prompt=run["prompt"], negative_prompt=run["negative_prompt"], num_inference_steps=run["steps"],
        guidance_scale=run["guidance"], width=run["width"], height=run["height"], num_frames=run["frames"],
        generator=torch.Generator().manual_seed(run["seed"]), output_type="latent").frames
    positive, negative = pipe.encode_prompt(run["prompt"], run["negative_prompt"], max_sequence_length=512)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
    (folder / "trajectory.json").write_text(json.dumps(run, indent=2) + "\n")
    save_file({
        "expected_latents": latents.contiguous(), "prompt_embeds": positive[:, :32].contiguous(),
        "negative_prompt_embeds": negative[:, :32].contiguous(),
        "expected_video": vae.decode(latents * std + mean).sample.half().contiguous(),
    }, folder / "io.safetensors")


@case
def tiny_wan_image():
    """Picture to video; what it shares with tiny-wan is a link to it."""
    folder, base = FIXTURES / "tiny-wan-image", FIXTURES / "tiny-wan"
    encoder = randomize(CLIPVisionModel(CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=8, patch_size=4,
        hidden_act="gelu", projection_dim=8)))
    # The latent's 4 channels, a mask's 4 and the picture's 4.
    transformer = randomize(WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=12, out_channels=4, text_dim=24, freq_dim=16, ffn_dim=48,
        num_layers=2, image_dim=16, added_kv_proj_dim=32))
    parts = [m.half() for m in (encoder, transformer)]
    processor = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    shared = WanPipeline.from_pretrained(base, torch_dtype=torch.float32, tokenizer=None)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base / "tokenizer")
    pipe = WanImageToVideoPipeline(
        tokenizer=tokenizer, text_encoder=shared.text_encoder, vae=shared.vae, scheduler=shared.scheduler,
        transformer=transformer, image_encoder=encoder, image_processor=processor)
    shutil.rmtree(folder, ignore_errors=True)
    pipe.save_pretrained(folder)
    for name in ("text_encoder", "tokenizer", "vae", "scheduler"):
        shutil.rmtree(folder / name)
        os.symlink(os.path.relpath(base / name, folder), folder / name)
    # The classes that WAN's own folder names.
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"tokenizer": ["transformers", "T5TokenizerFast"], "image_processor": ["transformers", "CLIPImageProcessor"]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    for m in parts:
        m.float()

    image = Image.fromarray(numpy.random.default_rng(8).integers(0, 256, (32, 48, 3), dtype=numpy.uint8))
    image.save(folder / "image.png")
    run = {"prompt": "a red balloon  rises over the snow", "negative_prompt": "blurry, static", "steps": 5,
           "guidance": 4.0, "seed": 21, "width": 48, "height": 32, "frames": 9}
    pipe.set_progress_bar_config(disable=True)
    latents = pipe(
        image=image, prompt=run["prompt"], negative_prompt=run["negative_prompt"], num_inference_steps=run["steps"],
        guidance_scale=run["guidance"], width=run["width"], height=run["height"], num_frames=run["frames"],
        generator=torch.Generator().manual_seed(run["seed"]), output_type="latent").frames
    (folder / "trajectory.json").write_text(json.dumps(run, indent=2) + "\n")
    save_file({"expected_latents": latents.contiguous()}, folder / "io.safetensors")


@case
def original_names():
    """single-file/wan.safetensors: tiny-wan-image's transformer under the names that WAN's authors gave its tensors.
    diffusers' own conversion must give back the other."""
    state = load_file(FIXTURES / "tiny-wan-image" / "transformer" / "diffusion_pytorch_model.safetensors")
    fixed = {"condition_embedder.time_embedder.linear_1": "time_embedding.0",
             "condition_embedder.time_embedder.linear_2": "time_embedding.2",
             "condition_embedder.text_embedder.linear_1": "text_embedding.0",
             "condition_embedder.text_embedder.linear_2": "text_embedding.2",
             "condition_embedder.time_proj": "time_projection.1",
             "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
             "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
             "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
             "condition_embedder.image_embedder.norm2": "img_emb.proj.4", "proj_out": "head.head"}
    inside = {"attn1.to_out.0": "self_attn.o", "attn2.to_out.0": "cross_attn.o", "attn1.to_": "self_attn.",
              "attn2.to_": "cross_attn.", "attn2.add_k_proj": "cross_attn.k_img", "attn2.add_v_proj": "cross_attn.v_img",
              "attn2.norm_added_k": "cross_attn.norm_k_img", "attn1.": "self_attn.", "attn2.": "cross_attn.",
              "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2", "norm2": "norm3", "scale_shift_table": "modulation"}
    file = {}
    for name, tensor in state.items():
        layer, _, part = name.rpartition(".")
        if name == "scale_shift_table":
            file["head.modulation"] = tensor
        elif layer in fixed:
            file[f"{fixed[layer]}.{part}"] = tensor
        elif name.startswith("blocks."):
            block, rest = ".".join(name.split(".")[:2]), ".".join(name.split(".")[2:])
            old = next(k for k in inside if rest.startswith(k))
            file[f"{block}.{inside[old]}{rest[len(old):]}"] = tensor
        else:
            file[name] = tensor
    save_file(file, FIXTURES / "single-file" / "wan.safetensors")
    back = convert_wan_transformer_to_diffusers(file)
    assert back.keys() == state.keys() and all(back[k].equal(state[k]) for k in state)


def main():
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    for index, (name, function) in enumerate(CASES.items()):
        torch.manual_seed(5000 + index)
        if not sys.argv[1:] or name in sys.argv[1:]:
            function()


if __name__ == "__main__":
    main()
