"""Makes the model that ships of a run: float16, with the list of its prompts and its card.

usage: export.py RUN OUT [--data DATA] [--figures FILE]

RUN is the folder of the last stage, with those of the earlier ones beside it, DATA what make_data.py wrote, FILE what check.py printed."""
import argparse
import json
import pathlib
import shutil
import struct

import numpy as np

CARD = pathlib.Path(__file__).parent / "card.md"
TYPES = {"F32": np.float32, "F16": np.float16}


def narrowed(data):
    """A safetensors file with every float32 tensor as float16."""
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8:8 + length]), data[8 + length:]
    kept = {"__metadata__": header.pop("__metadata__", {"format": "pt"})}
    parts, end = [], 0
    for name, entry in sorted(header.items()):
        first, last = entry["data_offsets"]
        values = np.frombuffer(body[first:last], TYPES[entry["dtype"]])
        if not np.isfinite(values).all() or np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise SystemExit(f"{name} has a number that float16 cannot hold")
        parts.append(values.astype(np.float16).tobytes())
        kept[name] = {"dtype": "F16", "shape": entry["shape"], "data_offsets": [end, end + len(parts[-1])]}
        end += len(parts[-1])
    text = json.dumps(kept, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def copy(source, out):
    for file in sorted(source.rglob("*")):
        place = out / file.relative_to(source)
        if file.is_dir():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        data = file.read_bytes()
        if file.suffix == ".safetensors":
            data = narrowed(data)
        elif file.name == "config.json" and '"dtype": "float32"' in data.decode():
            data = data.replace(b'"dtype": "float32"', b'"dtype": "float16"')
        place.write_bytes(data)


def prompts(data):
    """The first caption of each picture, without skin tones; what people look for comes first."""
    rows = map(json.loads, (data / "emoji" / "metadata.jsonl").read_text().splitlines())
    names = [row["text"][0]["text"] for row in sorted(rows, key=lambda row: -row["weight"])]
    return [name for name in names if not name.endswith("skin tone")]


def stage(run):
    """A row of the card's table."""
    settings = json.loads((run / "train.json").read_text())
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [e for e in entries if "samples" in e]
    work = sum(e["gflops"] / e["samples_per_second"] for e in steps) / len(steps) * steps[-1]["samples"]
    hours = sum(settings["batch"] / e["samples_per_second"] for e in steps) / 3600
    return (f"| `{run.name}.json` | {steps[-1]['step']:,} | {steps[-1]['samples']:,} | {hours:.1f} | "
            f"{work / 1e6:.1f} |")


def card(run, names, figures):
    side = json.loads((run / "train.json").read_text())["width"]
    stages = [run.parent / name for name in ("diffusion", "decoder", "diffusion-centred")]
    return CARD.read_text().format(
        side=side, stages="\n".join(stage(s) for s in stages), prompts=f"{len(names):,}",
        figures=figures.rstrip() or "not measured")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(".build/emoji/data"))
    parser.add_argument("--figures", type=pathlib.Path)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    copy(arguments.run / "model", arguments.out)
    names = prompts(arguments.data)
    (arguments.out / "prompts.txt").write_text("\n".join(names) + "\n")
    figures = arguments.figures.read_text() if arguments.figures else ""
    (arguments.out / "README.md").write_text(card(arguments.run, names, figures))
    print(arguments.out)


if __name__ == "__main__":
    main()
