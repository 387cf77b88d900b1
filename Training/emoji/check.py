"""Measures a model of emoji against its bars; exits 1 where one is missed.

usage: check.py MODEL --clip CLIP [--tool langevin] [--keep FOLDER]

MODEL is the folder of a text-to-image model, CLIP one of transformers' CLIPModel trained on the same data.
Pictures are drawn by `langevin generate`, one of each prompt, and judged by `langevin embed`."""
import argparse
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

import make_data
import noto

LOT, COUNT, NEAREST, SMALL, CHOICES = 13, 200, 5, 16, 8
WHITE_FROM = 250
MEGABYTES = 48
FORTY_EIGHT = (
    "grinning face|crying face|angry face|smiling face with sunglasses|face with tears of joy|"
    "sleeping face|red heart|blue heart|broken heart|cat face|dog face|panda|fox|lion|pig face|frog|"
    "monkey face|unicorn|penguin|owl|octopus|fish|butterfly|turtle|red apple|banana|strawberry|"
    "watermelon|pizza|hamburger|doughnut|ice cream|birthday cake|sunflower|cactus|evergreen tree|house|"
    "rocket|automobile|airplane|soccer ball|star|sun|rainbow|ghost|alien|robot|woman red hair").split("|")


class Figures:
    """What was measured, its bar, and whether all bars are met."""

    def __init__(self):
        self.met = True

    def add(self, what, value, bar, digits=0, at_most=False):
        good = value <= bar if at_most else value >= bar
        self.met = self.met and good
        side = "at most" if at_most else "at least"
        mark = "ok  " if good else "MISS"
        print(f"{mark}  {what}: {value:.{digits}f} ({side} {bar:.{digits}f})", flush=True)

    def note(self, text):
        print(f"      {text}", flush=True)


def run(tool, *arguments):
    # Progress and warnings stay on this terminal.
    return subprocess.run([tool, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout


def draw(tool, model, prompts, folder, seed, device):
    folder.mkdir(parents=True, exist_ok=True)
    listing = folder / "prompts.txt"
    listing.write_text("\n".join(prompts) + "\n")
    run(tool, "generate", "--model", model, "--prompt-file", listing, "--seed", seed, "--device", device,
        "--output", folder / "p.png", "--quiet")
    files = [folder / f"p-{i:0{len(str(len(prompts) - 1))}d}.png" for i in range(len(prompts))]
    return files, [Image.open(f).convert("RGB") for f in files]


def embed(tool, clip, texts, files, folder, device):
    """(texts, pictures) as rows of length 1."""
    out = folder / "embeddings.safetensors"
    arguments = ["embed", "--model", clip, "--device", device, "--output", out]
    for text in texts:
        arguments += ["--text", text]
    for file in files:
        arguments += ["--image", file]
    run(tool, *arguments)
    data = out.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])

    def tensor(name):
        first, last = (8 + length + offset for offset in header[name]["data_offsets"])
        return np.frombuffer(data[first:last], np.float32).reshape(header[name]["shape"])
    return tensor("text_embeds"), tensor("image_embeds")


def small(picture):
    return np.asarray(picture.resize((SMALL, SMALL), Image.BOX), np.float32).ravel()


def ranks(pictures, names, references):
    """How many emoji are nearer to each picture than the one of its name."""
    index = {name: i for i, name in enumerate(references)}
    table = np.stack(list(references.values()))
    found = []
    for picture, name in zip(pictures, names):
        distance = ((table - small(picture)) ** 2).sum(1)
        found.append(int((distance < distance[index[name]]).sum()))
    return np.array(found)


def white_border(pictures):
    ring = []
    for picture in pictures:
        a = np.asarray(picture).min(-1)
        ring += [a[0], a[-1], a[1:-1, 0], a[1:-1, -1]]
    return float((np.concatenate(ring) >= WHITE_FROM).mean())


def area_under_curve(positive, negative):
    wins = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
    return float(wins.mean())


def choices(right, combinations):
    """The right (thing, part), then four with another thing and three with another part."""
    draw = random.Random(f"{LOT} {right}")
    things = [c for c in combinations if c[1] == right[1] and c[0] != right[0]]
    parts = [c for c in combinations if c[0] == right[0] and c[1] != right[1]]
    colours = {p for _, p in combinations if p not in make_data.read("compose.json")["accessories"]}
    parts = [c for c in parts if (c[1] in colours) == (right[1] in colours)]
    return [right, *draw.sample(things, 4), *draw.sample(parts, CHOICES - 5)]


def right_first(rows, pictures):
    """How many pictures lie nearest to the first of their eight rows."""
    cosines = rows.reshape(len(pictures), CHOICES, -1) @ pictures[:, :, None]
    return int((cosines[..., 0].argmax(1) == 0).sum())


def check(arguments, work):
    figures = Figures()
    tool, device = arguments.tool, arguments.device
    emoji = {n: e for n, e in noto.emoji().items() if e.tone is None}
    flat = {n: make_data.on_white(e.picture, noto.SIDE) for n, e in emoji.items()}
    references = {n: small(p) for n, p in flat.items()}
    compose = make_data.read("compose.json")
    made = {key: make_data.on_white(picture, noto.SIDE)
            for key, picture, _, _ in make_data.combination_rows(noto.emoji(), compose)}
    kept = {kind: [(c["thing"], c["part"]) for c in entries]
            for kind, entries in make_data.read("held_out.json").items()}
    lot = random.Random(LOT).sample(sorted(emoji), COUNT)

    _, drawn = draw(tool, arguments.model, lot, work / "names", 1, device)
    rank = ranks(drawn, lot, references)
    figures.add(f"names of {COUNT} among the {NEAREST} nearest of {len(references)}",
                (rank < NEAREST).sum(), 150)
    figures.note(f"nearest: {(rank == 0).sum()}; median rank {int(np.median(rank)) + 1}")
    _, known = draw(tool, arguments.model, FORTY_EIGHT, work / "known", 1, device)
    rank = ranks(known, FORTY_EIGHT, references)
    figures.add("the 48 of the first model among the five nearest", (rank < NEAREST).sum(), 48)
    figures.add("the 48 of the first model nearest", (rank == 0).sum(), 47)

    eight = [key for right in kept["combinations"] for key in choices(right, list(made))]
    texts = [make_data.texts_of(*key, compose)[0]["text"] for key in eight]
    files, shown = draw(tool, arguments.model, texts[::CHOICES], work / "combinations", 1, device)
    actual = saved([made[key] for key in kept["combinations"]], work / "composed")
    rows, judged = embed(tool, arguments.clip, texts, files + actual, work, device)
    figures.add(f"combinations of {len(shown)} with the right caption first of {CHOICES}",
                right_first(rows, judged[:len(files)]), 30)
    figures.note(f"the judge on the composed pictures themselves: {right_first(rows, judged[len(files):])}")
    composed = np.stack([small(made[key]) for key in eight]).reshape(len(shown), CHOICES, -1)
    distance = ((composed - np.stack([small(picture) for picture in shown])[:, None]) ** 2).sum(-1)
    figures.note(f"nearest by colour pictures: {int((distance.argmin(1) == 0).sum())}")

    figures.add("border pixels within 5 of white, per cent", 100 * white_border(drawn), 95, 1)
    figures.note(f"of the emoji themselves: {100 * white_border(flat[n] for n in lot):.1f}")

    hats = saved([made[key] for key in kept["hats"]], work / "hats")
    bare = saved([flat[thing] for thing in compose["things"]], work / "bare")
    rows, judged = embed(tool, arguments.clip, ["a man with a hat", "a man"], hats + bare, work, device)
    along = judged @ (rows[0] - rows[1])
    figures.add("AUC of the hat direction on held-out hats",
                area_under_curve(along[:len(hats)], along[len(hats):]), 0.9, 2)

    size = sum(f.stat().st_size for f in pathlib.Path(arguments.model).rglob("*") if f.is_file()) / 1e6
    figures.add("megabytes of the folder", size, MEGABYTES, 1, at_most=True)
    return figures.met


def saved(pictures, folder):
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i:02d}.png" for i in range(len(pictures))]
    for file, picture in zip(files, pictures):
        picture.save(file)
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--clip", type=pathlib.Path, required=True)
    parser.add_argument("--tool", default="langevin")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the pictures, which else are deleted")
    arguments = parser.parse_args()
    if arguments.keep:
        met = check(arguments, arguments.keep)
    else:
        with tempfile.TemporaryDirectory() as folder:
            met = check(arguments, pathlib.Path(folder))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
