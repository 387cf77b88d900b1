"""PyTorch with diffusers beside langevin: the same Stable Diffusion folder, interleaved in one run.

    python peers.py --model DIR --langevin PATH [--devices cpu,opencl:0] [--openvino CACHE] [--bf16] [--steps 3]
                    [--rounds 2] [--python PYTHON] [--micro] [--json FILE]
    python peers.py --step [--torch-device cuda]
    python peers.py --train unet2d|emoji [--langevin PATH [--devices cpu,opencl:0]] [--ours "COMMAND"]... [--steps 3]
                    [--rounds 2] [--python PYTHON] [--json FILE]

A run is a whole process: it loads the model, encodes the prompt, takes guided DDIM steps (batch 2, float32) and
decodes the picture. Every process's times are taken by this one, from just before it is started, and its memory is
the kernel's count. Steps after the first are compared by their medians; ranges are over all rounds. The model's files
are read once before the first round, so that every process finds them in the file cache. PYTHON is an interpreter
with torch and diffusers (default: this one). --micro adds torch's rows for the shapes of the Operations benchmark.
DIR may come from Tests/Golden/make_sd15.py.

--openvino adds OpenVINO, which PYTHON then needs too (see openvino_peer.py). Networks are converted once, into the
folder CACHE; its time to the first step has their compilation in it, not the conversion. Before anything is timed,
the outputs of each side's UNet and decoder are compared with PyTorch's. --bf16 adds rows in bfloat16: langevin's
`--precision bf16`, PyTorch's dtype, and OpenVINO's inference precision where the processor has avx512_bf16.

The second form times PyTorch alone, and needs no folder: a guided step (batch 2) of Stable Diffusion 1.5's UNet with
random weights at 512x512, in float32 and, on a card, float16. It is what `langevin bench --suite step --model sd15-random` times.

The third form times one forward and backward pass (gradients of all parameters of the mean square of output - noise, in
float32, batch 64) of the networks in TRAINED below, and AdamW's step on them by itself. PyTorch takes its two layouts in
turn, and ratios are to the faster one. With --langevin the suite `gradients` of its bench takes its turn on each device;
the peak of its whole process has the probe's and the check's in it. A COMMAND of --ours is a shell's; it takes its turn
too, must do the same, and prints a line of JSON among others:

    {"name": "cpu", "seconds": [2.1, 2.2], "update": [0.02, 0.02], "peak": 1200000000}

`seconds` are those of each pass but the first, `update` (may be left out) those of AdamW, `peak` the most bytes resident
during the passes (not AdamW's) above those before the model was built. --steps is the passes of a process.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
PROMPT = "a photograph of an astronaut riding a horse"
GUIDANCE = 7.5
TORCH, OPENVINO = "torch", "openvino"


# The torch side: this file again, in an interpreter that has it.

def torch_generate(model, steps, precision):
    """Prints a line a step in langevin's form, and the steps' and decoder's seconds as JSON."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    pipeline = StableDiffusionPipeline.from_pretrained(
        model, torch_dtype={"f32": torch.float32, "bf16": torch.bfloat16}[precision], safety_checker=None,
        requires_safety_checker=False)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    marks = []

    def ended(_, step, __, values):
        marks.append(time.monotonic())
        print(f"step {step + 1}/{steps}", file=sys.stderr, flush=True)
        return values

    pipeline(PROMPT, num_inference_steps=steps, guidance_scale=GUIDANCE, callback_on_step_end=ended,
             generator=torch.Generator().manual_seed(1))
    decoded = time.monotonic()
    print(json.dumps({"steps": [b - a for a, b in zip(marks, marks[1:])], "decode": decoded - marks[-1],
                      "name": f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"}))


def torch_step(device):
    """Prints the median seconds of a guided step as a Markdown table."""
    import torch
    from diffusers import UNet2DConditionModel

    name = torch.cuda.get_device_name() if device.startswith("cuda") else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__} on {device} ({name})\n")
    print("| guided step of Stable Diffusion 1.5 | median (range), s |\n|---|---|")
    # Processors have no float16 arithmetic worth timing.
    for dtype in (torch.float32,) if device == "cpu" else (torch.float32, torch.float16):
        torch.manual_seed(15)
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768).to(device, dtype).eval()
        x = torch.randn(2, 4, 64, 64, device=device, dtype=dtype)
        text = torch.randn(2, 77, 768, device=device, dtype=dtype)
        seconds = []
        with torch.inference_mode():
            while len(seconds) < 4 or (len(seconds) < 20 and sum(seconds) < 5):
                start = time.perf_counter()
                # Reading one number waits for the device.
                unet(x, 500, text).sample.flatten()[0].item()
                seconds.append(time.perf_counter() - start)
        seconds = seconds[1:]
        print(f"| {str(dtype).removeprefix('torch.')} | {statistics.median(seconds):.4f} "
              f"({min(seconds):.4f} to {max(seconds):.4f}) |", flush=True)
        del unet


# Training: what is built, and the shape of a context where there is one.

TRAINED = {
    "unet2d": ("UNet2DModel", dict(
        sample_size=32, in_channels=3, out_channels=3, layers_per_block=2, block_out_channels=(64, 128, 128),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D")), None),
    "emoji": ("UNet2DConditionModel", dict(
        sample_size=16, in_channels=8, out_channels=8, layers_per_block=1, block_out_channels=(96, 192, 192),
        cross_attention_dim=256,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")), (16, 256)),
}
# Their names in langevin's bench.
BENCH = {"unet2d": "unet2d", "emoji": "latent-unet"}
BATCH = 64


def torch_train(name, steps, layout):
    """Prints the JSON that --ours describes."""
    import diffusers
    import torch

    kind, config, context = TRAINED[name]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(1)
    # What importing takes is no part of training; a class is imported when it is first asked for.
    kind = getattr(diffusers, kind)
    start = resident()
    model = kind(**config).to(memory_format=getattr(torch, layout)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    size = config["sample_size"]
    x, noise = (torch.randn(BATCH, config["in_channels"], size, size).to(memory_format=getattr(torch, layout))
                for _ in range(2))
    inputs = [x, torch.randint(0, 1000, (BATCH,))] + ([torch.randn(BATCH, *context)] if context else [])
    seconds, update = [], []
    for _ in range(steps):
        optimizer.zero_grad()
        began = time.perf_counter()
        torch.nn.functional.mse_loss(model(*inputs).sample, noise).backward()
        seconds.append(time.perf_counter() - began)
    # Before AdamW makes its state, two numbers a parameter.
    peak = high_water(os.getpid()) - start
    for _ in range(steps):
        began = time.perf_counter()
        optimizer.step()
        update.append(time.perf_counter() - began)
    print(json.dumps({"name": f"{TORCH}, {layout.replace('_', ' ').removesuffix(' format')}", "seconds": seconds[1:],
                      "update": update[1:], "peak": peak}))


def last_report(text):
    """The last line that is a JSON object with seconds."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            report = json.loads(line)
            if "seconds" in report:
                return report
    sys.exit(f"no line of JSON with seconds in:\n{text}")


def bench_report(text):
    """What langevin's bench wrote of one row."""
    row = json.loads(text)["rows"][0]
    if not row["verdict"]["isValidated"]:
        sys.exit(f"{row['name']} on {row['device']}: {row.get('failure') or row['verdict']['note']}")
    return {"name": row["device"], "seconds": row["wall"]["values"], "peak": row.get("residentPeak"),
            "tensors": row.get("devicePeak")}


def train(arguments):
    child = [arguments.python, __file__, "--train", arguments.train, "--steps", str(arguments.steps), "--child-layout"]
    # Each with what reads its report, which a bench writes to a file.
    commands = [(child + [layout], last_report) for layout in ("contiguous_format", "channels_last")]
    if arguments.langevin:
        commands += [([arguments.langevin, "bench", "--suite", "gradients", "--model", BENCH[arguments.train], "--devices",
                       device, "--rounds", str(arguments.steps - 1), "--quiet", "--json"], bench_report)
                     for device in arguments.devices.split(",")]
    commands += [(["sh", "-c", f"exec {command}"], last_report) for command in arguments.ours]
    results = {}
    for turn in range(arguments.rounds):
        for index, (command, read) in enumerate(commands):
            with tempfile.NamedTemporaryFile("w+", suffix=".json") as output:
                benched = read is bench_report
                process = subprocess.Popen(command + [output.name] * benched,
                                           stdout=subprocess.DEVNULL if benched else output)
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    sys.exit(f"{' '.join(command)} failed with status {process.returncode}")
                report = read(pathlib.Path(output.name).read_text())
            report["whole"] = usage.ru_maxrss * 1024
            results.setdefault((index, report.get("name", f"ours {index - 1}")), []).append(report)
            print(f"round {turn + 1}, {report.get('name')}: {statistics.median(report['seconds']):.3f} s",
                  file=sys.stderr, flush=True)
    results = {name: reports for (_, name), reports in results.items()}

    def column(name, key):
        return [v for r in results[name] for v in (r[key] if isinstance(r.get(key), list) else [r.get(key)]) if v]

    names = list(results)
    fastest = min(names[:2], key=lambda name: statistics.median(column(name, "seconds")))
    print(f"{arguments.train}, batch {BATCH}, {arguments.rounds} rounds of {arguments.steps} passes, "
          f"{len(os.sched_getaffinity(0))} cores; ratios to {fastest}\n")
    print(f"| median (range), ratio | {' | '.join(names)} |")
    print("|---" * (len(names) + 1) + "|")
    for title, key, unit, digits in (
            ("forward and backward, s", "seconds", 1, 3), ("AdamW, s", "update", 1, 4),
            ("peak above the start, GiB", "peak", 2**30, 3), ("of it in tensors, GiB", "tensors", 2**30, 3),
            ("peak of the whole process, GiB", "whole", 2**30, 3)):
        columns = {name: [v / unit for v in column(name, key)] for name in names}
        cells = [cell(columns[name], columns[fastest], digits) if columns[name] else "" for name in names]
        print(f"| {title} | {' | '.join(cells)} |")
    return results


# The measuring side.

def resident():
    """Bytes of this process that are resident now."""
    text = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1)) * 1024


def high_water(pid):
    """The most memory a process has had resident so far, in bytes; its children's is not in it."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", text).group(1)) * 1024


def measure(command, steps):
    """Runs a process that reports its steps on standard error; returns what was seen from outside."""
    with tempfile.TemporaryFile("w+") as output:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True)
        seen, log = {}, []
        for line in process.stderr:
            log.append(line)
            match = re.search(rf"step (\d+)/{steps}\b", line)
            if match:
                seen[int(match.group(1))] = time.monotonic() - start
                until_steps = high_water(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0 or 1 not in seen or steps not in seen:
            sys.exit(f"{' '.join(command)} failed with status {process.returncode}:\n{''.join(log)}")
        output.seek(0)
        report = json.loads(output.read())
    return {"first": seen[1], "until_steps": until_steps, "peak": usage.ru_maxrss * 1024, "report": report}


def sides(arguments):
    """What takes its turn: a name with what computes (PyTorch, OpenVINO or a device) and the precision."""
    result = {}
    for kind in [TORCH] + [OPENVINO] * bool(arguments.openvino) + arguments.devices.split(","):
        result[kind] = (kind, "f32")
        if arguments.bf16 and kind == OPENVINO and "avx512_bf16" not in pathlib.Path("/proc/cpuinfo").read_text():
            print("No row of OpenVINO in bfloat16: this processor has no avx512_bf16.\n")
        elif arguments.bf16:
            result[f"{kind} bf16"] = (kind, "bf16")
    return result


def openvino_peer(command, arguments, precision="f32"):
    return [arguments.python, "-W", "ignore", f"{HERE}/openvino_peer.py", command, "--model", arguments.model,
            "--cache", arguments.openvino, "--precision", precision]


def check(name, kind, precision, arguments):
    """Prints how far a side's outputs are from PyTorch's; ends the program where that is too far."""
    command = openvino_peer("check", arguments, precision)
    if kind != OPENVINO:
        command += ["--langevin", arguments.langevin, "--device", kind]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if process.returncode:
        sys.exit(process.returncode)
    found = ", ".join(f"{network} {value:.1e}" for network, value in json.loads(process.stdout).items())
    print(f"- {name}, differences from {TORCH} over the largest value: {found}", flush=True)


def run(kind, precision, arguments, folder):
    steps = ["--steps", str(arguments.steps)]
    if kind in (TORCH, OPENVINO):
        child = [arguments.python, __file__, "--child-generate", precision, "--model", arguments.model]
        command = child if kind == TORCH else openvino_peer("generate", arguments, precision)
        result = measure(command + steps, arguments.steps)
        return result | result.pop("report")
    result = measure(
        [arguments.langevin, "generate", PROMPT, "--model", arguments.model, "--device", kind, "--no-fallback",
         "--precision", precision, "--sampler", "ddim", "--guidance", str(GUIDANCE), "--seed", "1", "--json",
         "--output", os.path.join(folder, "picture.png")] + steps, arguments.steps)
    report = result.pop("report")
    peak = report["memory"]["devicePeakBytes"] / 2**30
    return result | {"steps": report["seconds"]["steps"][1:], "decode": report["seconds"]["decode"],
                     "name": f"{report['deviceName']}, {peak:.2f} GiB in tensors"}


def cell(values, base, digits, second=None):
    """Median, range, and the ratios of medians to the base's and to a second one's, where there are such."""
    middle = statistics.median(values)
    text = f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
    return text + "".join(f", {middle / statistics.median(other):.2f}x"
                          for other in (base, second) if other and other is not values)


def table(results):
    columns = [
        ("start to end of first step, s", lambda r: [r["first"]], 2),
        ("guided step, s", lambda r: r["steps"], 3),
        ("decode, s", lambda r: [r["decode"]], 2),
        ("peak memory to the last step, GiB", lambda r: [r["until_steps"] / 2**30], 2),
        ("peak memory of the whole process, GiB", lambda r: [r["peak"] / 2**30], 2),
    ]
    cells = {name: [[v for r in runs for v in values(r)] for _, values, _ in columns] for name, runs in results.items()}
    print(f"| median (range), ratio to {TORCH}{f', to {OPENVINO} of the same precision' * (OPENVINO in results)} | "
          f"{' | '.join(title for title, _, _ in columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for name, row in cells.items():
        peer = None if name.startswith(TORCH) else cells.get(f"{OPENVINO} bf16" if name.endswith("bf16") else OPENVINO)
        texts = [cell(values, base, digits, other) for values, base, other, (_, _, digits)
                 in zip(row, cells[TORCH], peer or [None] * len(columns), columns)]
        print(f"| {name} | {' | '.join(texts)} |")
    print()
    for name, runs in results.items():
        print(f"- {name}: {runs[0]['name']}")


def pictures(arguments):
    turns = sides(arguments)
    if arguments.openvino:
        subprocess.run(openvino_peer("convert", arguments), check=True)
        for name, side in turns.items():
            if side[0] != TORCH:
                check(name, *side, arguments)
    for path in pathlib.Path(arguments.model).rglob("*"):
        if path.is_file():
            path.read_bytes()
    results = {name: [] for name in turns}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.rounds):
            for name, side in turns.items():
                result = run(*side, arguments, folder)
                results[name].append(result)
                print(f"round {turn + 1}, {name}: first step after {result['first']:.2f} s, then "
                      f"{statistics.median(result['steps']):.3f} s each", file=sys.stderr, flush=True)
    print(f"\n{arguments.model}, {arguments.steps} steps, {arguments.rounds} rounds, "
          f"{len(os.sched_getaffinity(0))} cores\n")
    table(results)
    if arguments.micro:
        output = subprocess.run([arguments.python, HERE / "torch_micro.py"], check=True, stdout=subprocess.PIPE).stdout
        results["micro"] = micro = json.loads(output)
        print(f"\n| torch {micro['version']}, {micro['threads']} threads | ms | GFLOP/s |\n|---|---|---|")
        for row in micro["rows"]:
            print(f"| {row['name']} | {row['ms']:.2f} | {row['gflops']:.0f} |")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a diffusers folder")
    parser.add_argument("--langevin", help="the tool's binary, of a release build")
    parser.add_argument("--devices", default="cpu,opencl:0", help="of langevin, separated by commas")
    parser.add_argument("--steps", type=int, default=3, help="a run, at least 2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="an interpreter with torch and diffusers")
    parser.add_argument("--openvino", metavar="CACHE", help="OpenVINO too; its converted networks are kept there")
    parser.add_argument("--bf16", action="store_true", help="rows in bfloat16 too")
    parser.add_argument("--micro", action="store_true", help="torch's rows for single operations too")
    parser.add_argument("--json", help="write every measurement there")
    parser.add_argument("--step", action="store_true", help="time torch's guided step alone")
    parser.add_argument("--torch-device", default="cpu", help="of --step: cpu or cuda")
    parser.add_argument("--train", choices=TRAINED, help="time a forward and backward pass of a network")
    parser.add_argument("--ours", action="append", default=[], metavar="COMMAND", help="of --train: see the docstring")
    parser.add_argument("--child-layout", help=argparse.SUPPRESS)
    parser.add_argument("--child-generate", choices=["f32", "bf16"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child_generate:
        return torch_generate(arguments.model, arguments.steps, arguments.child_generate)
    if arguments.step:
        return torch_step(arguments.torch_device)
    if arguments.steps < 2:
        parser.error("--steps must be at least 2: the first is not counted")
    if arguments.train and arguments.child_layout:
        return torch_train(arguments.train, arguments.steps, arguments.child_layout)
    if arguments.train:
        results = train(arguments)
    elif not arguments.model or not arguments.langevin:
        parser.error("--model and --langevin are needed")
    else:
        results = pictures(arguments)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
