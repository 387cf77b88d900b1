"""How the cost of a step grows: with the picture's size, with the batch and with a second device.

    python cost.py --langevin PATH --output NAME [--model DIR] [--devices opencl:0,cpu] [--sizes 256,512,...]
                   [--batches 1,2,4,8] [--batch-size W] [--steps N] [--patience S] [--alone]

Writes NAME.svg, four log-log plots (time and memory against size and batch), NAME.md with their figures, and NAME.json,
from which a second run goes on: a point that is there is not measured again, and one that takes longer than `--patience`
seconds is given up. Each point is a process of `langevin generate`. Time is that of a step of one picture: the fastest step
after the first, over the batch. Of several devices at once it is what more steps add to the run of as many pictures, over
steps and pictures. Memory is the process's peak. What `langevin generate --plan` says does not fit is marked and not run.
A curve's slope is its exponent: the least-squares line through the logarithms.
"""

import argparse
import datetime
import json
import math
import pathlib
import re
import subprocess
import tempfile

COLORS = ["#0b5cad", "#c2410c", "#15803d", "#7c3aed"]


def run(tool, arguments, patience):
    """Standard output and error; None where it took too long."""
    try:
        done = subprocess.run([tool, "generate", "grinning face", "--seed", "1", *map(str, arguments)],
                              capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout, done.stderr


def measure(options, devices, size, batch, scratch):
    """{seconds, bytes} of a point, or {problem}."""
    several = "," in devices
    common = ["--width", size, "--height", size, "--quiet", "--count", 2 * len(devices.split(",")) if several else batch,
              "--batch", batch, "--devices" if several else "--device", devices]
    if options.model:
        common += ["--model", options.model]
    for device in devices.split(","):
        alone = [word if word not in ("--devices", devices) else {"--devices": "--device"}.get(word, device)
                 for word in common]
        plan = run(options.langevin, alone + ["--plan"], options.patience)
        words = re.search(r"this needs (.*?) for", plan[1]) if plan else None
        if words:
            return {"problem": f"does not fit: needs {words[1]}"}

    def timed(steps):
        done = run(options.langevin, common + ["--json", "--steps", steps, "--output", scratch / "p.png"], options.patience)
        return done and json.loads(done[0])

    report = timed(options.steps)
    if report is None:
        return {"problem": f"takes longer than {options.patience:.0f} s"}
    seconds = min(report["seconds"]["steps"][1:] or report["seconds"]["steps"]) / batch
    if several:
        more = timed(3 * options.steps)
        if more is None:
            return {"problem": f"takes longer than {options.patience:.0f} s"}
        added = more["seconds"]["total"] - report["seconds"]["total"]
        seconds = added / (2 * options.steps * len(report["outputs"]))
    return {"seconds": seconds, "bytes": report["memory"]["processPeakBytes"]}


def slope(points):
    """The exponent of a power law through points (x, y); None of fewer than two."""
    logs = [(math.log(x), math.log(y)) for x, y in points if y > 0]
    if len(logs) < 2:
        return None
    mx, my = (sum(column) / len(logs) for column in zip(*logs))
    return sum((x - mx) * (y - my) for x, y in logs) / sum((x - mx) ** 2 for x, _ in logs)


def nice(low, high):
    """1, 2 and 5 times powers of ten that bracket a range."""
    steps = [m * 10.0 ** e for e in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)]
    first = max(s for s in steps if s <= low * 1.0001)
    last = min(s for s in steps if s >= high * 0.9999)
    # One more: room for the names.
    return [s for s in steps if first <= s <= 2.6 * last]


class Panel:
    """One log-log plot at a place of the drawing."""
    width, height = 330, 230

    def __init__(self, x, y, title, unit, ticks, series):
        self.x, self.y, self.title, self.unit, self.series = x, y, title, unit, series
        values = [v for points, _ in series.values() for _, v in points] or [1]
        self.xs, self.ys = ticks, nice(min(values), max(values))
        if len(self.ys) < 2:
            self.ys = [self.ys[0] / 2, self.ys[0], self.ys[0] * 2]

    def place(self, x, y):
        def part(value, ticks):
            return (math.log(value) - math.log(ticks[0])) / (math.log(ticks[-1]) - math.log(ticks[0]) or 1)
        return self.x + part(x, self.xs) * self.width, self.y + self.height - part(y, self.ys) * self.height

    def svg(self):
        lines = [f'<text x="{self.x}" y="{self.y - 12}" font-weight="bold">{self.title}</text>']
        for tick in self.xs:
            px, _ = self.place(tick, self.ys[0])
            lines.append(f'<line x1="{px:.1f}" y1="{self.y}" x2="{px:.1f}" y2="{self.y + self.height}" stroke="#ddd"/>'
                         f'<text x="{px:.1f}" y="{self.y + self.height + 16}" text-anchor="middle">{tick:g}</text>')
        for tick in self.ys:
            _, py = self.place(self.xs[0], tick)
            lines.append(f'<line x1="{self.x}" y1="{py:.1f}" x2="{self.x + self.width}" y2="{py:.1f}" stroke="#ddd"/>'
                         f'<text x="{self.x - 6}" y="{py + 4:.1f}" text-anchor="end">{tick:g} {self.unit}</text>')
        for index, (name, (points, missing)) in enumerate(self.series.items()):
            color = COLORS[index % len(COLORS)]
            at = [self.place(*point) for point in points]
            lines.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" '
                         f'points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}"/>')
            lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>' for x, y in at]
            for x in missing:
                px, py = self.place(x, self.ys[-1])
                lines.append(f'<text x="{px:.1f}" y="{py + 14 + 14 * index:.1f}" text-anchor="middle" fill="{color}">×</text>')
            exponent = slope(points)
            label = name + (f": slope {exponent:.2f}" if exponent is not None else "")
            y = self.y + 16 + 15 * index
            lines.append(f'<rect x="{self.x + 4}" y="{y - 12}" width="{38 + 6.5 * len(label):.0f}" height="15" fill="white"/>'
                         f'<line x1="{self.x + 8}" y1="{y - 4}" x2="{self.x + 28}" y2="{y - 4}" stroke="{color}" '
                         f'stroke-width="2"/><text x="{self.x + 34}" y="{y}">{label}</text>')
        return lines


def curves(found, devices, axis, fixed, values, key, scale=1):
    """By devices: the points that were measured, and the values of those that could not be."""
    series = {}
    for names in devices:
        points, missing = [], []
        for value in values:
            size, batch = (value, fixed) if axis == "size" else (fixed, value)
            point = found.get(f"{names} {size} {batch}")
            if point and "problem" in point:
                missing.append(value)
            elif point:
                points.append((value, point[key] / scale))
        if points or missing:
            series[names.replace(",", " + ")] = (points, missing)
    return series


def drawing(options, found, devices, title):
    singles = [names for names in devices if "," not in names]
    panels = []
    for row, (key, what, unit, scale) in enumerate([("seconds", "A step of one picture", "s", 1),
                                                    ("bytes", "Peak memory", "GiB", 2 ** 30)]):
        y = 85 + row * 310
        panels.append(Panel(80, y, f"{what}, by the side in pixels", unit, options.sizes,
                            curves(found, devices, "size", 1, options.sizes, key, scale)))
        panels.append(Panel(520, y, f"{what}, by the batch ({options.batch_size} pixels)", unit, options.batches,
                            curves(found, singles, "batch", options.batch_size, options.batches, key, scale)))
    body = [f'<text x="80" y="28" font-size="15">{title}</text>',
            '<text x="80" y="46" fill="#555">×: does not fit into memory, or takes too long</text>'] + [line for panel in panels for line in panel.svg()]
    return ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 890 665" font-family="sans-serif" font-size="12">'
            '<rect width="890" height="665" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n")


def table(options, found, devices, title):
    lines = [f"# How the cost of a step grows: {title}", "",
             f"`Benchmarks/cost.py`, {options.steps} steps a run. Seconds are a step of one picture, memory is the process's peak.",
             "", "| Devices | Side | Batch | Step of one picture | Memory |", "|---|---|---|---|---|"]
    order = [(names, size, 1) for names in devices for size in options.sizes]
    order += [(names, options.batch_size, batch) for names in devices if "," not in names for batch in options.batches]
    for names, size, batch in dict.fromkeys(order):
        point = found.get(f"{names} {size} {batch}")
        if point:
            figures = (f"{point['seconds']:.3f} s | {point['bytes'] / 2 ** 30:.2f} GiB" if "seconds" in point
                       else f"{point['problem']} | ")
            lines.append(f"| {names.replace(',', ' + ')} | {size} | {batch} | {figures} |")
    return "\n".join(lines) + "\n"


def main():
    def numbers(text):
        return [int(word) for word in text.split(",")]
    parser = argparse.ArgumentParser()
    parser.add_argument("--langevin", required=True)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--model")
    parser.add_argument("--devices", default="cpu")
    parser.add_argument("--sizes", type=numbers, default=[256, 384, 512, 768, 1024, 1536])
    parser.add_argument("--batches", type=numbers, default=[1, 2, 4, 8])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--patience", type=float, default=400)
    parser.add_argument("--alone", action="store_true")
    options = parser.parse_args()
    devices = options.devices.split(",")
    devices += [options.devices] if len(devices) > 1 and not options.alone else []
    kept = options.output.with_suffix(".json")
    state = json.loads(kept.read_text()) if kept.exists() else {"points": {}}
    processor = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    state.setdefault("title", f"{pathlib.Path(options.model).name if options.model else 'the shipped model'}, "
                              f"{processor}, {datetime.date.today()}")
    points = [(names, size, 1) for size in options.sizes for names in devices]
    points += [(names, options.batch_size, batch) for batch in options.batches for names in devices if "," not in names]
    for names, size, batch in points:
        name = f"{names} {size} {batch}"
        if name not in state["points"]:
            with tempfile.TemporaryDirectory() as scratch:
                state["points"][name] = measure(options, names, size, batch, pathlib.Path(scratch))
            print(name, state["points"][name], flush=True)
            kept.write_text(json.dumps(state, indent=1) + "\n")
    options.output.with_suffix(".svg").write_text(drawing(options, state["points"], devices, state["title"]))
    options.output.with_suffix(".md").write_text(table(options, state["points"], devices, state["title"]))


main()
