"""Golden pictures for the tests of Picture: Pillow's bicubic resizing, and PNG files of every kind that Pillow writes.

    python Tests/Golden/make_pictures.py        (writes Fixtures/pictures; Pillow 13.0 made the checked-in files)
"""
import json
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

folder = Path(__file__).parent / "Fixtures" / "pictures"
folder.mkdir(parents=True, exist_ok=True)


def pattern(width, height):
    """Hard edges and gradients, from integer arithmetic that the test repeats."""
    return bytes(
        (x * x * 7 + y * 13 * x + c * 85 + y * y * 3) % 256 if (x // 3 + y // 2) % 2 else (255 if c == x % 3 else 0)
        for y in range(height) for x in range(width) for c in range(3))


cases = []
for size, targets in {(13, 11): [(5, 7), (29, 23), (13, 4), (8, 11), (1, 1), (64, 3)],
                      (40, 25): [(16, 16), (41, 24)]}.items():
    source = Image.frombytes("RGB", size, pattern(*size))
    for target in targets:
        # Two calls: Pillow 13 takes the vertical pass first for some sizes, earlier versions never did.
        across = source.resize((target[0], size[1]), Image.BICUBIC)
        pixels = across.resize(target, Image.BICUBIC).tobytes()
        cases.append({"from": list(size), "to": list(target), "pixels": pixels.hex()})
(folder / "resize.json").write_text(json.dumps(cases, indent=0) + "\n")


def over_white(image):
    """Transparency laid over white, rounded to nearest."""
    rgba = image.convert("RGBA").tobytes()
    result = bytearray()
    for i in range(0, len(rgba), 4):
        alpha = rgba[i + 3]
        result += bytes((c * alpha + 255 * (255 - alpha) + 127) // 255 for c in rgba[i:i + 3])
    return bytes(result)


rgb = Image.frombytes("RGB", (9, 7), pattern(9, 7))
alpha = Image.frombytes("L", (9, 7), pattern(9, 7)[::3])
rgba = rgb.copy()
rgba.putalpha(alpha)
grey_alpha = Image.merge("LA", (rgb.convert("L"), alpha))
# A full palette is kept at 8 bits, a small one at 2.
kinds = {"rgb": rgb, "rgba": rgba, "grey": rgb.convert("L"), "grey_alpha": grey_alpha, "bits": rgb.convert("1"),
         "palette": rgb.quantize(200), "palette_small": rgb.quantize(4)}
expected = {}
for name, image in kinds.items():
    image.save(folder / f"{name}.png")
    expected[name] = over_white(image).hex()
transparent = rgb.quantize(16)
transparent.save(folder / "palette_transparent.png", transparency=3)
expected["palette_transparent"] = over_white(Image.open(folder / "palette_transparent.png")).hex()
grey16 = Image.frombytes("I;16", (4, 2), b"".join(v.to_bytes(2, "little") for v in
                                                  [0, 1, 255, 256, 32767, 32768, 65279, 65535]))
grey16.save(folder / "grey16.png")
expected["grey16"] = bytes(v >> 8 for v in [0, 1, 255, 256, 32767, 32768, 65279, 65535] for _ in range(3)).hex()

texts = {"latin": "a caf\u00e9\nNegative prompt: blurry\nSteps: 2, Sampler: DDIM, Model: \"a, b\"",
         "unicode": "\u7b11\u9854 \U0001F600\nSteps: 2, Sampler: Euler a"}
for name, text in texts.items():
    info = PngInfo()
    info.add_text("parameters", text)
    rgb.save(folder / f"text_{name}.png", pnginfo=info)
(folder / "pictures.json").write_text(json.dumps({"pixels": expected, "texts": texts}, indent=0) + "\n")
