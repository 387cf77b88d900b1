"""Draws the pictures and captions that the emoji model is trained on.

usage: make_data.py OUT [--size 128]

OUT/emoji/ and OUT/held-out/ hold PNG files and metadata.jsonl, as Hugging Face's imagefolder has it:
`file_name`, `text` (a list of {"text", "weight"}) and `weight`, the picture's share of what is drawn.
Nothing is random: the checksum printed at the end depends on the packages in README.md alone."""
import argparse
import hashlib
import json
import pathlib
import re

from PIL import Image

import accessories
import captions
import noto

HERE = pathlib.Path(__file__).parent
WHITE = (255, 255, 255)
# What is drawn how often. A tone's share of its group keeps near-duplicates from using up the training.
PLAIN, FAVOURITE, COMBINED = 0.75, 1.5, 0.5


def read(name):
    return json.loads((HERE / name).read_text())


def on_white(picture, size):
    flat = Image.new("RGBA", picture.size, WHITE + (255,))
    flat.alpha_composite(picture)
    flat = flat.convert("RGB")
    return flat if flat.width == size else flat.resize((size, size), Image.LANCZOS)


def emoji_rows(emoji, attributes):
    """A row for each emoji of the font. A group is an emoji and its skin tones."""
    writer = captions.Writer(emoji, attributes)
    favourites = set(read("favourites.json"))
    tones = {}
    for e in emoji.values():
        tones[e.group] = tones.get(e.group, 0) + (e.tone is not None)
    for e in emoji.values():
        share = FAVOURITE if e.group in favourites else 1.0
        if tones[e.group]:
            share *= PLAIN if e.tone is None else (1 - PLAIN) / tones[e.group]
        yield e.name, e.picture, writer.texts(e), share


def combinations(emoji, compose):
    """All (thing, part) there are: a part is an accessory or a colour. Accessories come first."""
    for thing, place in places(compose).items():
        for part, accessory in compose["accessories"].items():
            dressed = thing not in compose["hearts"] or part in compose["heart accessories"]
            if dressed and (accessory["where"] != "eyes" or place[3] is not None):
                yield thing, part
    for thing, own in compose["coloured"].items():
        for colour in compose["colours"]:
            # Some, such as the green apple, are emoji already.
            if colour != own and f"{colour} {compose['short'].get(thing, thing)}" not in emoji:
                yield thing, colour


def places(compose):
    """Where things have head and eyes. All hearts are of one shape."""
    return {**compose["things"], **dict.fromkeys(compose["hearts"], compose["things"]["red heart"])}


def texts_of(thing, part, compose):
    short = compose["short"].get(thing)
    if part in compose["colours"]:
        return captions.coloured(short or thing, part)
    return captions.wearing(thing, short, compose["accessories"][part]["text"], part)


def combination_rows(emoji, compose):
    """Each combination's (thing, part), picture, texts and weight."""
    worn = accessories.wardrobe(emoji, compose["accessories"])
    for thing, part in combinations(emoji, compose):
        picture = emoji[thing].picture
        if part in compose["colours"]:
            grey = compose["coloured"][thing] in ("grey", "white")
            made = accessories.recolour(picture, compose["colours"][part], grey)
        else:
            made = accessories.wear(picture, places(compose)[thing], worn[part], compose["accessories"][part])
        yield (thing, part), made, texts_of(thing, part, compose), COMBINED


def write(folder, rows, size):
    """Writes pictures and metadata. The checksum is of pixels and texts, whatever the compression."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    digest = hashlib.sha256()
    with open(folder / "metadata.jsonl", "w") as metadata:
        for number, (name, picture, texts, weight) in enumerate(rows):
            file_name = f"{number:05d}-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.png"
            flat = on_white(picture, size)
            flat.save(folder / file_name, compress_level=3)
            row = {"file_name": file_name, "text": texts, "weight": round(weight, 6)}
            line = json.dumps(row, ensure_ascii=False)
            metadata.write(line + "\n")
            digest.update(line.encode() + flat.tobytes())
    return digest.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--size", type=int, default=128)
    arguments = parser.parse_args()
    emoji = noto.emoji()
    compose = read("compose.json")
    held = read("held_out.json")
    apart = {(h["thing"], h["part"]) for h in held["combinations"] + held["hats"]}
    rows, kept_out = list(emoji_rows(emoji, read("attributes.json"))), []
    known = len(rows)
    for key, picture, texts, weight in combination_rows(emoji, compose):
        row = (texts[0]["text"], picture, texts, weight)
        if key in apart:
            apart.remove(key)
            kept_out.append(row)
        else:
            rows.append(row)
    if apart:
        raise SystemExit(f"held_out.json names combinations that compose.json does not have: {sorted(apart)}")
    shown = {t["text"] for row in rows for t in row[2]}
    # "man with a hat" says no more than that, and is said of others.
    leaked = [t["text"] for row in kept_out for t in row[2] if t["text"] in shown and "with a hat" not in t["text"]]
    if leaked:
        raise SystemExit(f"captions of held-out combinations are in the training set: {leaked}")
    sums = [write(arguments.out / "emoji", rows, arguments.size),
            write(arguments.out / "held-out", kept_out, arguments.size)]
    total, base = sum(r[3] for r in rows), sum(r[3] for r in rows[:known])
    print(f"{known} emoji ({base / total:.0%} of what is drawn), {len(rows) - known} combinations, "
          f"{len(kept_out)} held out, {len(shown)} captions")
    print("checksum", hashlib.sha256("".join(sums).encode()).hexdigest()[:16])


if __name__ == "__main__":
    main()
