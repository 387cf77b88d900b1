"""Puts accessories on things, and gives things other colours. Pictures are RGBA, 128x128."""
import numpy as np
from PIL import Image, ImageDraw

SIDE = 128


def cut(picture):
    return picture.crop(picture.getbbox())


def party_hat():
    """A cone with stripes and a pompom, which no emoji shows alone. Drawn at four times the size."""
    scale, width, height = 4, 64, 84
    size = (width * scale, height * scale)
    cone = Image.new("L", size)
    corners = [(size[0] // 2, 10 * scale), (0, size[1] - 1), (size[0] - 1, size[1] - 1)]
    ImageDraw.Draw(cone).polygon(corners, fill=255)
    colours = Image.new("RGBA", size, (236, 64, 122, 255))
    pen = ImageDraw.Draw(colours)
    for stripe in range(-2, 8):
        y = stripe * 22 * scale
        pen.polygon([(0, y), (size[0], y - 26 * scale), (size[0], y - 15 * scale), (0, y + 11 * scale)],
                    fill=(255, 213, 79, 255))
    hat = Image.composite(colours, Image.new("RGBA", size), cone)
    radius, middle = 10 * scale, size[0] // 2
    ImageDraw.Draw(hat).ellipse((middle - radius, 0, middle + radius, 2 * radius), fill=(66, 165, 245, 255))
    return hat.resize((width, height), Image.LANCZOS)


def cowboy_hat(picture):
    """The hat of the cowboy hat face: its upper part without the yellow face and the brim's dark inside."""
    pixels = np.asarray(picture).astype(np.float32)
    red, green, blue, alpha = (pixels[..., i] for i in range(4))
    brown = np.clip((110 - (red - blue)) / 40, 0, 1) * np.clip((green - 42) / 24, 0, 1)
    pixels[..., 3] = alpha * brown * (np.arange(SIDE)[:, None] < 56)
    return cut(Image.fromarray(pixels.astype(np.uint8)))


def wardrobe(emoji, accessories):
    worn = {}
    for key, accessory in accessories.items():
        if key == "party hat":
            worn[key] = party_hat()
        elif key == "cowboy hat":
            worn[key] = cowboy_hat(emoji[accessory["emoji"]].picture)
        else:
            worn[key] = cut(emoji[accessory["emoji"]].picture)
    return worn


def wear(picture, place, item, accessory):
    """`place` is x, y and width of the head's top, then of the eyes. A wearer shrinks until the hat fits."""
    head_x, head_y, head_width, eye_x, eye_y, eye_width = place
    aspect = item.height / item.width
    if accessory["where"] == "eyes":
        x, y, width, scale = eye_x, eye_y, eye_width, 1.0
        top = y - width * aspect / 2
    else:
        width = head_width * accessory["width"]
        height = width * aspect
        sink = accessory["overlap"] * height
        x = head_x + (0.34 * head_width if accessory["where"] == "side" else 0)
        top = head_y + sink - height
        scale = min(1.0, (SIDE - 4) / (SIDE - top))
    canvas = Image.new("RGBA", (SIDE, SIDE))
    side = round(SIDE * scale)
    shift = (SIDE - side) / 2
    canvas.alpha_composite(picture.resize((side, side), Image.LANCZOS), (round(shift), SIDE - side))
    size = (max(1, round(width * scale)), max(1, round(width * scale * aspect)))
    left = round(shift + x * scale - size[0] / 2)
    upper = round(SIDE - (SIDE - top) * scale)
    layer = Image.new("RGBA", (SIDE, SIDE))
    layer.paste(item.resize(size, Image.LANCZOS), (left, upper))
    canvas.alpha_composite(layer)
    return canvas


def recolour(picture, target, grey):
    """Moves the colour that covers most of the picture to `target` (hue in degrees, saturation, value).

    With `grey` it is what has no colour that gets one. Light and shade stay."""
    pixels = np.asarray(picture)
    hsv = np.asarray(picture.convert("RGB").convert("HSV")).astype(np.float32)
    hue, saturation, value = hsv[..., 0] * 360 / 255, hsv[..., 1] / 255, hsv[..., 2] / 255
    seen = pixels[..., 3] > 128
    if grey:
        mask = np.clip((0.3 - saturation) / 0.1, 0, 1) * np.clip((value - 0.3) / 0.15, 0, 1)
        own_saturation, own_hue = None, None
    else:
        strong = seen & (saturation > 0.3) & (value > 0.25)
        tens = (hue[strong] // 10).astype(int) % 36
        histogram = np.bincount(tens, weights=saturation[strong], minlength=36)
        smooth = histogram + 0.5 * (np.roll(histogram, 1) + np.roll(histogram, -1))
        own_hue = float(np.argmax(smooth)) * 10 + 5
        distance = np.abs((hue - own_hue + 180) % 360 - 180)
        mask = np.clip((42 - distance) / 12, 0, 1) * np.clip((saturation - 0.12) / 0.12, 0, 1)
        own_saturation = float(np.median(saturation[seen & (mask > 0.5)]))
    chosen = seen & (mask > 0.5)
    own_value = float(np.median(value[chosen]))
    wanted_hue, wanted_saturation, wanted_value = target
    new_value = np.clip(value * wanted_value / own_value, 0, 1)
    if grey:
        new_hue = np.full_like(hue, wanted_hue)
        new_saturation = np.full_like(saturation, wanted_saturation * 0.75)
        new_value = np.clip(value * max(wanted_value, 0.8) / own_value, 0, 1)
    else:
        new_hue = (wanted_hue + 0.4 * ((hue - own_hue + 180) % 360 - 180)) % 360
        new_saturation = np.clip(saturation * wanted_saturation / own_saturation, 0, 1)
    changed = np.stack([new_hue * 255 / 360, new_saturation * 255, new_value * 255], -1)
    changed = Image.fromarray(np.round(changed).astype(np.uint8), "HSV").convert("RGB")
    mixed = pixels[..., :3] * (1 - mask[..., None]) + np.asarray(changed) * mask[..., None]
    return Image.fromarray(np.dstack([np.round(mixed).astype(np.uint8), pixels[..., 3]]))
