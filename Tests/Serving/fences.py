"""The blocks of code of a page of the documentation."""

import pathlib
import re

pages = pathlib.Path(__file__).parents[2] / "Sources/Langevin/Langevin.docc"


def blocks(page):
    return re.findall(r"^```\n(.*?)^```", (pages / page).read_text(), re.S | re.M)


def block(page, words):
    """The one block that has these words."""
    found = [text for text in blocks(page) if words in text]
    if len(found) != 1:
        raise ValueError(f"{page} has {len(found)} blocks with '{words}'")
    return found[0]
