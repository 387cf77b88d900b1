"""Makes Fixtures/gguf: small GGUF files, by the Python package gguf.

    python Tests/Golden/make_gguf.py

Tensors of each type that is read, one of them flattened into rows of 256 as ComfyUI-GGUF does. two.safetensors has their
numbers in float32.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

folder = Path(__file__).resolve().parent / "Fixtures" / "gguf"
folder.mkdir(exist_ok=True)
rng = np.random.default_rng(21)
numbers = {}
writer = gguf.GGUFWriter(folder / "two.gguf", "sd1")
writer.add_array("tokenizer.ggml.tokens", ["a", "b"] * 20)
writer.add_float32("a.float", 1.5)
writer.add_bool("a.bool", True)


def add(name, x, kind):
    numbers[name] = x.astype(np.float32)
    if kind == Type.F32:
        writer.add_tensor(name, x.astype(np.float32))
    elif kind == Type.F16:
        numbers[name] = x.astype(np.float16).astype(np.float32)
        writer.add_tensor(name, x.astype(np.float16))
    else:
        blocks = gguf.quants.quantize(x.astype(np.float32), kind)
        numbers[name] = gguf.quants.dequantize(blocks, kind).astype(np.float32)
        writer.add_tensor(name, blocks, raw_dtype=kind)


add("bias", rng.standard_normal(5), Type.F32)
add("conv.weight", rng.standard_normal((3, 2, 3, 3)), Type.F16)
add("bf16", rng.standard_normal((2, 4)), Type.BF16)
for kind in [Type.Q8_0, Type.Q5_0, Type.Q4_0]:
    add(f"{kind.name}.weight", rng.standard_normal((3, 64)), kind)
for kind in [Type.Q4_K, Type.Q6_K]:
    size, count = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (3, count), np.uint8)
    for offset in [0, 2] if kind == Type.Q4_K else [208]:
        blocks[:, offset : offset + 2] = np.full((3, 1), 0.01, np.float16).view(np.uint8)
    numbers[f"{kind.name}.weight"] = gguf.quants.dequantize(blocks, kind).astype(np.float32)
    writer.add_tensor(f"{kind.name}.weight", blocks, raw_dtype=kind)
x = rng.standard_normal((32, 8, 3, 3)).astype(np.float32)
blocks = gguf.quants.quantize(x.reshape(-1, 256), Type.Q8_0)
writer.add_array("comfy.gguf.orig_shape.flat.weight", list(x.shape))
writer.add_tensor("flat.weight", blocks, raw_dtype=Type.Q8_0)
numbers["flat.weight"] = gguf.quants.dequantize(blocks, Type.Q8_0).reshape(x.shape).astype(np.float32)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file(numbers, folder / "two.safetensors")
# Version 2 has the same layout.
data = bytearray((folder / "two.gguf").read_bytes())
data[4] = 2
(folder / "two-v2.gguf").write_bytes(data)
