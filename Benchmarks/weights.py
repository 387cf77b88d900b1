"""Memory and time of a denoising step by how weights are stored, and what computing several pictures at once gains.

    python weights.py --langevin PATH [--devices cpu,opencl:0] [--models emoji,sd15-random] [--rounds N]
                      [--weights f32,f16,q8_0,q4_K] [--batches 1,2,4,8] [--only memory|batch]

Prints two tables in markdown. Each row is a `langevin bench --suite step` of its own (one guided step of one picture, or
of each of several), so that no run's memory shows in another's. A model is `emoji`, which ships along, `sd15-random`, or
a path. Blocks (q8_0, q4_K, ...) are computed with in float32. "Memory" is the most that the device's tensors and scratch
held, empty where that was the 256 MiB with which the bandwidth is probed first; "Resident" the most that the process had in the warm runs above what it had before, the driver's own memory with it.
Devices: by default all of them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

# What the probe of a device's bandwidth allocates.
PROBED = 2**28


def measured(tool, model, device, rounds, options):
    """The row of a step, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.json"
        command = [tool, "bench", "--suite", "step", "--devices", device, "--rounds", str(rounds), "--quiet",
                   "--json", str(file)] + ([] if model == "emoji" else ["--model", model]) + options
        run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if not file.exists():
            return None, (run.stderr.strip().splitlines() or ["it failed"])[-1]
        row = json.loads(file.read_text())["rows"][0]
    if row.get("failure"):
        return None, row["failure"]
    if not row["verdict"]["isValidated"]:
        return None, "not right: " + row["verdict"]["note"]
    return row, None


def storage(name):
    return ["--precision", name] if name in ("f32", "f16", "bf16") else ["--encoding", name]


def megabytes(count):
    return "" if count is None else f"{count / 2**20:,.0f} MiB"


def device_peak(row):
    peak = row.get("devicePeak") or 0
    return megabytes(peak) if peak > PROBED else ""


def seconds(value):
    return f"{value:.3f} s" if value < 10 else f"{value:.1f} s"


def median(row):
    values = sorted(row["wall"]["values"])
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def memory_table(options):
    print("| Model | Device | Weights | Memory | Resident | Step |\n|---|---|---|---|---|---|", flush=True)
    for model in options.models:
        for device in options.devices:
            for name in options.weights:
                row, problem = measured(options.langevin, model, device, options.rounds, storage(name))
                cells = ([device_peak(row), megabytes(row.get("residentPeak")), seconds(median(row))]
                         if row else [problem, "", ""])
                print("| " + " | ".join([Path(model).name, device, name] + cells) + " |", flush=True)


def batch_table(options):
    heads = " | ".join(f"{count} at once" for count in options.batches)
    print(f"| Model | Device | {heads} |\n|---|---|" + "---|" * len(options.batches), flush=True)
    for model in options.models:
        for device in options.devices:
            cells, single = [], None
            for count in options.batches:
                row, problem = measured(options.langevin, model, device, options.rounds, ["--batch", str(count)])
                if not row:
                    cells.append(problem)
                    continue
                each = median(row) / count
                single = single or each
                gain = "" if len(cells) == 0 else f", {single / each:.2f} times as fast"
                cells.append(f"{seconds(each)} a picture{gain}, {megabytes(row.get('residentPeak'))}")
            print("| " + " | ".join([Path(model).name, device] + cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--langevin", required=True, help="the built tool")
    parser.add_argument("--devices")
    parser.add_argument("--models", default="emoji,sd15-random")
    parser.add_argument("--weights", default="f32,f16,q8_0,q4_K")
    parser.add_argument("--batches", default="1,2,4,8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["memory", "batch"])
    options = parser.parse_args()
    if not options.devices:
        listing = json.loads(subprocess.run(
            [options.langevin, "devices", "--json"], check=True, capture_output=True, text=True).stdout)
        usable = [device for device in listing["opencl"] if not device.get("problem")]
        options.devices = ",".join(["cpu"] + [f"opencl:{device['index']}" for device in usable])
    for name in ("devices", "models", "weights"):
        setattr(options, name, [part for part in getattr(options, name).split(",") if part])
    options.batches = [int(count) for count in options.batches.split(",")]
    if options.only != "batch":
        memory_table(options)
    if options.only is None:
        print()
    if options.only != "memory":
        batch_table(options)


if __name__ == "__main__":
    sys.exit(main())
