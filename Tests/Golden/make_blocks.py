"""Makes Fixtures/blocks.safetensors: ggml's block encodings, by the Python package gguf.

    python Tests/Golden/make_blocks.py

For each encoding `NAME.blocks`, random bytes with scales of every size among them, and `NAME.numbers`, what
gguf.quants.dequantize makes of them. For q8_0, q5_0 and q4_0 also `NAME.from`, numbers, and `NAME.to`, what
gguf.quants.quantize makes of them; the package cannot write the others.
"""

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type, quants
from safetensors.numpy import save_file

SCALES = {"Q8_0": [0], "Q5_0": [0], "Q4_0": [0], "Q4_K": [0, 2], "Q6_K": [208]}
EDGES = np.array([0, -0.0, 2**-24, -(2**-24), 65504, -65504, 2**-14, 1], np.float16)

rng = np.random.default_rng(20)
tensors = {}
for name, scales in SCALES.items():
    size, byte_count = GGML_QUANT_SIZES[Type[name]]
    blocks = rng.integers(0, 256, (40 if size == 32 else 20, byte_count), np.uint8)
    blocks[8], blocks[9] = 0, 255
    for offset in scales:
        numbers = (rng.standard_normal(len(blocks)) * 0.02).astype(np.float16)
        numbers[: len(EDGES)] = EDGES
        blocks[:, offset : offset + 2] = numbers.view(np.uint8).reshape(-1, 2)
    label = name.replace("Q", "q", 1)
    tensors[f"{label}.blocks"] = blocks.reshape(-1)
    tensors[f"{label}.numbers"] = quants.dequantize(blocks, Type[name]).astype(np.float32).reshape(-1)
    if size == 256:
        continue
    x = (rng.standard_normal((40, 32)) * np.exp(rng.standard_normal((40, 1)))).astype(np.float32)
    x[0], x[1], x[2] = 0, -0.0, 1
    x[3] *= 1e-30
    x[4] *= 1e6
    # Halves between steps, and both ends alike.
    x[5] = np.arange(-16, 16) * 0.5
    x[6] = np.arange(-16, 16) + 0.5
    x[7] = np.where(np.arange(32) % 2 == 0, 3, -3)
    x[8, 0], x[9, 31] = 1e4, -1e4
    tensors[f"{label}.from"] = x.reshape(-1)
    tensors[f"{label}.to"] = quants.quantize(x, Type[name]).reshape(-1)
save_file(tensors, Path(__file__).resolve().parent / "Fixtures" / "blocks.safetensors")
