"""The page of `langevin serve` in a headless Chromium: what a person does there, by mouse and by keyboard.

Usage: page.py TOOL FOLDER-FOR-SCREENSHOTS [CHROMIUM]
"""

import base64
import io
import json
import pathlib
import sys
import tempfile
import time

from axe_core_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import TimeoutError, sync_playwright

from serving import Checks, Server

check = Checks()
largest_seed = "18446744073709551615"
wide, narrow = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


class Visit:
    """A person's view of the page: a window of its own, whose requests and errors are kept."""

    def __init__(self, browser, address, name, viewport=wide, scheme="light"):
        self.address, self.name = address, name
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.outside, self.errors, self.orders = [], [], []
        self.page.on("request", self.note)
        self.page.on("console", lambda line: line.type == "error" and self.errors.append(line.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def note(self, request):
        if not request.url.startswith((self.address + "/", "data:", "blob:" + self.address)):
            self.outside.append(request.url)
        if request.method == "POST" and request.url.endswith("/v1/jobs"):
            self.orders.append(request.post_data)

    def __enter__(self):
        self.page.goto(self.address + "/")
        self.until("document.querySelectorAll('#sampler option').length > 5")
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            check(f"{self.name}: no request leaves the machine", self.outside == [], self.outside)
            check(f"{self.name}: no error in the console", self.errors == [], self.errors)
        self.context.close()

    def until(self, expression, seconds=20):
        """Asked from outside: the page's own policy lets no script evaluate a text."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"it never holds: {expression}")
            time.sleep(0.02)

    def settle(self):
        """Waits until the drawing that was begun is over; returns what the page says."""
        self.until("!document.getElementById('cancel').checkVisibility()", 60)
        return self.page.inner_text("#status")

    def fill(self, **fields):
        for name, value in fields.items():
            self.page.fill("#" + name, str(value))

    def draw(self, **fields):
        self.fill(**fields)
        self.page.click("#draw")
        return self.settle()

    def picture(self, number=0):
        """What is shown, as a picture."""
        data = self.page.evaluate(
            """(number) => {
              const image = document.querySelectorAll('#pictures .picture img')[number];
              const canvas = document.createElement('canvas');
              [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
              canvas.getContext('2d').drawImage(image, 0, 0);
              return canvas.toDataURL('image/png').split(',')[1];
            }""", number)
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")

    def drop(self, selector, name, data, kind="image/png"):
        """A file that is dragged in from elsewhere."""
        transfer = self.page.evaluate_handle(
            """([name, data, kind]) => {
              const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
              const transfer = new DataTransfer();
              transfer.items.add(new File([bytes], name, { type: kind }));
              return transfer;
            }""", [name, base64.b64encode(data).decode(), kind])
        for event in ["dragover", "drop"]:
            self.page.dispatch_event(selector, event, {"dataTransfer": transfer})

    def axe(self, what):
        found = Axe().run(self.page)["violations"]
        bad = [f"{item['id']}: {[node['target'] for node in item['nodes']]}" for item in found
               if item["impact"] in ("serious", "critical")]
        check(f"axe: {what}", bad == [], bad)


def difference(a, b, box):
    x, y = (picture.crop(box).tobytes() for picture in (a, b))
    return sum(abs(i - j) for i, j in zip(x, y)) / len(x)


def drawing(browser, address, folder):
    """Returns the bytes of a picture that was drawn."""
    with Visit(browser, address, "drawing") as visit:
        page = visit.page
        visit.fill(prompt="red apple", steps=60, seed=largest_seed)
        page.click("#draw")
        page.wait_for_selector("#pictures .preview")
        check("a preview while it is drawn", page.is_visible("#progress") and page.is_visible("#cancel"))
        said = visit.settle()
        check("the picture comes", said.startswith("Done in") and page.locator("#pictures .picture").count() == 1, said)
        check("its preview goes", page.locator("#pictures .preview").count() == 0)
        check("a seed of 64 bits stays exact", largest_seed in page.inner_text("#pictures .picture"))
        check("it is of the model's size", visit.picture().size == (64, 64))

        visit.fill(steps=500)
        page.click("#draw")
        visit.until("document.getElementById('progress').value > 0")
        began = time.monotonic()
        page.click("#cancel")
        said = visit.settle()
        check("cancel", said == "Cancelled." and time.monotonic() - began < 5, said)
        said = visit.draw(steps=4, count=3, seed=7)
        check("after it three at once", page.locator("#pictures .picture").count() == 3, said)

        said = visit.draw(steps=4, count=1, width=65)
        check("what the server refuses is said", "65" in said and "multiple" in said, said)
        visit.errors = [line for line in visit.errors if "400" not in line]
        visit.fill(width="")

        visit.draw(seed=7)
        page.click("#pictures .picture")
        check("a click shows the picture and its settings", "Steps: 4" in page.inner_text("#viewer-text"))
        with page.expect_download() as download:
            page.click("#viewer-save")
        data = pathlib.Path(download.value.path()).read_bytes()
        check("it can be saved", Image.open(io.BytesIO(data)).size == (64, 64))
        check("and carries its settings", b"red apple" in data)
        page.keyboard.press("Escape")
        check("Escape closes it", not page.is_visible("#viewer"))
        return data


def dropping(browser, address, data):
    with Visit(browser, address, "dropping") as visit:
        page = visit.page
        visit.drop("h1", "apple.png", data)
        visit.until("document.getElementById('status').textContent.includes('apple.png')")
        values = [page.input_value("#" + name) for name in ("prompt", "steps", "seed")]
        check("a picture that is dropped in gives its settings", values[:2] == ["red apple", "4"], values)
        visit.drop("h1", "notes.txt", b"no picture", "text/plain")
        visit.until("document.getElementById('status').classList.contains('bad')")
        check("what is no picture is said", page.input_value("#prompt") == "red apple")
        visit.errors = [line for line in visit.errors if "400" not in line]
        visit.drop("#drop", "apple.png", data)
        page.wait_for_selector("#mask-canvas")
        check("in the frame it is what is varied", page.is_visible("#strength"))


def inpainting(browser, address, data):
    original = Image.open(io.BytesIO(data)).convert("RGB")
    with Visit(browser, address, "inpainting") as visit:
        page = visit.page
        visit.page.set_input_files("#file", {"name": "apple.png", "mimeType": "image/png", "buffer": data})
        page.wait_for_selector("#mask-canvas")
        page.locator("#mask-canvas").scroll_into_view_if_needed()
        box = page.locator("#mask-canvas").bounding_box()

        def paint(points):
            for index, (x, y) in enumerate(points):
                page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=5)
                if index == 0:
                    page.mouse.down()
            page.mouse.up()

        page.fill("#brush", "20")
        paint([(0.15, 0.1), (0.15, 0.9)])
        said = visit.draw(prompt="blue heart", steps=12, seed=3, guidance=3)
        order = json.loads(visit.orders[-1])
        mask = Image.open(io.BytesIO(base64.b64decode(order["mask"]))).convert("L")
        check("the mask is the picture's size", mask.size == (64, 64) and said.startswith("Done"), said)
        check("white where it was painted", mask.getpixel((9, 32)) == 255 and mask.getpixel((50, 32)) == 0)
        edited = visit.picture()
        kept = difference(edited, original, (36, 0, 64, 64))
        drawn = difference(edited, original, (0, 8, 16, 56))
        check("what was painted is drawn anew, the rest is kept", drawn > 3 * kept + 2, (drawn, kept))

        page.click("#erase")
        check("the brush can erase", page.get_attribute("#erase", "aria-pressed") == "true")
        page.locator("#mask-canvas").scroll_into_view_if_needed()
        box = page.locator("#mask-canvas").bounding_box()
        page.fill("#brush", "32")
        paint([(0.15, 0.0), (0.15, 1.0), (0.0, 1.0), (0.0, 0.0), (0.3, 0.0), (0.3, 1.0)])
        visit.draw(steps=4, strength=0.6)
        check("without paint the whole picture is varied", "mask" not in json.loads(visit.orders[-1]))
        page.click("#erase")
        paint([(0.5, 0.5)])
        page.click("#clear-mask")
        visit.draw(steps=4)
        check("the mask can be cleared", "mask" not in json.loads(visit.orders[-1]))
        page.click("#remove-image")
        visit.draw(steps=4)
        check("the picture can be removed", "image" not in json.loads(visit.orders[-1]))


def galleries(browser, address):
    with Visit(browser, address, "gallery") as visit:
        page = visit.page
        page.click("#tab-gallery")
        visit.until("document.querySelectorAll('#gallery .picture').length > 5")
        check("the gallery has what was drawn before", not page.is_visible("#gallery-empty"))
        page.click("#gallery .picture >> nth=0")
        text = page.inner_text("#viewer-text")
        page.click("#viewer-again")
        visit.until("document.getElementById('status').textContent.startsWith('The settings')")
        check("a picture of it gives its settings",
              page.input_value("#prompt") in text and page.is_visible("#view-draw"))
        page.click("#tab-gallery")
        page.click("#gallery .picture >> nth=0")
        page.click("#viewer-start")
        page.wait_for_selector("#mask-canvas")
        check("and can be started from", page.is_visible("#view-draw"))
        page.click("#tab-devices")
        page.wait_for_selector("#found-devices table", timeout=60_000)
        check("devices: what draws", "cpu" in page.inner_text("#drawing-devices"))
        check("devices: what was found", page.locator("#found-devices table").count() >= 1)


def keyboard(browser, address, data):
    with Visit(browser, address, "keyboard") as visit:
        page = visit.page
        page.set_input_files("#file", {"name": "apple.png", "mimeType": "image/png", "buffer": data})
        page.wait_for_selector("#mask-canvas")
        page.evaluate("document.activeElement.blur()")
        wanted = page.evaluate(
            """[...document.querySelectorAll('button, input, select, textarea, a[href], [tabindex="0"]')]
              .filter((element) => element.checkVisibility() && !element.disabled && element.tabIndex >= 0)
              .map((element) => element.id)""")
        seen, unseen = [], []
        for _ in range(len(wanted) + 5):
            page.keyboard.press("Tab")
            name, outline = page.evaluate(
                """() => {
                  const style = getComputedStyle(document.activeElement);
                  return [document.activeElement.id,
                    style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== 'none'];
                }""")
            seen.append(name)
            if name in wanted and not outline:
                unseen.append(name)
        check("Tab comes to everything", set(wanted) <= set(seen), set(wanted) - set(seen))
        check("and shows where it is", unseen == [], unseen)

        page.focus("#mask-canvas")
        page.keyboard.press("Space")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Space")
        page.focus("#prompt")
        page.keyboard.type("blue heart")
        page.focus("#steps")
        page.keyboard.type("4")
        page.focus("#prompt")
        page.keyboard.press("Control+Enter")
        said = visit.settle()
        check("Ctrl+Enter draws", said.startswith("Done in"), said)
        order = json.loads(visit.orders[-1])
        mask = Image.open(io.BytesIO(base64.b64decode(order["mask"]))).convert("L")
        check("the mask was painted by keys", mask.getpixel((32, 32)) == 255 and mask.getpixel((2, 2)) == 0)
        page.focus("#tab-draw")
        page.keyboard.press("ArrowRight")
        check("arrows change the view", page.is_visible("#view-gallery"))
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        check("Enter opens a picture", page.is_visible("#viewer"))
        focus = page.evaluate("document.getElementById('viewer').contains(document.activeElement)")
        check("the focus is in it", focus)
        page.keyboard.press("Escape")
        check("Escape leaves it", not page.is_visible("#viewer"))


def keys(browser, tool):
    with Server(tool, "--device", "cpu", environment={"LANGEVIN_API_KEY": "secret"}) as server:
        visit = Visit(browser, server.address, "key")
        visit.page.goto(server.address + "/")
        visit.page.wait_for_selector("#key-dialog[open]")
        visit.axe("the question for the key")
        visit.page.keyboard.type("wrong")
        visit.page.keyboard.press("Enter")
        time.sleep(0.5)
        visit.page.wait_for_selector("#key-dialog[open]")
        visit.page.fill("#key", "secret")
        visit.page.keyboard.press("Enter")
        visit.until("document.querySelectorAll('#sampler option').length > 5")
        said = visit.draw(prompt="red apple", steps=2)
        check("with the key it draws", said.startswith("Done in"), said)
        visit.context.close()


def looks(browser, address, data, folder):
    """Screenshots of each view, and axe on them."""
    for size, viewport in [("1440", wide), ("390", narrow)]:
        for scheme in ["light", "dark"]:
            with Visit(browser, address, f"{size} {scheme}", viewport, scheme) as visit:
                page = visit.page

                def look(view):
                    fits = page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
                    check(f"{size} {scheme}: {view} fits its width", fits)
                    page.screenshot(path=folder / f"{view}-{size}-{scheme}.png", full_page=True)
                    visit.axe(f"{view}, {size}, {scheme}")

                page.set_input_files("#file", {"name": "apple.png", "mimeType": "image/png", "buffer": data})
                page.wait_for_selector("#mask-canvas")
                page.focus("#mask-canvas")
                page.keyboard.press("Space")
                visit.draw(prompt="red apple", steps=12, seed=3, count=2)
                look("draw")
                page.click("#pictures .picture >> nth=0")
                look("viewer")
                page.keyboard.press("Escape")
                page.click("#tab-gallery")
                visit.until("document.querySelectorAll('#gallery .picture').length > 5")
                look("gallery")
                page.click("#tab-devices")
                page.wait_for_selector("#found-devices table", timeout=60_000)
                look("devices")


def main():
    tool, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    program = sys.argv[3] if len(sys.argv) > 3 else "/usr/bin/chromium"
    began = time.monotonic()
    with sync_playwright() as play, Server(tool, "--device", "cpu") as server:
        browser = play.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
        parts = [
            lambda: dropping(browser, server.address, data), lambda: inpainting(browser, server.address, data),
            lambda: galleries(browser, server.address), lambda: keyboard(browser, server.address, data),
            lambda: keys(browser, tool), lambda: looks(browser, server.address, data, folder),
        ]
        data = drawing(browser, server.address, folder)
        for part in parts:
            try:
                part()
            except TimeoutError as error:
                check("a step of the script", False, str(error).splitlines()[0:3])
        browser.close()
    print(f"{time.monotonic() - began:.0f} s; screenshots are in {folder}")
    return check.report()


if __name__ == "__main__":
    sys.exit(main())
