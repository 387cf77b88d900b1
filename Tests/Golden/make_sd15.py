"""A full-size Stable Diffusion 1.5 with random weights, for benchmarks and end-to-end runs.

    python make_sd15.py OUT_DIR [--single-file FILE] [--half] [--tokenizer DIR]

OUT_DIR becomes a diffusers folder (860 M parameters in the UNet, CLIP ViT-L/14, the autoencoder); FILE has the same
weights under the original checkpoints' keys. Layers have PyTorch's default initialisation, whose activations stay
near one and differ with every input. The tokenizer must have CLIP's 49408 tokens, or fewer.
"""

import argparse
import gc
import pathlib

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import ldm_layout


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--single-file", type=pathlib.Path)
    parser.add_argument("--half", action="store_true", help="store float16 instead of float32")
    parser.add_argument("--tokenizer", type=pathlib.Path,
                        default=pathlib.Path(__file__).parent / "Fixtures/tiny-sd/tokenizer")
    arguments = parser.parse_args()

    torch.manual_seed(15)
    dtype = torch.float16 if arguments.half else torch.float32
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768).to(dtype)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4).to(dtype)
    text = CLIPTextModel(CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)).to(dtype)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1)
    tokenizer = CLIPTokenizer.from_pretrained(arguments.tokenizer, model_max_length=77)
    StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False).save_pretrained(arguments.folder)
    if arguments.single_file:
        gc.collect()
        state = ldm_layout.single_file(
            unet.state_dict(), dict(unet.config), vae.state_dict(), dict(vae.config), text.state_dict())
        save_file(state, arguments.single_file)
    parameters = sum(p.numel() for m in (unet, vae, text) for p in m.parameters())
    print(f"{parameters / 1e6:.1f} M parameters in {arguments.folder}")


if __name__ == "__main__":
    main()
