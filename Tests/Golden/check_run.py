"""Reads what a training run leaves behind with the programs that it is written for.

    python check_run.py events RUN              TensorBoard: the scalars and pictures that it shows
    python check_run.py model FOLDER REFERENCE  diffusers or transformers: outputs equal to 1e-5 of their largest

FOLDER is a model that was written here, REFERENCE one with the same values, both a pipeline's or a CLIP's folder.
"""

import json
import sys
from pathlib import Path

import torch


def events(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    board = EventAccumulator(run, size_guidance={"scalars": 0, "images": 0}).Reload()
    for tag in board.Tags()["scalars"]:
        print(tag, [(event.step, round(event.value, 6)) for event in board.Scalars(tag)])
    for tag in board.Tags()["images"]:
        print(tag, [(event.step, event.width, event.height) for event in board.Images(tag)])


def outputs(folder):
    """Of every network, for fixed inputs, in float32 by whatever dtype is stored."""
    generator = torch.Generator().manual_seed(5)
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    index = Path(folder) / "model_index.json"
    if not index.exists():
        from transformers import AutoTokenizer, CLIPModel
        model = CLIPModel.from_pretrained(folder)
        print(folder, model.dtype)
        model = model.float().eval()
        size = model.config.vision_config.image_size
        ids = torch.tensor([[5, 6, 7, 8, model.config.text_config.eos_token_id]])
        if (Path(folder) / "tokenizer.json").exists():
            assert AutoTokenizer.from_pretrained(folder)("a grinning face")["input_ids"]
        out = model(input_ids=ids, pixel_values=normal(2, 3, size, size))
        return {"logits": out.logits_per_image, "text": out.text_embeds, "image": out.image_embeds}
    import diffusers
    pipe = getattr(diffusers, json.loads(index.read_text())["_class_name"]).from_pretrained(
        folder, torch_dtype=torch.float32)
    unet = pipe.unet
    shape = (1, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    result = {}
    if "text_encoder" in pipe.components:
        states = pipe.text_encoder(torch.tensor([pipe.tokenizer("red heart").input_ids])).last_hidden_state
        result["text"] = states
        result["unet"] = unet(normal(*shape), 7, encoder_hidden_states=states).sample
        pixels = normal(1, 3, pipe.vae.config.sample_size, pipe.vae.config.sample_size)
        latents = pipe.vae.encode(pixels).latent_dist.mode()
        result |= {"latents": latents, "pixels": pipe.vae.decode(latents).sample}
    else:
        result["unet"] = unet(normal(*shape), 7).sample
    return result


@torch.no_grad()
def model(folder, reference):
    expected = outputs(reference)
    for name, value in outputs(folder).items():
        error = ((value - expected[name]).abs().max() / expected[name].abs().max()).item()
        print(f"{name}: {error:.1e}")
        assert error < 1e-5, name


if __name__ == "__main__":
    {"events": events, "model": model}[sys.argv[1]](*sys.argv[2:])
