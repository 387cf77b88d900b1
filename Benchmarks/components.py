"""Full-size components of random weights: diffusers and transformers beside `langevin run`, one after the other.

    python components.py --langevin PATH --work DIR [--only NAME,...] [--devices cpu,opencl:0] [--python PYTHON]
                         [--calls N] [--keep]

For each component three processes: one makes the model in DIR and draws its inputs, one runs the reference on
them, one `langevin run` for each device. Printed: the seconds of one call of the network after the weights are
loaded, each process's peak memory by the kernel's count, and how far the outputs are apart (largest difference
over largest value). DIR needs room for one model at a time (up to 11 GB). PYTHON has torch, diffusers and
transformers (default: this one).
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

SD_DOWN = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
SD_UP = ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
KARLO_DOWN = ["ResnetDownsampleBlock2D"] + ["SimpleCrossAttnDownBlock2D"] * 3
KARLO_UP = ["SimpleCrossAttnUpBlock2D"] * 3 + ["ResnetUpsampleBlock2D"]
WAN_VAE = {"base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
           "temperal_downsample": [False, True, True]}

# The reference's first output as `langevin run` calls it, where that is not "sample".
OUTPUTS = {"text_encoder": "text_embeds", "image_encoder": "image_embeds", "vae.encode": "mean"}

# name: (component of `langevin run`, library, class, configuration, inputs by name: shape or list of numbers)
COMPONENTS = {
    "clip-l14-text": ("text_encoder", "transformers", "CLIPTextModelWithProjection", {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "projection_dim": 768, "vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406,
        "pad_token_id": 49407},
        {"input_ids": [[49406] + list(range(320, 395)) + [49407]]}),
    "clip-l14-image": ("image_encoder", "transformers", "CLIPVisionModelWithProjection", {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "patch_size": 14, "image_size": 224, "projection_dim": 768}, {"pixel_values": (1, 3, 224, 224)}),
    "sd2.1-unet": ("unet", "diffusers", "UNet2DConditionModel", {
        "sample_size": 64, "in_channels": 4, "out_channels": 4, "layers_per_block": 2,
        "block_out_channels": [320, 640, 1280, 1280], "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024, "use_linear_projection": True, "down_block_types": SD_DOWN,
        "up_block_types": SD_UP},
        {"sample": (2, 4, 64, 64), "timestep": [500.0, 500.0], "encoder_hidden_states": (2, 77, 1024)}),
    "sdxl-unet": ("unet", "diffusers", "UNet2DConditionModel", {
        "sample_size": 128, "in_channels": 4, "out_channels": 4, "layers_per_block": 2,
        "block_out_channels": [320, 640, 1280], "attention_head_dim": [5, 10, 20],
        "transformer_layers_per_block": [1, 2, 10], "cross_attention_dim": 2048, "use_linear_projection": True,
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]},
        {"sample": (1, 4, 128, 128), "timestep": [500.0], "encoder_hidden_states": (1, 77, 2048),
         "text_embeds": (1, 1280), "time_ids": [[1024.0, 1024.0, 0.0, 0.0, 1024.0, 1024.0]]}),
    "karlo-decoder": ("decoder", "diffusers", "UNet2DConditionModel", {
        "sample_size": 64, "in_channels": 3, "out_channels": 6, "layers_per_block": 3,
        "block_out_channels": [320, 640, 960, 1280], "attention_head_dim": 64, "cross_attention_dim": 1536,
        "only_cross_attention": False, "resnet_time_scale_shift": "scale_shift", "class_embed_type": "identity",
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "down_block_types": KARLO_DOWN,
        "up_block_types": KARLO_UP},
        {"sample": (2, 3, 64, 64), "timestep": [500.0, 500.0], "encoder_hidden_states": (2, 81, 1536),
         "class_labels": (2, 1280)}),
    "wan-1.3b-transformer": ("transformer", "diffusers", "WanTransformer3DModel", {
        "patch_size": [1, 2, 2], "num_attention_heads": 12, "attention_head_dim": 128, "in_channels": 16,
        "out_channels": 16, "text_dim": 4096, "freq_dim": 256, "ffn_dim": 8960, "num_layers": 30,
        "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "eps": 1e-6, "rope_max_seq_len": 1024},
        {"hidden_states": (1, 16, 5, 32, 32), "timestep": [500.0], "encoder_hidden_states": (1, 512, 4096)}),
    "wan-vae-encode": ("vae.encode", "diffusers", "AutoencoderKLWan", WAN_VAE, {"x": (1, 3, 17, 256, 256)}),
    "wan-vae-decode": ("vae.decode", "diffusers", "AutoencoderKLWan", WAN_VAE, {"z": (1, 16, 5, 32, 32)}),
}


def make(name, folder):
    """Writes the model's folder and its inputs. Torch's own initialisation, norms and biases as it leaves them."""
    import torch
    import diffusers
    import transformers
    from safetensors.torch import save_file

    _, library, class_name, config, inputs = COMPONENTS[name]
    torch.manual_seed(1)
    if library == "transformers":
        kind = transformers.CLIPTextConfig if "Text" in class_name else transformers.CLIPVisionConfig
        model = getattr(transformers, class_name)(kind(**config))
    else:
        model = getattr(diffusers, class_name)(**config)
    with torch.no_grad():
        # A table that modulates, drawn wide by its author, and layers that begin at zero, would hide the rest.
        for parameter in model.parameters():
            if parameter.dim() > 1 and not parameter.any():
                parameter.normal_(std=0.02)
    model.save_pretrained(folder / "model", max_shard_size="100GB")
    tensors = {}
    for key, value in inputs.items():
        if isinstance(value, tuple):
            tensors[key] = torch.randn(value)
        else:
            tensors[key] = torch.tensor(value, dtype=torch.int32 if key == "input_ids" else torch.float32)
    save_file(tensors, folder / "inputs.safetensors")


def reference(name, folder, calls):
    """Loads the model, calls it, writes the output and prints the last call's seconds."""
    import torch
    import diffusers
    import transformers
    from safetensors.torch import load_file, save_file

    component, library, class_name, _, _ = COMPONENTS[name]
    module = transformers if library == "transformers" else diffusers
    model = getattr(module, class_name).from_pretrained(folder / "model", torch_dtype=torch.float32).eval()
    inputs = load_file(folder / "inputs.safetensors")
    if "text_embeds" in inputs:
        inputs["added_cond_kwargs"] = {key: inputs.pop(key) for key in ("text_embeds", "time_ids")}
    if "timestep" in inputs and class_name != "WanTransformer3DModel":
        inputs["timestep"] = inputs["timestep"][:1]
    if "input_ids" in inputs:
        inputs["input_ids"] = inputs["input_ids"].long()
    call = {"vae.decode": getattr(model, "decode", None), "vae.encode": getattr(model, "encode", None)}.get(
        component, model)
    seconds = []
    with torch.inference_mode():
        for _ in range(calls):
            start = time.perf_counter()
            output = call(**inputs)[0]
            output = getattr(output, "mean", output) if component == "vae.encode" else output
            seconds.append(time.perf_counter() - start)
    save_file({"output": output.contiguous()}, folder / "reference.safetensors")
    print(json.dumps({"seconds": seconds[-1]}))


def process(command):
    """Runs a command to its end; the JSON that it prints and its peak memory in bytes."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    text = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(map(str, command))} failed with status {os.waitstatus_to_exitcode(status)}")
    return json.loads(text.strip() or "{}"), usage.ru_maxrss * 1024


def distance(python, folder, path, name):
    """The largest difference of an output from the reference's, over the largest value."""
    code = (
        "import sys; from safetensors.torch import load_file as load;"
        "own, other = load(sys.argv[1])[sys.argv[3]], load(sys.argv[2])['output']; assert own.shape == other.shape;"
        "print(f'{((own - other).abs().max() / other.abs().max()).item():.1e}')")
    return subprocess.run([python, "-c", code, path, folder / "reference.safetensors", name], check=True,
                          stdout=subprocess.PIPE, text=True).stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--langevin", help="the tool's binary, of a release build")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--only", help="names, separated by commas", default=",".join(COMPONENTS))
    parser.add_argument("--devices", default="cpu,opencl:0", help="of langevin, separated by commas")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with torch and diffusers")
    parser.add_argument("--calls", type=int, default=2, help="of each, the last of which counts")
    parser.add_argument("--keep", action="store_true", help="keep the models")
    parser.add_argument("--child", choices=["make", "reference"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    unknown = [name for name in names if name not in COMPONENTS]
    if unknown:
        parser.error(f"no component {', '.join(unknown)}; there are: {', '.join(COMPONENTS)}")
    if arguments.child:
        if arguments.child == "make":
            return make(names[0], arguments.work)
        return reference(names[0], arguments.work, arguments.calls)
    if not arguments.langevin:
        parser.error("--langevin is needed")
    print("| component | by | call, s | ratio | peak GiB | ratio | relative difference |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in names:
        component = COMPONENTS[name][0]
        folder = arguments.work / name
        folder.mkdir(parents=True, exist_ok=True)
        child = [arguments.python, __file__, "--work", folder, "--only", name, "--calls",
                 str(arguments.calls), "--child"]
        if not (folder / "inputs.safetensors").exists():
            subprocess.run(child + ["make"], check=True, stdout=subprocess.DEVNULL)
        report, peak = process(child + ["reference"])
        print(f"| {name} | torch | {report['seconds']:.2f} | | {peak / 2**30:.2f} | | |", flush=True)
        for device in arguments.devices.split(","):
            output = folder / "output.safetensors"
            own, memory = process([
                arguments.langevin, "run", component, "--model", folder / "model", "--inputs",
                folder / "inputs.safetensors", "--output", output, "--device", device, "--no-fallback", "--repeat",
                str(arguments.calls), "--json"])
            own_seconds = own["seconds"]["calls"][-1]
            difference = distance(arguments.python, folder, output, OUTPUTS.get(component, "sample"))
            print(f"| {name} | {device} | {own_seconds:.2f} | {own_seconds / report['seconds']:.2f}x | "
                  f"{memory / 2**30:.2f} | {memory / peak:.2f}x | {difference} |",
                  flush=True)
        if not arguments.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
