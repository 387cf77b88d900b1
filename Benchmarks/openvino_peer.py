"""OpenVINO's side of peers.py: Stable Diffusion's networks converted, compared with PyTorch's, and run.

    python openvino_peer.py convert|check|generate --model DIR --cache CACHE [--precision bf16] [--steps 3]
                            [--langevin PATH --device cpu]

`convert` writes the text encoder, the UNet (batch 2, for guidance) and the autoencoder's decoder to CACHE, in
float32 and with fixed shapes, and inputs with PyTorch's outputs; what was made from the same DIR before stays.
`check` prints as JSON how far the outputs of OpenVINO, or of langevin, are from PyTorch's: the largest difference
over the largest value. It fails where that is more than LIMITS allow. `generate` compiles the networks and takes
guided DDIM steps, without torch or diffusers, and reports as PyTorch's side of peers.py does.

Threads are the cores that this process may use. The precision is that of the arithmetic, and is always set.
"""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from peers import GUIDANCE, PROMPT

# By precision.
LIMITS = {"f32": 1e-4, "bf16": 0.1}
# Langevin's names of the networks that are timed; their output's is `sample`.
TIMED = {"unet": "unet", "decoder": "vae.decode"}


def convert(arguments):
    model, cache = arguments.model, arguments.cache
    source = "\n".join(f"{path.resolve()} {path.stat().st_mtime_ns}" for path in sorted(model.rglob("*.*")))
    stamp = cache / "made-from.json"
    if stamp.exists() and stamp.read_text() == source:
        return
    import openvino
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextModel

    cache.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    torch.manual_seed(1)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    config = json.loads((model / "unet/config.json").read_text())
    latents = torch.randn(2, 4, config["sample_size"], config["sample_size"])
    for name, kind, folder, method, inputs in (
            ("text_encoder", CLIPTextModel, "text_encoder", "forward", {"input_ids": torch.arange(154).view(2, 77)}),
            ("unet", UNet2DConditionModel, "unet", "forward", {
                "sample": latents, "timestep": torch.full((2,), 500.0),
                "encoder_hidden_states": torch.randn(2, 77, config["cross_attention_dim"])}),
            ("decoder", AutoencoderKL, "vae", "decode", {"z": latents[:1].clone()})):
        network = kind.from_pretrained(model / folder, torch_dtype=torch.float32).eval()
        network.forward = functools.partial(getattr(network, method), return_dict=False)
        with torch.no_grad():
            output = network(*inputs.values())[0]
            converted = openvino.convert_model(network, example_input=tuple(inputs.values()),
                                               input=[tuple(value.shape) for value in inputs.values()])
        openvino.save_model(converted, cache / f"{name}.xml", compress_to_fp16=False)
        save_file(inputs, cache / f"{name}.inputs.safetensors")
        save_file({"sample": output.contiguous()}, cache / f"{name}.output.safetensors")
    stamp.write_text(source)


def compiled(name, arguments):
    """A network that is ready to be called, and the number of its threads."""
    import openvino

    network = openvino.Core().compile_model(arguments.cache / f"{name}.xml", "CPU", {
        "INFERENCE_PRECISION_HINT": arguments.precision, "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
        "PERFORMANCE_HINT": "LATENCY", "ENABLE_HYPER_THREADING": True})
    taken = network.get_property("INFERENCE_PRECISION_HINT").to_string()
    if taken != arguments.precision:
        sys.exit(f"OpenVINO computes in {taken} instead of {arguments.precision}")
    return network, network.get_property("INFERENCE_NUM_THREADS")


def check(arguments):
    import numpy
    from safetensors.numpy import load_file

    differences, limit = {}, LIMITS[arguments.precision]
    for name, component in TIMED.items():
        inputs = arguments.cache / f"{name}.inputs.safetensors"
        if arguments.langevin:
            with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
                subprocess.run([
                    arguments.langevin, "run", component, "--model", arguments.model, "--inputs", inputs, "--output",
                    file.name, "--device", arguments.device, "--precision", arguments.precision, "--no-fallback",
                ], check=True, stdout=subprocess.DEVNULL)
                own = load_file(file.name)["sample"]
        else:
            own = compiled(name, arguments)[0](load_file(inputs))[0]
        reference = load_file(arguments.cache / f"{name}.output.safetensors")["sample"]
        difference = float(numpy.abs(own - reference).max() / numpy.abs(reference).max())
        # What is not a number is too far as well.
        if not difference <= limit:
            sys.exit(f"{name} by {arguments.device or 'OpenVINO'} in {arguments.precision} is {difference:.1e} from "
                     f"PyTorch's, more than {limit:.0e}")
        differences[name] = difference
    print(json.dumps(differences))


def generate(arguments):
    import numpy
    import openvino
    from transformers import CLIPTokenizer

    ids = CLIPTokenizer.from_pretrained(arguments.model / "tokenizer")(
        ["", PROMPT], padding="max_length", max_length=77, truncation=True, return_tensors="np").input_ids
    text = compiled("text_encoder", arguments)[0]([ids.astype(numpy.int64)])[0]
    unet, threads = compiled("unet", arguments)
    # DDIM of Stable Diffusion 1.5: how much of the picture is left at each time.
    left = numpy.cumprod(1 - numpy.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=numpy.float32)**2)
    latents = numpy.random.default_rng(1).standard_normal((1, *unet.input(0).shape[1:]), dtype=numpy.float32)
    stride, marks = 1000 // arguments.steps, []
    for step in range(arguments.steps):
        now = (arguments.steps - 1 - step) * stride + 1
        here, after = left[now], left[max(now - stride, 0)]
        plain, prompted = unet([latents.repeat(2, 0), numpy.full(2, now, numpy.float32), text])[0]
        noise = plain + GUIDANCE * (prompted - plain)
        latents = after**0.5 * (latents - (1 - here)**0.5 * noise) / here**0.5 + (1 - after)**0.5 * noise
        marks.append(time.monotonic())
        print(f"step {step + 1}/{arguments.steps}", file=sys.stderr, flush=True)
    decoder, _ = compiled("decoder", arguments)
    began = time.monotonic()
    decoder([latents / 0.18215])
    print(json.dumps({"steps": [b - a for a, b in zip(marks, marks[1:])], "decode": time.monotonic() - began,
                      "name": f"OpenVINO {openvino.__version__.split('-')[0]}, {threads} threads"}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["convert", "check", "generate"])
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a diffusers folder")
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="the folder of the converted networks")
    parser.add_argument("--precision", choices=LIMITS, default="f32", help="of the arithmetic")
    parser.add_argument("--langevin", help="of check: the tool's binary, compared in OpenVINO's place")
    parser.add_argument("--device", help="of --langevin")
    parser.add_argument("--steps", type=int, default=3, help="of generate")
    arguments = parser.parse_args()
    {"convert": convert, "check": check, "generate": generate}[arguments.command](arguments)


if __name__ == "__main__":
    main()
