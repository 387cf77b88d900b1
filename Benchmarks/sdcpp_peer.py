"""stable-diffusion.cpp's side of peers.py, by its Python bindings (pip install stable-diffusion-cpp-python).

    python sdcpp_peer.py --model DIR [--steps 3]

Takes guided DDIM steps in float32 and reports as PyTorch's side of peers.py does. Threads are the cores that this
process may use. Its networks cannot be called by themselves, so that their outputs are not compared with anybody's.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import sys
import time

from peers import GUIDANCE, PROMPT


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a diffusers folder")
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    # It says what it does on standard output, where the report goes.
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from stable_diffusion_cpp import StableDiffusion

    threads, marks = len(os.sched_getaffinity(0)), []
    pipeline = StableDiffusion(model_path=str(arguments.model), wtype="f32", n_threads=threads, verbose=False)

    def ended(step, steps, _):
        # It also tells of the step before the first, and of other work in steps of its own.
        if steps == arguments.steps and step == len(marks) + 1:
            marks.append(time.monotonic())
            print(f"\nstep {step}/{steps}", file=sys.stderr, flush=True)

    size = 8 * json.loads((arguments.model / "unet/config.json").read_text())["sample_size"]
    pictures = pipeline.generate_image(
        PROMPT, width=size, height=size, cfg_scale=GUIDANCE, sample_method="ddim_trailing",
        sample_steps=arguments.steps, seed=1, progress_callback=ended)
    decoded = time.monotonic()
    if len(pictures) != 1 or len(marks) != arguments.steps:
        sys.exit(f"{len(pictures)} pictures after {len(marks)} steps")
    version = importlib.metadata.version("stable-diffusion-cpp-python")
    print(json.dumps({"steps": [b - a for a, b in zip(marks, marks[1:])], "decode": decoded - marks[-1],
                      "name": f"stable-diffusion.cpp of its bindings {version}, {threads} threads"}), file=report)


if __name__ == "__main__":
    main()
