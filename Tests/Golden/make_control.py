"""ControlNets, T2I-Adapters and IP-Adapters of diffusers with tiny random weights, alone and in whole pipelines.

    python make_control.py

writes Fixtures/control: NAME.outputs.safetensors, what a network or a UNet with additions computes of
NAME.inputs.safetensors in PyTorch's layouts; folders and files of the networks as they are distributed, and runs.json with latents.safetensors: what
pipelines over Fixtures/tiny-sd and tiny-xl draw with them. Weights are stored as float16 and computed in float32 from the
rounded values; noise is that of torch's CPU generator. Needs torch, diffusers, transformers, safetensors and Pillow.
"""

import json
import shutil

import numpy
import torch
from diffusers import (
    ControlNetModel, StableDiffusionAdapterPipeline, StableDiffusionControlNetPipeline, StableDiffusionPipeline,
    StableDiffusionXLAdapterPipeline, StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline, T2IAdapter,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

import ldm_layout
from make_models import FIXTURES, randomize

FOLDER = FIXTURES / "control"


def rounded(model, scale=1.0):
    """Random float16 values, in float32."""
    return randomize(model, scale).half().float()


def save(model, name):
    model.half().save_pretrained(FOLDER / name)
    model.float()


def write(name, inputs, outputs):
    for kind, tensors in (("inputs", inputs), ("outputs", outputs)):
        save_file({k: v.contiguous().clone() for k, v in sorted(tensors.items())},
                  FOLDER / f"{name}.{kind}.safetensors")


def numbered(name, tensors):
    return {f"{name}.{i}": t for i, t in enumerate(tensors)}


def unet_of(path, xl):
    """A UNet of the fixtures: of a pipeline's folder, or of a model's."""
    if xl is None:
        return UNet2DConditionModel.from_pretrained(FIXTURES / path, subfolder="unet", torch_dtype=torch.float32)
    model = UNet2DConditionModel.from_config(json.loads((FIXTURES / path / "config.json").read_text()))
    model.load_state_dict(load_file(FIXTURES / path / "weights.safetensors"))
    return model.eval()


# Networks alone

def controlnet(unet, name, embedding, **more):
    """Over the configuration of a UNet, with values of its own, saved as a folder."""
    model = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=embedding, load_weights_from_unet=False,
                                      **more)
    model = rounded(model)
    save(model, name)
    return model


def inputs(unet, size=(8, 12)):
    tensors = {"sample": torch.randn(2, 4, *size), "timestep": torch.tensor([981.0, 17.0]),
               "encoder_hidden_states": torch.randn(2, 7, unet.config.cross_attention_dim)}
    if unet.config.addition_embed_type:
        width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        tensors |= {"text_embeds": torch.randn(2, width),
                    "time_ids": torch.tensor([[32.0, 48, 0, 4, 32, 48], [16, 16, 0, 0, 32, 48]])}
    return tensors


def arguments(tensors):
    main = {k: tensors[k] for k in ("sample", "timestep", "encoder_hidden_states")}
    added = {k: tensors[k] for k in ("text_embeds", "time_ids") if k in tensors}
    return main | ({"added_cond_kwargs": added} if added else {})


def single_file(model, name):
    """In one file under the authors' names."""
    state = model.half().state_dict()
    model.float()
    count = len(model.controlnet_cond_embedding.blocks)
    places = {"controlnet_mid_block": "middle_block_out.0",
              "controlnet_cond_embedding.conv_in": "input_hint_block.0",
              "controlnet_cond_embedding.conv_out": f"input_hint_block.{2 * (count + 1)}"}
    places |= {f"controlnet_cond_embedding.blocks.{i}": f"input_hint_block.{2 * (i + 1)}" for i in range(count)}
    places |= {f"controlnet_down_blocks.{i}": f"zero_convs.{i}.0" for i in range(len(model.controlnet_down_blocks))}
    own = {k: v for k, v in state.items() if k.startswith("controlnet_")}
    config = dict(model.config) | {"up_block_types": []}
    names = ldm_layout.unet({k: None for k in state if k not in own}, config)
    renamed = {new.replace("model.diffusion_model.", "control_model."): state[old]
               for new, old in zip(names, (k for k in state if k not in own))}
    for key, value in own.items():
        layer, part = key.rsplit(".", 1)
        renamed[f"control_model.{places[layer]}.{part}"] = value
    save_file({k: v.half().contiguous() for k, v in renamed.items()}, FOLDER / f"{name}.safetensors")


def controlnet_alone(unet, model, name, picture):
    tensors = inputs(unet)
    picture = torch.rand(2, model.config.conditioning_channels, *picture)
    down, middle = model(**arguments(tensors), controlnet_cond=picture, conditioning_scale=0.7, return_dict=False)
    write(name, tensors | {"controlnet_cond": picture, "conditioning_scale": torch.tensor([0.7])},
          numbered("down_block_res_samples", down) | {"mid_block_res_sample": middle})


def adapter_alone(model, name, size):
    x = torch.rand(2, model.config.in_channels, *size)
    write(name, {"x": x}, numbered("features", model(x)))


def residuals_alone(unet, name, blocks):
    """A UNet with residuals of every kind, each kind alone and all together."""
    tensors = inputs(unet)
    # The way down's shapes, from a ControlNet of the same configuration.
    model = rounded(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8)))
    down, middle = model(**arguments(tensors), controlnet_cond=torch.rand(2, 3, 16, 24), return_dict=False)
    skips, middle = [torch.randn_like(s) for s in down], torch.randn_like(middle)
    blocks = [torch.randn(2, *shape) for shape in blocks]
    control = {"down_block_additional_residuals": skips, "mid_block_additional_residual": middle}

    def run(**more):
        # The reference adds to what it is given.
        copies = {k: [t.clone() for t in v] if isinstance(v, list) else v.clone() for k, v in more.items()}
        return unet(**arguments(tensors), **copies).sample
    write(name, tensors | numbered("down_block_additional_residuals", skips) | {
        "mid_block_additional_residual": middle} | numbered("down_intrablock_additional_residuals", blocks), {
        "plain": run(), "control": run(**control), "adapter": run(down_intrablock_additional_residuals=blocks),
        "both": run(**control, down_intrablock_additional_residuals=blocks)})


# IP-Adapters

def ip_adapter(unet, name, images, plus):
    """A file in the authors' layout."""
    context = unet.config.cross_attention_dim
    state = {}

    def linear(key, outputs, ins, bias=False):
        state[key + ".weight"] = torch.randn(outputs, ins) / ins ** 0.5
        if bias:
            state[key + ".bias"] = 0.2 * torch.randn(outputs)

    def norm(key, width):
        state[key + ".weight"], state[key + ".bias"] = 1 + 0.3 * torch.randn(width), 0.2 * torch.randn(width)
    if plus:
        width, inner = 24, 128
        state["image_proj.latents"] = torch.randn(1, 5, width)
        linear("image_proj.proj_in", width, images, True)
        linear("image_proj.proj_out", context, width, True)
        norm("image_proj.norm_out", context)
        for i in range(4):
            layer = f"image_proj.layers.{i}"
            norm(f"{layer}.0.norm1", width)
            norm(f"{layer}.0.norm2", width)
            linear(f"{layer}.0.to_q", inner, width)
            linear(f"{layer}.0.to_kv", 2 * inner, width)
            linear(f"{layer}.0.to_out", width, inner)
            norm(f"{layer}.1.0", width)
            linear(f"{layer}.1.1", 4 * width, width)
            linear(f"{layer}.1.3", width, 4 * width)
    else:
        linear("image_proj.proj", 4 * context, images, True)
        norm("image_proj.norm", context)
    for number, key in enumerate(unet.attn_processors):
        if key.endswith("attn2.processor"):
            width = unet.get_submodule(key.removesuffix(".processor")).to_k.weight.shape[0]
            linear(f"ip_adapter.{number}.to_k_ip", width, context)
            linear(f"ip_adapter.{number}.to_v_ip", width, context)
    state = {k: v.half() for k, v in state.items()}
    save_file(state, FOLDER / f"{name}.safetensors")
    return {k: v.float() for k, v in state.items()}


def ip_adapter_alone(unet, name, state, images):
    """Two pictures for each of two images."""
    tensors = inputs(unet)
    parts = {part: {k.removeprefix(part + "."): v for k, v in state.items() if k.startswith(part)}
             for part in ("image_proj", "ip_adapter")}
    unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    call = arguments(tensors)
    call["added_cond_kwargs"] = call.get("added_cond_kwargs", {}) | {"image_embeds": [images]}
    full = unet(**call).sample
    for processor in unet.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.6]
    tokens = unet.encoder_hid_proj([images])[0]
    write(name, tensors | {"images": images},
          {"tokens": tokens.flatten(1, 2), "full": full, "weak": unet(**call).sample})


# Pipelines

def opened(kind, model, **more):
    extra = {"add_watermarker": False} if model == "tiny-xl" else {
        "safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}
    pipe = kind.from_pretrained(FIXTURES / model, torch_dtype=torch.float32, **extra | more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class Record:
    def __init__(self):
        self.runs, self.tensors = {}, {}

    def add(self, name, pipe, model, arguments, prompt="a grinning face", negative="heart", guidance=4.0, width=16,
            **more):
        seed = 60 + len(self.runs)
        self.runs[name] = {"model": model, "prompt": prompt, "negativePrompt": negative, "guidance": guidance,
                           "width": width, "height": 16, "seed": seed, **more}
        self.tensors[name] = pipe(
            prompt, negative_prompt=negative, num_inference_steps=4, guidance_scale=guidance, width=width, height=16,
            output_type="latent", generator=torch.Generator().manual_seed(seed), **arguments).images


def encoder(name, width):
    model = rounded(CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=width)))
    save(model, name)
    return model


def picture(name, width, seed):
    """Bars and a box, as edges have them, in grey levels."""
    pixels = numpy.random.default_rng(seed).integers(0, 256, (16, width, 3), dtype=numpy.uint8)
    pixels[4:8] = 255
    image = Image.fromarray(pixels)
    image.save(FOLDER / f"{name}.png")
    return image


def pipelines(record):
    edges, wide, photo, other = (picture(n, w, i) for i, (n, w) in enumerate(
        (("edges", 16), ("wide", 24), ("photo", 20), ("other", 16))))
    unet = unet_of("tiny-sd", None)
    first, second = (controlnet(unet, f"controlnet-{n}", (8, 12)) for n in ("first", "second"))
    controlnet_alone(unet, first, "controlnet-first", (16, 24))
    # Instead of a folder.
    shutil.rmtree(FOLDER / "controlnet-second")
    single_file(second, "controlnet-second")
    full = rounded(T2IAdapter(in_channels=3, channels=[32, 32], num_res_blocks=2, downscale_factor=2))
    grey = rounded(T2IAdapter(in_channels=1, channels=[32, 32], num_res_blocks=1, downscale_factor=2))
    save(full, "t2i-full")
    save(grey, "t2i-grey")
    adapter_alone(full, "t2i-full", (16, 24))
    eyes = encoder("image_encoder", 24)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    seeing = {"image_encoder": eyes, "feature_extractor": processor}
    ip_adapter(unet, "ip-adapter", 24, False)
    ip_adapter(unet, "ip-adapter-plus", 16, True)

    def control(name, **scale):
        return {"name": name, "image": "edges.png", **scale}
    record.add("plain", opened(StableDiffusionPipeline, "tiny-sd"), "tiny-sd", {})
    pipe = opened(StableDiffusionControlNetPipeline, "tiny-sd", controlnet=first)
    record.add("control", pipe, "tiny-sd", {"image": edges}, control=[control("controlnet-first", scale=1.0)])
    record.add("control_unguided", pipe, "tiny-sd", {"image": wide, "controlnet_conditioning_scale": 0.6}, guidance=1.0,
               width=24, control=[{"name": "controlnet-first", "image": "wide.png", "scale": 0.6}])
    pipe = opened(StableDiffusionControlNetPipeline, "tiny-sd", controlnet=[first, second])
    record.add("control_two", pipe, "tiny-sd",
               {"image": [edges, other], "controlnet_conditioning_scale": [0.8, 0.5]},
               control=[control("controlnet-first", scale=0.8),
                        {"name": "controlnet-second.safetensors", "image": "other.png", "scale": 0.5}])
    pipe = opened(StableDiffusionAdapterPipeline, "tiny-sd", adapter=full)
    record.add("t2i", pipe, "tiny-sd", {"image": edges, "adapter_conditioning_scale": 0.9},
               control=[control("t2i-full", scale=0.9)])
    pipe = opened(StableDiffusionAdapterPipeline, "tiny-sd", adapter=grey)
    record.add("t2i_grey", pipe, "tiny-sd", {"image": edges.convert("L")}, control=[control("t2i-grey", scale=1.0)])

    def prompted(kind, file, model, scale, **more):
        pipe = opened(kind, model, **seeing, **more)
        pipe.load_ip_adapter(str(FOLDER), subfolder="", weight_name=file + ".safetensors", image_encoder_folder=None,
                             low_cpu_mem_usage=False)
        pipe.set_ip_adapter_scale(scale)
        return pipe, {"adapter": file + ".safetensors", "adapterScale": scale}
    pipe, more = prompted(StableDiffusionPipeline, "ip-adapter", "tiny-sd", 0.7)
    record.add("ip", pipe, "tiny-sd", {"ip_adapter_image": photo}, pictures=["photo.png"], **more)
    record.add("ip_two", pipe, "tiny-sd", {"ip_adapter_image": [[photo, other]]}, pictures=["photo.png", "other.png"],
               **more)
    record.add("ip_unguided", pipe, "tiny-sd", {"ip_adapter_image": photo}, guidance=1.0, pictures=["photo.png"], **more)
    pipe, more = prompted(StableDiffusionPipeline, "ip-adapter-plus", "tiny-sd", 1.0)
    record.add("ip_plus", pipe, "tiny-sd", {"ip_adapter_image": photo}, pictures=["photo.png"], **more)
    pipe, more = prompted(StableDiffusionControlNetPipeline, "ip-adapter", "tiny-sd", 0.5, controlnet=first)
    record.add("control_ip", pipe, "tiny-sd", {"image": edges, "ip_adapter_image": photo},
               control=[control("controlnet-first", scale=1.0)], pictures=["photo.png"], **more)

    unet = unet_of("tiny-xl", None)
    xl = controlnet(unet, "controlnet-xl", (4, 8))
    single_file(xl, "controlnet-xl")
    pipe = opened(StableDiffusionXLControlNetPipeline, "tiny-xl", controlnet=xl)
    record.add("xl_control", pipe, "tiny-xl", {"image": edges, "controlnet_conditioning_scale": 0.8},
               control=[control("controlnet-xl", scale=0.8)])
    # The UNet has two levels; an adapter of the published ones has four blocks.
    adapter = rounded(T2IAdapter(in_channels=3, channels=[8, 16], num_res_blocks=1, downscale_factor=4,
                                 adapter_type="full_adapter_xl"))
    save(adapter, "t2i-xl-short")
    pipe = opened(StableDiffusionXLAdapterPipeline, "tiny-xl", adapter=adapter)
    record.add("xl_t2i", pipe, "tiny-xl", {"image": edges}, control=[control("t2i-xl-short", scale=1.0)])
    ip_adapter(unet, "ip-adapter-xl", 24, False)
    pipe, more = prompted(StableDiffusionXLPipeline, "ip-adapter-xl", "tiny-xl", 0.7)
    record.add("xl_ip", pipe, "tiny-xl", {"ip_adapter_image": photo}, pictures=["photo.png"], **more)


def light():
    """By itself, of a seed of its own."""
    torch.manual_seed(1)
    adapter = rounded(T2IAdapter(in_channels=3, channels=[32], num_res_blocks=2, downscale_factor=2,
                                 adapter_type="light_adapter"))
    save(adapter, "t2i-light")
    adapter_alone(adapter, "t2i-light", (16, 24))


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()

    unet = unet_of("unet_sdxl", True)
    controlnet_alone(unet, controlnet(unet, "controlnet-sdxl", (4, 6, 8)), "controlnet-sdxl", (32, 48))
    adapter = rounded(T2IAdapter(in_channels=3, channels=[8, 8, 16, 16], num_res_blocks=1, downscale_factor=8,
                                 adapter_type="full_adapter_xl"))
    save(adapter, "t2i-sdxl")
    adapter_alone(adapter, "t2i-sdxl", (32, 48))
    residuals_alone(unet, "unet-sdxl", [(8, 4, 6), (8, 4, 6), (16, 2, 3), (16, 2, 3)])
    residuals_alone(unet_of("tiny-sd", None), "unet-sd", [(32, 8, 12), (32, 4, 6)])
    ip_adapter_alone(unet, "ip-adapter-sdxl", ip_adapter(unet, "ip-adapter-sdxl", 12, False), torch.randn(2, 2, 12))
    unet = unet_of("unet_sdxl", True)
    ip_adapter_alone(unet, "ip-adapter-plus-sdxl", ip_adapter(unet, "ip-adapter-plus-sdxl", 10, True),
                     torch.randn(2, 2, 9, 10))

    record = Record()
    pipelines(record)
    latents = record.tensors
    for name in latents:
        if name != "plain" and not name.startswith("xl"):
            assert name.endswith("unguided") or (latents[name] - latents["plain"]).abs().max() > 0.01, name
    (FOLDER / "runs.json").write_text(json.dumps(record.runs, indent=2) + "\n")
    save_file({k: v.contiguous().clone() for k, v in latents.items()}, FOLDER / "latents.safetensors")
    light()


if __name__ == "__main__":
    main()
