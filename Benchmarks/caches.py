"""What each cache of `langevin generate --cache` saves, and how far its pictures are from those of the full run.

    python caches.py --langevin PATH [--model DIR] [--devices cpu,opencl:0] [--caches deepcache:2,tgate:10,...]
                     [--prompts FILE] [--steps N] [--size W] [--rounds N] [--guidance G] [--precision f32]

Every round runs the full run and each cache by turns, as processes of their own, on the same prompts and seeds. Printed is
a Markdown table for each device: the time of all steps as a share of the full run's (the median over the rounds), the
latents' error (root mean square of the difference over that of the full run's) and the pictures' PSNR, both the mean over
the pictures with the worst beside it. Needs numpy, safetensors and Pillow.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

CACHES = ["deepcache:2", "deepcache:3", "deepcache:5", "deepcache:3:2", "tgate:10", "tgate:15", "tome:0.25", "tome:0.5"]
PROMPTS = ["red apple", "grinning face", "blue heart", "dog face", "rocket", "cherry blossom", "soccer ball", "pizza"]


def generate(arguments, device, cache, folder):
    """Seconds of all steps, latents [N, C, h, w] and pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [arguments.langevin, "generate", "--device", device, "--seed", "1", "--quiet", "--json"]
    command += ["--prompt-file", arguments.prompt_file, "--precision", arguments.precision]
    command += ["--save-latents", folder / "latents.safetensors", "--output", folder / "p.png"]
    for name, value in (("model", arguments.model), ("steps", arguments.steps), ("width", arguments.size),
                        ("height", arguments.size), ("guidance", arguments.guidance), ("cache", cache)):
        if value is not None:
            command += [f"--{name}", str(value)]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{cache or 'the full run'} on {device}: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    latents = load_file(folder / "latents.safetensors")["latents"].astype(np.float64)
    pictures = [np.asarray(Image.open(output["path"]).convert("RGB"), dtype=np.float64)
                for output in report["outputs"]]
    return sum(report["seconds"]["steps"]), report["settings"]["steps"], latents, pictures


def deviation(run, full):
    """The latents' errors and the pictures' PSNR in dB, one a picture."""
    (_, _, latents, pictures), (_, _, whole, originals) = run, full
    errors = [np.sqrt(((a - b) ** 2).mean() / (b ** 2).mean()) for a, b in zip(latents, whole)]
    squares = [((a - b) ** 2).mean() for a, b in zip(pictures, originals)]
    return errors, [10 * np.log10(255 ** 2 / square) if square > 0 else np.inf for square in squares]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--langevin", required=True)
    parser.add_argument("--model")
    parser.add_argument("--devices", default="cpu")
    parser.add_argument("--caches", default=",".join(CACHES))
    parser.add_argument("--prompts")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    caches = arguments.caches.split(",")
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        arguments.prompt_file = arguments.prompts or work / "prompts.txt"
        if arguments.prompts is None:
            arguments.prompt_file.write_text("\n".join(PROMPTS) + "\n")
        for device in arguments.devices.split(","):
            seconds, runs = {}, {}
            for _ in range(arguments.rounds):
                for cache in [None] + caches:
                    run = generate(arguments, device, cache, work / device.replace(":", "-") / str(cache).replace(":", "-"))
                    seconds.setdefault(cache, []).append(run[0])
                    runs[cache] = run
            full = statistics.median(seconds[None])
            count = len(runs[None][3])
            print(f"\n{device}, {runs[None][1]} steps, {count} pictures: {full / count:.2f} s a picture without a cache\n")
            print("| Cache | Time of the steps | Latents' error, mean (worst) | PSNR, mean (worst) |\n|---|---|---|---|")
            for cache in caches:
                errors, ratios = deviation(runs[cache], runs[None])
                print(f"| `{cache}` | {statistics.median(seconds[cache]) / full:.2f} "
                      f"| {np.mean(errors):.3f} ({max(errors):.3f}) | {np.mean(ratios):.1f} dB ({min(ratios):.1f}) |", flush=True)


main()
