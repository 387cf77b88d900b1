"""LyCORIS' and PEFT's relatives of LoRA, and what diffusers' pipelines make of them over Fixtures/tiny-sd and tiny-xl.

    python make_lycoris.py

writes Fixtures/lycoris: the files, and runs.json with pictures.safetensors, as make_adapters.py does. LoHa, LoKr and
DoRA are PEFT's; what PEFT has not (the cores of LoCon, DoRA over LoHa and LoKr, norms over inputs, and how A1111 and
ComfyUI scale DoRA) is written out here, and the weights are replaced.
"""

import json
import shutil

import torch
from diffusers import LCMScheduler, TCDScheduler
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model, inject_adapter_in_model
from peft.tuners.loha.layer import LoHaLayer
from peft.tuners.lokr.layer import LoKrLayer
from peft.tuners.lora.layer import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

import ldm_layout
from make_adapters import Record, halved, opened
from make_models import FIXTURES

FOLDER = FIXTURES / "lycoris"
# A linear layer in each place, 1x1 and 3x3 convolutions, a strided one.
UNET = ["to_q", "attn2.to_v", "ff.net.2", "proj_in", "resnets.0.conv1", "downsamplers.0.conv"]
TEXT = ["q_proj", "fc1"]


def flat(name):
    return name.replace(".", "_")


def original(pipe):
    """The original implementation's name of a layer of a UNet."""
    def name(layer):
        key, = ldm_layout.unet({f"{layer}.weight": None}, pipe.unet.config)
        return key.removeprefix("model.diffusion_model.").removesuffix(".weight")
    return name


def factors(layer):
    """{name: parameter} of a layer of PEFT."""
    names = [n for n in dir(layer) if n.startswith(("hada_", "lokr_"))]
    return {n: getattr(layer, n)["default"] for n in names if "default" in getattr(layer, n)}


def injected(model, seed, config):
    """{layer's name: its factors} of random values in float16; together half as large as the layer."""
    torch.manual_seed(seed)
    inject_adapter_in_model(config, model)
    result = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, (LoHaLayer, LoKrLayer)):
            continue
        parts = factors(layer)
        for parameter in parts.values():
            parameter.data.copy_(torch.randn_like(parameter))
        ratio = 0.5 * layer.get_base_layer().weight.std() / layer.get_delta_weight("default").std()
        for parameter in parts.values():
            parameter.data.copy_((parameter * ratio ** (1 / len(parts))).half().float())
        result[name] = {n: p.data.clone() for n, p in parts.items()}
    return result


def lycoris(prefix, layers, alpha, rename=lambda layer: layer):
    result = {}
    for layer, parts in layers.items():
        name = prefix + flat(rename(layer))
        result |= {f"{name}.{part}": value.half().contiguous() for part, value in parts.items()}
        result[f"{name}.alpha"] = torch.tensor(float(alpha))
    return result


def products(record, prompt):
    """LoHa and LoKr as PEFT computes them, convolutions with cores and without."""
    for kind, cored in ((LoHaConfig, False), (LoHaConfig, True), (LoKrConfig, False), (LoKrConfig, True)):
        name = ("loha" if kind is LoHaConfig else "lokr") + ("_core" if cored else "")
        pipe = opened("tiny-sd")
        more = {"decompose_both": cored, "decompose_factor": 4} if kind is LoKrConfig else {}
        layers = injected(pipe.unet, 1, kind(
            r=1 if more else 2, alpha=3, target_modules=UNET, use_effective_conv2d=cored, **more))
        # With rank 16 LoKr's factors are whole; LyCORIS' scale is then 1, and PEFT's alpha / rank still.
        rank, alpha = (16, 16) if more and not cored else (3, 2)
        text = injected(pipe.text_encoder, 2, kind(r=rank, alpha=alpha, target_modules=TEXT, **more))
        state = lycoris("lora_unet_", layers, 3) | lycoris("lora_te_text_model_", text, 1 if rank == 16 else alpha,
                                                           lambda layer: layer.removeprefix("text_model."))
        assert any(k.endswith(("hada_t1", "lokr_t2")) for k in state) == cored
        if kind is LoKrConfig:
            assert any(k.endswith("lokr_w2") for k in state) != cored
            assert any(k.endswith("lokr_w2_a") for k in state)
            assert any(k.endswith("lokr_w1_a") for k in state) == cored
        save_file(state, FOLDER / f"{name}.safetensors")
        record.add(name, pipe, prompt, lora=[f"{name}.safetensors"])

    # As PEFT writes them, with its settings beside them; LoKr's factors are whole.
    for name, config in (("peft-loha", LoHaConfig(r=2, alpha=5, target_modules=["to_q"])),
                         ("peft-lokr", LoKrConfig(r=16, alpha=24, target_modules=["to_q"], decompose_factor=4))):
        pipe = opened("tiny-sd")
        injected(pipe.unet, 3, config)
        state = {n: p.data for n, p in pipe.unet.named_parameters() if "hada_" in n or "lokr_" in n}
        other = get_peft_model(opened("tiny-sd").unet, config)
        for n, p in other.base_model.model.named_parameters():
            if n in state:
                p.data.copy_(state[n])
        other.save_pretrained(FOLDER / name)
        (FOLDER / name / "README.md").unlink()
        settings = FOLDER / name / "adapter_config.json"
        written = json.loads(settings.read_text())
        written["auto_mapping"] = written["base_model_name_or_path"] = None
        settings.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
        record.add(name.replace("-", "_"), pipe, prompt, lora=[name])


def dora(record, prompt):
    pipe = opened("tiny-sd")
    torch.manual_seed(4)
    for model, targets in ((pipe.unet, UNET), (pipe.text_encoder, TEXT)):
        model.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets, use_dora=True))
        for name, parameter in model.named_parameters():
            if "lora_magnitude_vector" in name:
                parameter.data.copy_(parameter * (1 + 0.3 * torch.randn_like(parameter)))
            elif "lora_" in name:
                fan = parameter[0].numel()
                parameter.data.copy_((0.7 * torch.randn_like(parameter) / fan ** 0.5).half().float())
    unet, text = (
        {k: v.clone() for k, v in get_peft_model_state_dict(m).items()} for m in (pipe.unet, pipe.text_encoder))
    pipe.save_lora_weights(FOLDER, unet_lora_layers=unet, text_encoder_lora_layers=text,
                           weight_name="dora.safetensors")
    # It draws with what was saved: transformers 5.23 loads no norms of a text encoder.
    for name, scale in (("dora", 1.0), ("dora_weak", 0.6)):
        for module in [*pipe.unet.modules(), *pipe.text_encoder.modules()]:
            if isinstance(module, LoraLayer):
                module.set_scale("default", scale)
        record.add(name, pipe, prompt, lora=[f"dora.safetensors:{scale}"])

    merged = {}
    for kind in ("unet", "text_encoder"):
        model = getattr(pipe, kind)
        for module in model.modules():
            if isinstance(module, LoraLayer):
                module.set_scale("default", 1.0)
                module.merge()
        merged[kind] = [p for n, p in model.named_parameters() if "lora_" not in n]

    # Kohya's layout. A1111 and ComfyUI go a share of the way from the weight to the changed one.
    state = {}
    for prefix, peft in (("lora_unet_", unet), ("lora_te_text_model_", text)):
        for key, value in peft.items():
            layer, part = key.removesuffix(".weight").rsplit(".", 1)
            layer = prefix + flat(layer.removeprefix("text_model."))
            part = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight",
                    "lora_magnitude_vector": "dora_scale"}[part]
            shape = [-1] + [1] * (value.ndim - 1 if value.ndim > 2 else 1)
            state[f"{layer}.{part}"] = value.reshape(shape).contiguous() if part == "dora_scale" else value
            state[f"{layer}.alpha"] = torch.tensor(2.0)
    save_file(state, FOLDER / "dora-kohya.safetensors")
    for name, scale in (("dora_kohya", 1.0), ("dora_kohya_weak", 0.6)):
        pipe = opened("tiny-sd")
        replace_weights(pipe, state, scale)
        if scale == 1:
            # One adapter in two layouts.
            for kind in ("unet", "text_encoder"):
                for module, other in zip(merged[kind], getattr(pipe, kind).parameters(), strict=True):
                    assert torch.allclose(module, other, atol=1e-5)
        record.add(name, pipe, prompt, lora=[f"dora-kohya.safetensors:{scale}"])


def tucker(core, left, right):
    return torch.einsum("ijhw,ip,jr->prhw", core, left, right)


def delta(parts, shape):
    """alpha / rank D, of LyCORIS' names of the factors."""
    parts = {k: v.float() for k, v in parts.items()}
    alpha = parts.pop("alpha")
    if "lora_mid.weight" in parts:
        up, down = parts["lora_up.weight"].flatten(1), parts["lora_down.weight"].flatten(1)
        full, rank = tucker(parts["lora_mid.weight"], up.T, down), down.shape[0]
        # It is what the three convolutions do one after another.
        x = torch.randn(1, shape[1], 5, 5)
        chain = torch.conv2d(torch.conv2d(torch.conv2d(x, parts["lora_down.weight"]), parts["lora_mid.weight"]),
                             parts["lora_up.weight"])
        assert torch.allclose(torch.conv2d(x, full), chain, atol=1e-4)
    elif "lora_down.weight" in parts:
        up, down = parts["lora_up.weight"].flatten(1), parts["lora_down.weight"].flatten(1)
        full, rank = up @ down, down.shape[0]
    elif "hada_w1_a" in parts:
        full = (parts["hada_w1_a"] @ parts["hada_w1_b"]) * (parts["hada_w2_a"] @ parts["hada_w2_b"])
        rank = parts["hada_w1_b"].shape[0]
    else:
        full = torch.kron(parts["lokr_w1"], parts["lokr_w2_a"] @ parts["lokr_w2_b"])
        rank = parts["lokr_w2_b"].shape[0]
    return (alpha / rank * full).reshape(shape)


def replace_weights(pipe, state, scale=1.0):
    layers = {}
    for key, value in state.items():
        layer, part = key.split(".", 1)
        layers.setdefault(layer, {})[part] = value
    modules = {"lora_unet_" + flat(n): m for n, m in pipe.unet.named_modules()}
    modules |= {"lora_te_text_model_" + flat(n.removeprefix("text_model.")): m
                for n, m in pipe.text_encoder.named_modules()}
    for name, parts in layers.items():
        weight = modules[name].weight
        norms = parts.pop("dora_scale", None)
        change = delta(parts, weight.shape)
        if norms is not None:
            whole = weight + change
            norms = norms.float()
            ofInputs = norms.shape[0] == 1
            axes = [i for i in range(weight.ndim) if i != (1 if ofInputs else 0)]
            change = whole / torch.linalg.vector_norm(whole, dim=axes, keepdim=True) * norms - weight
        weight.data.add_(scale * change)


def written_out(record, prompt):
    """LoCon with cores, and DoRA over LoHa and LoKr, of outputs and of inputs."""
    pipe = opened("tiny-sd")
    torch.manual_seed(5)

    def random(*shape):
        return (0.7 * torch.randn(shape) / shape[-1] ** 0.5).half()
    state = {}
    for name, layer in pipe.unet.named_modules():
        key = "lora_unet_" + flat(name)
        if name.endswith(("resnets.0.conv1", "downsamplers.0.conv")):
            out, inner = layer.weight.shape[:2]
            state |= {f"{key}.lora_down.weight": random(3, inner, 1, 1),
                      f"{key}.lora_mid.weight": random(3, 3, 3, 3),
                      f"{key}.lora_up.weight": random(out, 3, 1, 1), f"{key}.alpha": torch.tensor(2.0)}
    assert len(state) > 12
    save_file(state, FOLDER / "locon.safetensors")
    replace_weights(pipe, state, 0.5)
    record.add("locon_core", pipe, prompt, lora=["locon.safetensors:0.5"])

    pipe = opened("tiny-sd")
    state = {}
    for number, (name, layer) in enumerate(pipe.unet.named_modules()):
        key = "lora_unet_" + flat(name)
        if not name.endswith(("to_q", "ff.net.2", "resnets.0.conv1")):
            continue
        out, inner = layer.weight.shape[:2]
        taps = layer.weight[0, 0].numel()
        if name.endswith("to_q"):
            state |= {f"{key}.lokr_w1": random(4, 4), f"{key}.lokr_w2_a": random(out // 4, 1),
                      f"{key}.lokr_w2_b": random(1, inner // 4)}
        else:
            state |= {f"{key}.hada_w{i}_{part}": random(*shape) for i in (1, 2)
                      for part, shape in (("a", (out, 2)), ("b", (2, inner * taps)))}
        state[f"{key}.alpha"] = torch.tensor(2.0)
        ofInputs = number % 2 == 0
        axes = [i for i in range(layer.weight.ndim) if i != (1 if ofInputs else 0)]
        norms = torch.linalg.vector_norm(layer.weight, dim=axes, keepdim=True)
        state[f"{key}.dora_scale"] = norms * (1 + 0.2 * torch.randn_like(norms))
    shapes = [v.shape for k, v in state.items() if k.endswith("dora_scale")]
    assert {s[0] == 1 for s in shapes} == {True, False}
    save_file(state, FOLDER / "dora-lycoris.safetensors")
    replace_weights(pipe, state, 0.8)
    record.add("dora_lycoris", pipe, prompt, lora=["dora-lycoris.safetensors:0.8"])


def stable_diffusion_xl(record):
    """LoHa in the names of the original implementation, beside a LoRA."""
    pipe = opened("tiny-xl")
    state = lycoris("lora_unet_", injected(
        pipe.unet, 6, LoHaConfig(r=2, alpha=1, target_modules=UNET, use_effective_conv2d=True)), 1, original(pipe))
    for number, encoder in enumerate((pipe.text_encoder, pipe.text_encoder_2), 1):
        state |= lycoris(f"lora_te{number}_text_model_", injected(
            encoder, 6 + number, LoKrConfig(r=2, alpha=2, target_modules=TEXT, decompose_factor=2)), 2,
            lambda layer: layer.removeprefix("text_model."))
    save_file(state, FOLDER / "xl.safetensors")
    record.add("xl", pipe, "a red heart", "tiny-xl", lora=["xl.safetensors"])


def distilled(record, prompt):
    """A LoRA with the samplers of consistency models, in four steps, as LCM-LoRA and TCD-LoRA are used."""
    for name, scheduler in (("lcm", LCMScheduler), ("tcd", TCDScheduler)):
        pipe = opened("tiny-sd")
        pipe.load_lora_weights(FIXTURES / "adapters", weight_name="diffusers.safetensors")
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
        record.add(f"lora_{name}", pipe, prompt, lora=["../adapters/diffusers.safetensors"], sampler=name)


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    record = Record()
    prompt = "a grinning face"
    plain = record.add("plain", opened("tiny-sd"), prompt)
    products(record, prompt)
    dora(record, prompt)
    written_out(record, prompt)
    stable_diffusion_xl(record)
    distilled(record, prompt)
    for name, run in record.runs.items():
        assert run["model"] != "tiny-sd" or name == "plain" or (
            record.tensors[f"{name}.latents"] - plain).abs().max() > 0.01, name
    (FOLDER / "runs.json").write_text(json.dumps(record.runs, indent=2) + "\n")
    save_file(record.tensors, FOLDER / "pictures.safetensors")


if __name__ == "__main__":
    main()
