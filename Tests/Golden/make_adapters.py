"""LoRA and textual inversion files, and what diffusers' pipelines make of them over Fixtures/tiny-sd and tiny-xl.

    python make_adapters.py

writes Fixtures/adapters: the files, and runs.json with pictures.safetensors: latents [1, 4, 8, 8], and pictures
[1, 3, 16, 16] in 0...1. Noise is that of torch's CPU generator; everything is computed in float32. Needs torch,
diffusers, transformers, peft and safetensors.
"""

import collections
import json
import pathlib
import shutil

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

import ldm_layout
from make_models import FIXTURES

FOLDER = FIXTURES / "adapters"
ATTENTION = ["to_k", "to_q", "to_v", "to_out.0"]
# Linear layers, 1x1 and 3x3 convolutions.
EVERYTHING = ATTENTION + [
    "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "time_emb_proj", "downsamplers.0.conv", "conv_in"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def opened(name):
    kind = StableDiffusionXLPipeline if name == "tiny-xl" else StableDiffusionPipeline
    extra = {"add_watermarker": False} if name == "tiny-xl" else {"safety_checker": None, "feature_extractor": None,
                                                                  "requires_safety_checker": False}
    pipe = kind.from_pretrained(FIXTURES / name, torch_dtype=torch.float32, **extra)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def adapted(model, seed, **config):
    """An adapter of random values as a state dict: together half as large as the layers, rounded to float16."""
    torch.manual_seed(seed)
    model.add_adapter(LoraConfig(**config))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            fan = parameter[0].numel()
            parameter.data.copy_((0.7 * torch.randn_like(parameter) / fan ** 0.5).half().float())
    return {k: v.clone() for k, v in get_peft_model_state_dict(model).items()}


def halved(state):
    return {k: v.half() for k, v in state.items()}


def layers(state):
    """{layer: (down, up)} of a PEFT state dict."""
    result = collections.defaultdict(dict)
    for key, value in state.items():
        layer, part = key.removesuffix(".weight").rsplit(".", 1)
        result[layer][part] = value
    return {layer: (parts["lora_A"], parts["lora_B"]) for layer, parts in result.items()}


def kohya(prefix, state, alpha, rename=lambda layer: layer):
    """Kohya's layout, each layer with the alpha that `alpha(layer)` says."""
    result = {}
    for layer, (down, up) in layers(state).items():
        name = prefix + rename(layer).replace(".", "_")
        result |= {f"{name}.lora_down.weight": down.half(), f"{name}.lora_up.weight": up.half(),
                   f"{name}.alpha": torch.tensor(float(alpha(layer)))}
    return result


def described(**models):
    """What diffusers' training scripts put beside the weights, without this machine's paths."""
    metadata = _collate_lora_metadata(models)
    for entries in metadata.values():
        entries["base_model_name_or_path"] = None
    return metadata


def run(pipe, prompt, seed):
    def call(kind):
        return pipe(prompt, negative_prompt="heart", num_inference_steps=4, guidance_scale=4.0, output_type=kind,
                    generator=torch.Generator().manual_seed(seed)).images
    return {"latents": call("latent"), "picture": call("pt")}


class Record:
    def __init__(self):
        self.runs, self.tensors = {}, {}

    def add(self, name, pipe, prompt, model="tiny-sd", **files):
        seed = 40 + len(self.runs)
        self.runs[name] = {"model": model, "prompt": prompt, "seed": seed, **files}
        for key, value in run(pipe, prompt, seed).items():
            self.tensors[f"{name}.{key}"] = value.contiguous()
        return self.tensors[f"{name}.latents"]


def stable_diffusion(record):
    prompt = "a grinning face"
    plain = record.add("plain", opened("tiny-sd"), prompt)

    pipe = opened("tiny-sd")
    # The alphas of some layers are their own.
    own = {"mid_block.attentions.0.proj_in": 3, "attn2.to_k": 6}
    unet = adapted(pipe.unet, 1, r=4, lora_alpha=8, target_modules=EVERYTHING, alpha_pattern=own,
                   rank_pattern={"ff.net.2": 2})
    text = adapted(pipe.text_encoder, 2, r=3, lora_alpha=2, target_modules=TEXT)
    metadata = described(unet=pipe.unet, text_encoder=pipe.text_encoder)
    pipe.save_lora_weights(FOLDER, unet_lora_layers=halved(unet), text_encoder_lora_layers=halved(text),
                           weight_name="peft.safetensors", **metadata)

    def alpha(layer):
        return next((a for key, a in own.items() if layer.endswith(key)), 8)
    save_file(kohya("lora_unet_", unet, alpha) | kohya(
        "lora_te_text_model_", text, lambda _: 2, lambda layer: layer.removeprefix("text_model.")),
        FOLDER / "kohya.safetensors", {"ss_network_dim": "4", "ss_network_module": "networks.lora"})

    # Attention alone, as diffusers' training scripts write it, and as its first versions did, by processors.
    pipe = opened("tiny-sd")
    attention = adapted(pipe.unet, 3, r=3, lora_alpha=3, target_modules=ATTENTION)
    text = adapted(pipe.text_encoder, 9, r=2, lora_alpha=4, target_modules=TEXT[:4])
    pipe.save_lora_weights(FOLDER, unet_lora_layers=halved(convert_state_dict_to_diffusers(attention)),
                           text_encoder_lora_layers=halved(convert_state_dict_to_diffusers(text)),
                           weight_name="diffusers.safetensors",
                           **described(unet=pipe.unet, text_encoder=pipe.text_encoder))
    old = {}
    for layer, (down, up) in layers(attention).items():
        block, part = layer.rsplit(".attn", 1)
        number, part = part.split(".", 1)
        stem = f"unet.{block}.attn{number}.processor.{part.removesuffix('.0')}_lora"
        old |= {f"{stem}.down.weight": down.half(), f"{stem}.up.weight": up.half()}
    save_file(old, FOLDER / "processors.safetensors")

    for name, scales, files in (
            ("lora", [1.0], ["peft"]), ("lora_diffusers", [1.0], ["diffusers"]),
            ("lora_weak", [0.6], ["peft"]), ("lora_processors", [1.0], ["processors"]),
            ("lora_two", [0.7, -0.5], ["peft", "processors"])):
        pipe = opened("tiny-sd")
        for file in files:
            pipe.load_lora_weights(FOLDER, weight_name=f"{file}.safetensors", adapter_name=file)
        pipe.set_adapters(files, scales)
        latents = record.add(name, pipe, prompt, lora=[f"{f}.safetensors:{s}" for f, s in zip(files, scales)])
        assert (latents - plain).abs().max() > 0.01, name
    # In kohya's layout diffusers takes an attention layer's own alpha for the others': it draws from what the file was
    # made of.
    pipe = opened("tiny-sd")
    pipe.load_lora_weights(FOLDER, weight_name="peft.safetensors")
    record.add("lora_kohya", pipe, prompt, lora=["kohya.safetensors"])

    torch.manual_seed(4)
    scale = pipe.text_encoder.get_input_embeddings().weight.std()
    one, three = (torch.randn(n, 64) * scale for n in (1, 3))
    save_file({"<cat-toy>": one[0].clone()}, FOLDER / "cat.safetensors")
    save_file({"emb_params": three}, FOLDER / "my-style.safetensors")

    def inverted():
        pipe = opened("tiny-sd")
        pipe.load_textual_inversion(FOLDER, weight_name="cat.safetensors")
        pipe.load_textual_inversion({"<s>": three.clone()}, token="<s>")
        return pipe
    files = {"embedding": ["cat.safetensors", "my-style.safetensors:<s>"]}
    record.add("inversion_one", inverted(), "a <cat-toy> face", **files)
    record.add("inversion_three", inverted(), "a <cat-toy>, in the style of <s>", **files)
    # Within words, next to punctuation and more than once.
    record.add("inversion_joined", inverted(), "Face<s>heart <cat-toy><cat-toy>.", **files)


def stable_diffusion_xl(record):
    prompt = "a red heart"
    plain = record.add("xl_plain", opened("tiny-xl"), prompt, "tiny-xl")
    pipe = opened("tiny-xl")
    unet = adapted(pipe.unet, 5, r=4, lora_alpha=4,
                   target_modules=EVERYTHING + ["add_embedding.linear_1", "conv_shortcut"])
    texts = [adapted(encoder, 6 + i, r=2, lora_alpha=4, target_modules=TEXT)
             for i, encoder in enumerate((pipe.text_encoder, pipe.text_encoder_2))]
    metadata = described(unet=pipe.unet, text_encoder=pipe.text_encoder, text_encoder_2=pipe.text_encoder_2)
    pipe.save_lora_weights(FOLDER, unet_lora_layers=halved(unet), text_encoder_lora_layers=halved(texts[0]),
                           text_encoder_2_lora_layers=halved(texts[1]), weight_name="xl-peft.safetensors", **metadata)

    def original(layer):
        if layer == "add_embedding.linear_1":
            return "label_emb.0.0"
        key, = ldm_layout.unet({f"{layer}.weight": None}, pipe.unet.config)
        return key.removeprefix("model.diffusion_model.").removesuffix(".weight")
    save_file(kohya("lora_unet_", unet, lambda _: 4, original) | {
        key: value for number, text in enumerate(texts, 1)
        for key, value in kohya(f"lora_te{number}_text_model_", text, lambda _: 4,
                                lambda layer: layer.removeprefix("text_model.")).items()
    }, FOLDER / "xl-kohya.safetensors")
    pipe = opened("tiny-xl")
    pipe.load_lora_weights(FOLDER, weight_name="xl-peft.safetensors")
    latents = record.add("xl_lora", pipe, prompt, "tiny-xl", lora=["xl-peft.safetensors"])
    assert (latents - plain).abs().max() > 0.01
    record.add("xl_lora_kohya", pipe, prompt, "tiny-xl", lora=["xl-kohya.safetensors"])

    torch.manual_seed(8)
    pipe = opened("tiny-xl")
    vectors = {}
    for name, encoder, tokenizer in (("clip_l", pipe.text_encoder, pipe.tokenizer),
                                     ("clip_g", pipe.text_encoder_2, pipe.tokenizer_2)):
        vectors[name] = torch.randn(2, 12) * encoder.get_input_embeddings().weight.std()
        pipe.load_textual_inversion(
            {"ink": vectors[name].clone()}, token="ink", text_encoder=encoder, tokenizer=tokenizer)
    save_file(vectors, FOLDER / "ink.safetensors")
    record.add("xl_inversion", pipe, "a heart, ink", "tiny-xl", embedding=["ink.safetensors"])


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    record = Record()
    stable_diffusion(record)
    stable_diffusion_xl(record)
    (FOLDER / "runs.json").write_text(json.dumps(record.runs, indent=2) + "\n")
    save_file(record.tensors, FOLDER / "pictures.safetensors")


if __name__ == "__main__":
    main()
