"""Single operations by PyTorch at the shapes of the Operations benchmark; `peers.py --micro` prints them as a table."""

import json
import statistics
import time

MATMULS = [(1024, 1024, 1024), (4096, 320, 320), (4096, 2560, 320), (1024, 5120, 640), (256, 1280, 1280),
           (4096, 4096, 40)]
CONVOLUTIONS = [(2, 320, 320, 64), (2, 640, 640, 32), (2, 1280, 1280, 16), (2, 1280, 1280, 8), (2, 960, 320, 64),
                (1, 512, 512, 128), (1, 128, 128, 512)]
ATTENTIONS = [(4096, 4096, 40), (1024, 1024, 80), (256, 256, 160), (4096, 77, 40)]


def main():
    """Prints the median milliseconds and GFLOP/s of products, convolutions and attention as JSON."""
    import torch
    import torch.nn.functional as F

    def median(run):
        run()
        seconds = []
        while len(seconds) < 5 or (sum(seconds) < 1 and len(seconds) < 100):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    rows = []

    def row(name, flop, *runs):
        seconds = min(median(run) for run in runs)
        rows.append({"name": name, "ms": seconds * 1e3, "gflops": flop / seconds / 1e9})

    with torch.inference_mode():
        for m, n, k in MATMULS:
            a, b = torch.randn(m, k), torch.randn(k, n)
            row(f"matmul {m}x{n}x{k}", 2 * m * n * k, lambda: torch.mm(a, b))
        for images, inputs, outputs, size in CONVOLUTIONS:
            x, w = torch.randn(images, inputs, size, size), torch.randn(outputs, inputs, 3, 3)
            xl, wl = (t.to(memory_format=torch.channels_last) for t in (x, w))
            # The layout that suits torch better.
            row(f"conv3x3 {images}x{inputs}->{outputs}@{size}", 18 * images * size * size * inputs * outputs,
                lambda: F.conv2d(x, w, padding=1), lambda: F.conv2d(xl, wl, padding=1))
        for queries, keys, size in ATTENTIONS:
            q, k, v = (torch.randn(2, 8, tokens, size) for tokens in (queries, keys, keys))
            row(f"attention 2x8x{queries}x{keys}x{size}", 64 * queries * keys * size,
                lambda: F.scaled_dot_product_attention(q, k, v))
    print(json.dumps({"threads": torch.get_num_threads(), "version": torch.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
