"""Whole training steps of `langevin train` beside PyTorch's, by turns in one run.

    python train_peers.py clip|lora|ranks --langevin PATH [--model DIR] [--devices cpu,opencl:0] [--steps 4] [--rounds 2]
                          [--python PYTHON] [--json FILE]

`clip`: CLIP of Training/emoji/clip (256 wide, 4 layers) from nothing, batch 192. `lora`: adapters of rank 4 at the
attention of a full-size Stable Diffusion 1.5 at 512x512, batch 1, activations computed again in the backward pass; DIR
is the model's folder, such as Tests/Golden/make_sd15.py makes. `ranks`: the step of the emoji model, UNet and text
encoder, 64 samples, on one core, and by `mpirun -n 2` on one core each, PyTorch not in it.

A step is forward, backward, gradient clipping and AdamW. Ours reads and frames its pictures besides, averages the
weights and writes its log; PyTorch has its batch at hand, and latents and text states where ours has them cached. Steps
after the first of a process are compared by their medians; memory is the peak of the whole process. The pictures are
noise. PYTHON is an interpreter with torch, diffusers, transformers and pillow (default: this one).
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from peers import TORCH, cell

ROOT = pathlib.Path(__file__).parent.parent
CLIP = ROOT / "Training/emoji/clip"
EMOJI = ROOT / "Sources/Langevin/Resources/emoji-diffusion"
BATCH = {"clip": 192, "lora": 1, "diffusion": 64}
SIDE = {"clip": 64, "lora": 512, "diffusion": 64}


# The torch side: this file again, in an interpreter that has it.

def torch_clip(torch, batch):
    from transformers import CLIPConfig, CLIPModel
    config = CLIPConfig.from_pretrained(CLIP)
    model = CLIPModel(config).train()
    text = config.text_config
    pixels = torch.randn(batch, 3, config.vision_config.image_size, config.vision_config.image_size)
    tokens = torch.randint(0, text.vocab_size - 2, (batch, text.max_position_embeddings))
    tokens[:, -1] = text.eos_token_id
    return list(model.parameters()), lambda: model(
        input_ids=tokens, pixel_values=pixels, return_loss=True).loss


def torch_lora(torch, batch, folder):
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").train()
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    unet.enable_gradient_checkpointing()
    size = unet.config.sample_size
    noisy, noise = torch.randn(2, batch, 4, size, size)
    text = torch.randn(batch, 77, unet.config.cross_attention_dim)
    return [p for p in unet.parameters() if p.requires_grad], lambda: torch.nn.functional.mse_loss(
        unet(noisy, torch.full((batch,), 500), text).sample, noise)


def torch_steps(kind, steps, folder):
    """Prints JSON: the seconds of each step."""
    import torch
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(1)
    parameters, loss = torch_clip(torch, BATCH[kind]) if kind == "clip" else torch_lora(torch, BATCH[kind], folder)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    seconds = []
    for _ in range(steps):
        began = time.perf_counter()
        optimizer.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    print(json.dumps(seconds))


# The measuring side.

def make_data(folder, count, size):
    """An image folder of noise with captions."""
    from PIL import Image
    folder.mkdir()
    with open(folder / "metadata.jsonl", "w") as metadata:
        for index in range(count):
            Image.frombytes("RGB", (size, size), os.urandom(3 * size * size)).save(folder / f"{index:03d}.png")
            metadata.write(json.dumps({"file_name": f"{index:03d}.png", "text": f"a picture number {index}"}) + "\n")


def finished(command, **how):
    """The peak of a process's resident memory in bytes."""
    process = subprocess.Popen(command, **how)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed with status {process.returncode}")
    return usage.ru_maxrss * 1024


def theirs(arguments, kind):
    with tempfile.TemporaryFile("w+") as output:
        peak = finished([arguments.python, __file__, kind, "--child", "--steps", str(arguments.steps), "--model",
                         str(arguments.model)], stdout=output)
        output.seek(0)
        return {"seconds": json.loads(output.read())[1:], "peak": peak}


def ours(arguments, kind, device, work, before=()):
    with tempfile.TemporaryDirectory(dir=work) as folder:
        run = pathlib.Path(folder) / "run"
        model = {"clip": CLIP, "lora": arguments.model, "diffusion": EMOJI}[kind]
        command = [*before, arguments.langevin, "train", kind, "--model", model, "--data", work / "data",
                   "--batch", BATCH[kind], "--steps", arguments.steps, "--device", device, "--width", SIDE[kind],
                   "--height", SIDE[kind], "--output", run, "--sample-every", 0, "--quiet"]
        command += {"clip": [], "lora": ["--recompute"], "diffusion": ["--train-text-encoder"]}[kind]
        peak = finished([str(c) for c in command], stdout=subprocess.DEVNULL)
        ends = [json.loads(line)["seconds"] for line in (run / "log.jsonl").read_text().splitlines()]
        return {"seconds": [b - a for a, b in zip(ends, ends[1:])], "peak": peak}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=("clip", "lora", "ranks"))
    parser.add_argument("--langevin", help="the tool's binary, of a release build")
    parser.add_argument("--model", help="of lora: a Stable Diffusion 1.5 folder")
    parser.add_argument("--devices", default="cpu,opencl:0", help="of langevin, separated by commas")
    parser.add_argument("--steps", type=int, default=4, help="a run, at least 2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="an interpreter with torch and its friends")
    parser.add_argument("--json", help="write every measurement there")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return torch_steps(arguments.kind, arguments.steps, arguments.model)
    if not arguments.langevin or arguments.steps < 2 or (arguments.kind == "lora" and not arguments.model):
        parser.error("--langevin is needed, at least 2 steps, and for lora --model")

    kind = "diffusion" if arguments.kind == "ranks" else arguments.kind
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        make_data(work / "data", max(BATCH[kind], 8), SIDE[kind])
        devices = arguments.devices.split(",")
        if arguments.kind == "ranks":
            mpi = ["mpirun", "--allow-run-as-root", "-n", "2"]
            sides = {f"{d}, {title}": lambda d=d, before=before: ours(arguments, kind, d, work, before)
                     for d in devices for title, before in (("one core", ["taskset", "-c", "0"]), ("two ranks", mpi))}
        else:
            sides = {TORCH: lambda: theirs(arguments, kind)}
            sides |= {d: lambda d=d: ours(arguments, kind, d, work) for d in devices}
        results = {side: [] for side in sides}
        for turn in range(arguments.rounds):
            for side, measure in sides.items():
                results[side].append(measure())
                print(f"round {turn + 1}, {side}: {statistics.median(results[side][-1]['seconds']):.3f} s",
                      file=sys.stderr, flush=True)
    print(f"{arguments.kind}, batch {BATCH[kind]}, {arguments.rounds} rounds of {arguments.steps} steps, "
          f"{len(os.sched_getaffinity(0))} cores; ratios to the first\n")
    print(f"| median (range), ratio | {' | '.join(results)} |")
    print("|---" * (len(results) + 1) + "|")
    seconds = {side: [s for r in runs for s in r["seconds"]] for side, runs in results.items()}
    peaks = {side: [r["peak"] / 2**30 for r in runs] for side, runs in results.items()}
    first = next(iter(results))
    for title, columns in (("step, s", seconds), ("peak of the process, GiB", peaks)):
        print(f"| {title} | {' | '.join(cell(c, columns[first], 3) for c in columns.values())} |")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
