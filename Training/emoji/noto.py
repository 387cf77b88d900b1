"""Emoji of Debian's Noto Color Emoji, named by Debian's Unicode CLDR."""
import dataclasses
import io
import pathlib
import xml.etree.ElementTree as ElementTree

from fontTools.ttLib import TTFont
from PIL import Image

FONT = pathlib.Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
NAMES = pathlib.Path("/usr/share/unicode/cldr/common")
VARIATION_SELECTOR = 0xFE0F
SIDE = 128
# Flags are letters in all but shape, groups of people differ in hardly a pixel, and a tone alone is a swatch.
LEFT_OUT = ("flag: ", "family", "kiss: ", "couple with heart: ", "people holding hands: ",
            "woman and man holding", "women holding", "men holding", "handshake: ")


@dataclasses.dataclass
class Emoji:
    name: str
    group: str
    tone: str | None
    keywords: list[str]
    picture: Image.Image


def glyphs(font):
    """Functions from a sequence of code points to its glyph's name, by the font's own ligatures."""
    characters = font.getBestCmap()
    ligatures = {}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            table = getattr(table, "ExtSubTable", table)
            for first, group in getattr(table, "ligatures", {}).items():
                for ligature in group:
                    ligatures[(first, *ligature.Component)] = ligature.LigGlyph

    def find(code_points):
        if any(point not in characters for point in code_points):
            return None
        sequence = tuple(characters[point] for point in code_points)
        return sequence[0] if len(sequence) == 1 else ligatures.get(sequence)
    return find


def annotations():
    names, keywords = {}, {}
    for folder in ("annotations", "annotationsDerived"):
        for entry in ElementTree.parse(NAMES / folder / "en.xml").getroot().iter("annotation"):
            if entry.get("type") == "tts":
                names[entry.get("cp")] = entry.text
            else:
                keywords[entry.get("cp")] = [word.strip().lower() for word in entry.text.split("|")]
    return names, keywords


def split_tone(name):
    """("woman cook", "medium skin tone") of "woman cook: medium skin tone"; hair stays in the first."""
    subject, _, details = name.lower().partition(": ")
    details = [d for d in details.split(", ") if d]
    tone = next((d for d in details if d.endswith("skin tone")), None)
    rest = [d for d in details if d != tone]
    return " ".join([subject, *rest]).replace(":", ""), tone


def emoji():
    """Every emoji that font and CLDR share, by name, in CLDR's order: 128x128 pictures with transparency."""
    font = TTFont(FONT)
    strike = {name: glyph.imageData for strike in font["CBDT"].strikeData for name, glyph in strike.items()}
    find = glyphs(font)
    names, keywords = annotations()
    found = {}
    for text, name in names.items():
        if name.startswith(LEFT_OUT) or name.endswith("skin tone") and ":" not in name:
            continue
        data = strike.get(find([ord(c) for c in text if ord(c) != VARIATION_SELECTOR]))
        if not data:
            continue
        picture = Image.open(io.BytesIO(data)).convert("RGBA")
        left = (picture.width - SIDE) // 2
        picture = picture.crop((left, 0, left + SIDE, SIDE))
        group, tone = split_tone(name)
        full = f"{group} {tone}" if tone else group
        words = [k for k in keywords.get(text, []) if k not in (name.lower(), group, tone)]
        found.setdefault(full, Emoji(full, group, tone, words, picture))
    return found
