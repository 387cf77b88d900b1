"""Edges by OpenCV: Fixtures/canny, pictures and what `cv2.Canny` makes of them.

    python make_canny.py

writes NAME.png and NAME-LOW-HIGH.png. Needs opencv-python-headless, numpy and Pillow.
"""

import pathlib

import cv2
import numpy
from PIL import Image

FOLDER = pathlib.Path(__file__).parent / "Fixtures" / "canny"


def pictures():
    random = numpy.random.default_rng(0)
    yield "noise", random.integers(0, 256, (37, 53, 3), dtype=numpy.uint8)
    smooth = cv2.GaussianBlur(random.integers(0, 256, (96, 80, 3), dtype=numpy.uint8), (0, 0), 2.5)
    yield "smooth", cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)
    drawn = numpy.full((90, 120, 3), 230, dtype=numpy.uint8)
    cv2.circle(drawn, (40, 45), 28, (200, 40, 60), -1, cv2.LINE_AA)
    cv2.rectangle(drawn, (70, 10), (112, 60), (30, 90, 210), -1)
    cv2.line(drawn, (0, 89), (119, 20), (20, 20, 20), 3, cv2.LINE_AA)
    cv2.ellipse(drawn, (85, 70), (25, 12), 30, 0, 360, (90, 200, 90), -1, cv2.LINE_AA)
    yield "drawn", drawn
    # Steps of every slope, many of them equal: what decides between neighbours.
    y, x = numpy.mgrid[0:48, 0:64]
    yield "steps", numpy.stack([(x // 8) * 30, (y // 6) * 30, ((x + y) // 9) * 15], -1).astype(numpy.uint8)
    yield "row", random.integers(0, 256, (1, 17, 3), dtype=numpy.uint8)
    yield "dot", numpy.full((1, 1, 3), 200, dtype=numpy.uint8)


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, pixels in pictures():
        Image.fromarray(pixels).save(FOLDER / f"{name}.png")
        for low, high in ((100, 200), (50, 300), (0, 0)):
            Image.fromarray(cv2.Canny(pixels, low, high)).save(FOLDER / f"{name}-{low}-{high}.png")


main()
