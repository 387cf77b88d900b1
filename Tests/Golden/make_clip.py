"""Golden fixtures of CLIP: tiny random encoders of transformers, and what they compute.

    python make_clip.py [CASE ...]

writes Fixtures/CASE as make_models.py does, and Fixtures/tiny-clip: a whole folder but for its tokenizer, which is
tiny-sd's. Every parameter is random, norms and biases too.
"""

import json

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer,
    CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection,
)

import make_models
from make_models import FIXTURES, TOKENIZER, case, randomize, write

make_models.CASES.clear()

TEXT = dict(vocab_size=99, max_position_embeddings=12, bos_token_id=97, eos_token_id=98, pad_token_id=0)
IDS = [[97, 4, 55, 8, 98, 0, 0], [97, 98, 98, 98, 98, 98, 98], [97, 1, 2, 3, 4, 5, 98]]


def states(output):
    """hidden_states[-1], [-2] and [0]: without the final norm."""
    hidden = output.hidden_states
    return {"hidden_last": hidden[-1], "hidden_penultimate": hidden[-2], "hidden_first": hidden[0]}


@case
def vision_quick_gelu():
    config = CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                              image_size=12, patch_size=4, hidden_act="quick_gelu", layer_norm_eps=1e-4)
    model = randomize(CLIPVisionModel(config))
    pictures = torch.randn(2, 3, 12, 12)
    out = model(pictures, output_hidden_states=True)
    write("vision_quick_gelu", config.to_dict(), model.state_dict(), {
        "pictures": pictures, "last_hidden_state": out.last_hidden_state, "pooled": out.pooler_output, **states(out)})


@case
def vision_projection():
    config = CLIPVisionConfig(hidden_size=24, intermediate_size=56, num_hidden_layers=3, num_attention_heads=3,
                              image_size=15, patch_size=5, hidden_act="gelu", projection_dim=20)
    model = randomize(CLIPVisionModelWithProjection(config))
    pictures = torch.randn(3, 3, 15, 15)
    out = model(pictures, output_hidden_states=True)
    state = dict(model.state_dict())  # old files store this buffer
    state["vision_model.embeddings.position_ids"] = torch.arange(10)[None]
    write("vision_projection", config.to_dict(), state, {
        "pictures": pictures, "last_hidden_state": out.last_hidden_state, "image_embeds": out.image_embeds,
        **states(out)})


@case
def text_projection():
    config = CLIPTextConfig(hidden_size=24, intermediate_size=56, num_hidden_layers=3, num_attention_heads=3,
                            hidden_act="gelu", projection_dim=20, **TEXT)
    model = randomize(CLIPTextModelWithProjection(config))
    out = model(torch.tensor(IDS), output_hidden_states=True)
    write("text_projection", config.to_dict(), model.state_dict(), {
        "ids": torch.tensor(IDS, dtype=torch.int32), "last_hidden_state": out.last_hidden_state,
        "text_embeds": out.text_embeds, **states(out)})


def random_clip(config, logit_scale):
    model = CLIPModel(config).eval()
    for part in (model.text_model, model.vision_model, model.text_projection, model.visual_projection):
        randomize(part)
    model.logit_scale.fill_(logit_scale)
    return model


@case
def clip():
    layers = dict(num_hidden_layers=2, num_attention_heads=4, hidden_act="quick_gelu")
    config = CLIPConfig(
        text_config=dict(hidden_size=24, intermediate_size=40, **layers, **TEXT),
        vision_config=dict(hidden_size=32, intermediate_size=48, image_size=8, patch_size=4, **layers),
        projection_dim=16)
    model = random_clip(config, 1.375)
    pictures = torch.randn(2, 3, 8, 8)
    out = model(torch.tensor(IDS), pictures)
    write("clip", config.to_dict(), model.state_dict(), {
        "ids": torch.tensor(IDS, dtype=torch.int32), "pictures": pictures,
        "text_features": model.get_text_features(torch.tensor(IDS)).pooler_output,
        "image_features": model.get_image_features(pictures).pooler_output,
        "text_embeds": out.text_embeds, "image_embeds": out.image_embeds, "logits": out.logits_per_text})


@case
def tiny_clip():
    layers = dict(intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, hidden_act="quick_gelu")
    config = CLIPConfig(
        text_config=dict(hidden_size=16, vocab_size=2388, max_position_embeddings=32, bos_token_id=2386,
                         eos_token_id=2387, pad_token_id=2387, **layers),
        vision_config=dict(hidden_size=24, image_size=16, patch_size=8, **layers), projection_dim=12)
    folder = FIXTURES / "tiny-clip"
    # Stored as float16, computed in float32 from the rounded values.
    model = random_clip(config, 2.0).half()
    model.save_pretrained(folder)
    model.float()
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor.save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=32)

    run = {"texts": ["a grinning face with big eyes", "Red HEART", "woman, blond hair"],
           "images": ["rgb.png", "palette.png", "text_latin.png", "grey.png"],
           "labels": ["face", "a hat", "the flag of a country"], "direction": ["man with a hat", "man"]}
    pictures = [Image.open(FIXTURES / "pictures" / name).convert("RGB") for name in run["images"]]

    def embed(texts):
        ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
        return model(ids, processor(pictures, return_tensors="pt").pixel_values)
    out, labels, ends = embed(run["texts"]), embed(run["labels"]), embed(run["direction"])
    way = ends.text_embeds[0] - ends.text_embeds[1]
    (folder / "run.json").write_text(json.dumps(run, indent=2) + "\n")
    save_file({k: v.contiguous() for k, v in {
        "text_embeds": out.text_embeds, "image_embeds": out.image_embeds,
        "cosines": out.image_embeds @ out.text_embeds.T, "probabilities": labels.logits_per_image.softmax(-1),
        "scores": out.image_embeds @ (way / way.norm())}.items()}, folder / "io.safetensors")


if __name__ == "__main__":
    make_models.main()
