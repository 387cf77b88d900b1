"""Clients that exist draw with `langevin serve`: OpenAI's package, one of A1111's, and the documentation's curl lines.

Usage: clients.py TOOL
"""

import base64
import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import openai
import webuiapi
from PIL import Image

from fences import blocks
from serving import Checks, Server

check = Checks()
settings = {"steps": 4, "seed": 7, "guidance": 2}


def decoded(data):
    return Image.open(io.BytesIO(base64.b64decode(data)))


def pixels(picture):
    return picture.convert("RGB").tobytes()


def file_of(picture, name):
    """Bytes with a name, as clients send files."""
    data = io.BytesIO()
    picture.save(data, "PNG")
    data.seek(0)
    data.name = name
    return data


def half_mask(transparent):
    """The left half is drawn anew: transparent for OpenAI's clients, white for A1111's."""
    mask = Image.new("RGBA" if transparent else "RGB", (64, 64), (0, 0, 0, 255) if transparent else (0, 0, 0))
    mask.paste((0, 0, 0, 0) if transparent else (255, 255, 255), (0, 0, 32, 64))
    return mask


def difference(a, b, left):
    """The mean over one half, without the border, where the autoencoder's tiles of 8 pixels meet."""
    box = (0, 0, 24, 64) if left else (40, 0, 64, 64)
    x, y = (pixels(picture.convert("RGB").crop(box)) for picture in (a, b))
    return sum(abs(i - j) for i, j in zip(x, y)) / len(x)


def is_edited(after, before):
    """The left half is another, the right half has only been through the autoencoder."""
    drawn, kept = difference(after, before, left=True), difference(after, before, left=False)
    return drawn > 10 and kept < drawn / 4, (drawn, kept)


def openai_images(tool, server, folder):
    client = openai.OpenAI(base_url=server.address + "/v1", api_key="any", max_retries=0)
    model = client.models.list().data[0].id
    check("openai: models.list", model == "emoji-diffusion", model)
    check("openai: models.retrieve", client.models.retrieve(model).id == model)
    answer = client.images.generate(
        model=model, prompt="red apple", n=2, size="64x64", response_format="b64_json", quality="hd", user="me",
        extra_body=settings)
    pictures = [decoded(item.b64_json) for item in answer.data]
    check("openai: images.generate draws n pictures", len(pictures) == 2 and pictures[0].size == (64, 64))
    check("openai: they differ", pixels(pictures[0]) != pixels(pictures[1]))
    # The tool's own picture of these settings.
    arguments = ["generate", "red apple", "--device", "cpu", "--quiet", "--output", str(folder / "own.png")]
    for name, value in settings.items():
        arguments += [f"--{name}", str(value)]
    subprocess.run([tool, *arguments], check=True, stdout=subprocess.DEVNULL)
    alone = decoded(client.images.generate(
        prompt="red apple", size="64x64", response_format="b64_json", extra_body=settings).data[0].b64_json)
    check("openai: the picture is the tool's", pixels(alone) == pixels(Image.open(folder / "own.png")))
    worst = max(abs(a - b) for a, b in zip(pixels(alone), pixels(pictures[0])))
    check("openai: in a batch too, but for rounding", worst <= 2, worst)
    by_url = client.images.generate(
        prompt="red apple", size="64x64", response_format="url", extra_body=settings).data[0].url
    check("openai: by its address too", pixels(Image.open(io.BytesIO(server.get(
        by_url.removeprefix(server.address))))) == pixels(alone))
    edited = client.images.edit(
        image=file_of(pictures[0], "a.png"), mask=file_of(half_mask(True), "m.png"), prompt="blue heart",
        size="64x64", response_format="b64_json", extra_body=settings)
    edit = decoded(edited.data[0].b64_json)
    check("openai: images.edit draws where the mask is transparent", *is_edited(edit, pictures[0]))
    for name, arguments in [
        ("a size that is none", {"size": "big"}), ("a model that is not there", {"model": "dall-e-3"}),
        ("n of 0", {"n": 0}), ("no prompt", {"prompt": ""}),
        ("a field that is not there", {"extra_body": {"stepz": 1}}),
    ]:
        arguments = {"prompt": "red apple", "size": "64x64", **arguments}
        error = check.fails(
            f"openai: {name} is an error", openai.APIStatusError, lambda: client.images.generate(**arguments))
        if error is not None:
            line = error.body.get("message", "")
            check("openai: with a line", 400 <= error.status_code < 500 and len(line) > 10, error)
    check("openai: the server is still there", client.models.list().data[0].id == model)


def openai_key(tool):
    with Server(tool, "--device", "cpu", environment={"LANGEVIN_API_KEY": "secret"}) as server:
        right = openai.OpenAI(base_url=server.address + "/v1", api_key="secret", max_retries=0)
        wrong = openai.OpenAI(base_url=server.address + "/v1", api_key="Secret", max_retries=0)
        check("openai: the key is taken", len(right.models.list().data) == 1)
        check.fails("openai: a wrong key is AuthenticationError", openai.AuthenticationError, wrong.models.list)
        named = webuiapi.WebUIApi(port=server.port, username="me", password="secret")
        check("webuiapi: the key as a password", len(named.get_sd_models()) == 1)


def a1111(server):
    api = webuiapi.WebUIApi(port=server.port, steps=4)
    check("webuiapi: models", api.util_get_model_names() == ["emoji-diffusion"])
    check("webuiapi: current model", api.util_get_current_model() == "emoji-diffusion")
    api.set_options({"sd_model_checkpoint": "emoji-diffusion"})
    names = api.util_get_sampler_names()
    check("webuiapi: samplers", "Euler a" in names and "DPM++ 2M" in names, names)
    check("webuiapi: schedulers", {"automatic", "karras"} <= set(api.util_get_scheduler_names()))
    check("webuiapi: loras, upscalers", api.get_loras() == [] and api.get_upscalers()[0]["name"] == "None")
    drawn = api.txt2img(prompt="(red:1.2) apple", negative_prompt="green", seed=5, width=64, height=64, batch_size=2)
    check("webuiapi: txt2img", len(drawn.images) == 2 and drawn.image.size == (64, 64))
    check("webuiapi: its seeds", drawn.info["all_seeds"] == [5, 6], drawn.info)
    check("webuiapi: what means nothing is named", "restore_faces" in drawn.info["ignored"], drawn.info["ignored"])
    again = api.txt2img(prompt="(red:1.2) apple", negative_prompt="green", seed=5, width=64, height=64)
    check("webuiapi: a seed's picture comes again", pixels(again.image) == pixels(drawn.image))
    text = api.png_info(drawn.image).info
    check("webuiapi: png-info", text.startswith("(red:1.2) apple\n") and "Seed: 5" in text, text)
    varied = api.img2img(images=[drawn.image], prompt="blue heart", seed=5, denoising_strength=0.8, width=64, height=64)
    check("webuiapi: img2img", varied.image.size == (64, 64) and pixels(varied.image) != pixels(drawn.image))
    masked = api.img2img(
        images=[drawn.image], mask_image=half_mask(False), prompt="blue heart", seed=5, denoising_strength=1,
        width=64, height=64)
    check("webuiapi: img2img with a mask", *is_edited(masked.image, drawn.image))
    check.fails("webuiapi: a sampler that is not there is an error", RuntimeError,
                lambda: api.txt2img(prompt="a", sampler_name="Eulr"))
    lost = 0
    for _ in range(20):
        # The client keeps its connection; one that the server closes without a word would break the next request.
        try:
            api.txt2img(prompt="a", sampler_name="Eulr")
        except RuntimeError:
            pass
        try:
            api.get_progress()
        except OSError:
            lost += 1
    check("webuiapi: it goes on after errors", lost == 0, lost)
    check("webuiapi: nothing is drawn now", api.get_progress()["progress"] == 0)
    interrupt(api)


def interrupt(api):
    """In another thread, as clients with a button do."""
    outcome = {}
    thread = threading.Thread(target=lambda: outcome.update(
        answer=api.txt2img(prompt="red apple", seed=1, steps=400, width=64, height=64)))
    thread.start()
    seen, steps = 0, 0
    for _ in range(600):
        progress = api.get_progress()
        seen, steps = progress["progress"], progress["state"]["sampling_step"]
        if 0 < seen < 1 and steps > 2:
            break
        time.sleep(0.05)
    check("webuiapi: progress", 0 < seen < 1 and steps > 2, seen)
    began = time.monotonic()
    api.interrupt()
    thread.join(30)
    check("webuiapi: interrupt ends the request", not thread.is_alive() and time.monotonic() - began < 5)
    answer = outcome.get("answer")
    check("webuiapi: and it says so", answer is not None and answer.info["interrupted"] and answer.images == [])


def curl_lines(server, folder):
    """Every curl of the documentation, in its order, against this server."""
    lines = [line for block in blocks("Serving.md") for line in block.splitlines() if line.startswith("curl ")]
    check("curl: the page has lines", len(lines) >= 9, len(lines))
    half_mask(True).save(folder / "mask.png")
    job = None
    for line in lines:
        command = line.replace("http://127.0.0.1:7860", server.address)
        if "DELETE" in line:
            # One that is not over yet.
            body = b'{"prompt": "red apple", "steps": 500}'
            with urllib.request.urlopen(urllib.request.Request(server.address + "/v1/jobs", data=body)) as answer:
                job = json.load(answer)["id"]
        command = command.replace("/ID", f"/{job}")
        run = subprocess.run(command, shell=True, cwd=folder, capture_output=True, timeout=120)
        name = "curl: " + line.replace("http://127.0.0.1:7860", "")[:70]
        if not check(name, run.returncode == 0, run.stderr):
            continue
        output = run.stdout.decode()
        if "/events" in line:
            names = re.findall(r"^event: (\w+)$", output, re.M)
            check("curl: events end with the job", names[-1:] == ["done"] and "progress" in names, names[-3:])
        elif " -o " in line:
            check("curl: the file is a picture", Image.open(folder / "apple.png").size == (64, 64))
        else:
            answer = json.loads(output)
            check("curl: the answer is no error", answer.get("error") is None, output[:200])
            job = answer.get("id", job)
            for data in [item["b64_json"] for item in answer.get("data", [])] + answer.get("images", []):
                check("curl: the answer has a picture", decoded(data).size == (64, 64))


def main():
    tool = sys.argv[1]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Server(tool, "--device", "cpu") as server:
        folder = pathlib.Path(name)
        openai_images(tool, server, folder)
        a1111(server)
        curl_lines(server, folder)
        check("no crash was counted", b"langevin_engine_crashes_total 0" in server.get("/metrics"))
    openai_key(tool)
    print(f"{time.monotonic() - began:.0f} s")
    return check.report()


if __name__ == "__main__":
    sys.exit(main())
