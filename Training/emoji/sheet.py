"""A picture of the pictures that check.py kept: the 48 names, then 24 of the held-out combinations.

usage: sheet.py KEPT OUT.png [--side 128]     KEPT is the folder that was given to check.py --keep"""
import argparse
import pathlib

from PIL import Image, ImageDraw, ImageFont

COLUMNS, LINE, COMBINATIONS = 12, 16, 24


def entries(folder):
    prompts = (folder / "prompts.txt").read_text().splitlines()
    return list(zip(sorted(folder.glob("p-*.png")), prompts, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kept", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--side", type=int, default=128)
    arguments = parser.parse_args()
    side, combinations = arguments.side, entries(arguments.kept / "combinations")
    # Every part of the list, which is sorted by kind, has its share.
    chosen = [combinations[i * len(combinations) // COMBINATIONS] for i in range(COMBINATIONS)]
    shown = entries(arguments.kept / "known") + chosen
    rows = -(-len(shown) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (side + 4), rows * (side + LINE + 4)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for i, (file, prompt) in enumerate(shown):
        x, y = i % COLUMNS * (side + 4), i // COLUMNS * (side + LINE + 4)
        sheet.paste(Image.open(file).convert("RGB").resize((side, side), Image.LANCZOS), (x + 2, y))
        while pen.textlength(prompt, font) > side:
            prompt = prompt.rstrip("…")[:-1].rstrip() + "…"
        pen.text((x + 2, y + side), prompt, "black", font)
    sheet.save(arguments.out)


if __name__ == "__main__":
    main()
