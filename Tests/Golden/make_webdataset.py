"""Tar files for the tests of WebDataset, in each format that Python's tarfile writes.

    python Tests/Golden/make_webdataset.py      (writes Fixtures/webdataset; Pillow 13.0 made the checked-in files)
"""
import io
import json
import tarfile
from pathlib import Path

from PIL import Image

folder = Path(__file__).parent / "Fixtures" / "webdataset"
folder.mkdir(parents=True, exist_ok=True)


def picture(kind, colour):
    file = io.BytesIO()
    image = Image.new("RGB", (6, 4), colour)
    image.save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


# ustar divides a long path at a slash; only the others hold one without.
deep = "train/" + "a-folder-with-a-long-name/" * 5
samples = [
    ("0001", "png", (255, 0, 0), "txt", "a red square\nred\n".encode()),
    ("part/0002", "jpg", (0, 0, 255), "json", json.dumps({"text": ["blue", {"text": "sea", "weight": 2}]}).encode()),
    (deep + "0003", "webp", (0, 128, 0), "json", json.dumps({"caption": "grün", "weight": 0.5}).encode()),
]
formats = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
for name, form in formats.items():
    more = [] if name == "ustar" else [("x" * 120 + "é", "jpeg", (9, 9, 9), "txt", "dunkel ☾".encode())]
    with tarfile.open(folder / f"{name}.tar", "w", format=form, pax_headers={"comment": "for all"} if name == "pax" else None) as tar:
        directory = tarfile.TarInfo("part")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        for key, ending, colour, kind, text in samples + more:
            data = picture({"png": "PNG", "webp": "WEBP"}.get(ending, "JPEG"), colour)
            for path, content in ((f"{key}.{ending}", data), (f"{key}.{kind}", text)):
                member = tarfile.TarInfo("./" + path if key == "0001" else path)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
