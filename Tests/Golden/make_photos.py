"""Golden JPEG and WebP files of every kind that Pillow writes, and what Pillow reads of them.

    python Tests/Golden/make_photos.py        (writes Fixtures/pictures; Pillow 13.0 made the checked-in files)
"""
import json
from pathlib import Path

from PIL import Image, ImageOps

folder = Path(__file__).parent / "Fixtures" / "pictures"
width, height = 21, 14
rgb = Image.frombytes("RGB", (width, height), bytes(
    (x * 9 + c * 60 + y * y) % 200 + 20 for y in range(height) for x in range(width) for c in range(3)))
alpha = Image.frombytes("L", (width, height), bytes(
    (x * 12 + y * 3) % 256 for y in range(height) for x in range(width)))
rgba = rgb.copy()
rgba.putalpha(alpha)
expected = {}


def over_white(image):
    """Transparency laid over white, rounded to nearest."""
    data = image.convert("RGBA").tobytes()
    return bytes((c * data[i + 3] + 255 * (255 - data[i + 3]) + 127) // 255
                 for i in range(0, len(data), 4) for c in data[i:i + 3])


def save(name, image, **options):
    image.save(folder / name, **options)
    read = ImageOps.exif_transpose(Image.open(folder / name))
    expected[name] = {"size": list(read.size), "pixels": over_white(read).hex()}


save("photo_full.jpg", rgb, quality=95, subsampling=0)
save("photo_progressive.jpg", rgb, quality=80, progressive=True)
save("photo_grey.jpg", rgb.convert("L"), quality=90)
save("photo_cmyk.jpg", rgb.convert("CMYK"), quality=95)
save("photo_lossy.webp", rgb, quality=90)
save("photo_lossless.webp", rgb, lossless=True)
save("photo_alpha.webp", rgba, lossless=True, exact=True)
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(f"photo_turned_{orientation}.jpg", rgb, quality=95, subsampling=0, exif=exif)
exif = Image.Exif()
exif[0x0112] = 6
save("photo_turned.webp", rgb, lossless=True, exif=exif)
save("photo_turned.png", rgb, exif=exif)
rgb.save(folder / "animation.webp", save_all=True, append_images=[rgb.rotate(180)], duration=100, lossless=True)

text = "笑顔 (red:1.2) \U0001F600\nNegative prompt: blurry\nSteps: 2, Sampler: Euler a"
exif = Image.Exif()
# A1111's web UI: big-endian UTF-16 without a mark, through piexif.
exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
rgb.save(folder / "text.jpg", exif=exif)
rgb.save(folder / "text.webp", exif=exif)
(folder / "photos.json").write_text(json.dumps({"pictures": expected, "text": text}, indent=0) + "\n")
