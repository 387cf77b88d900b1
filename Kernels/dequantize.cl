// Numbers in blocks (blocks.cl, for BLOCKS) to float32.

// In their order. Mapping: a work-item writes CHUNK numbers, a multiple of 16, of `count`, one too.
__kernel void dequantize(
    __global const int* x, const ulong x0, __global float* y, const ulong y0, const ulong count) {
  __global const uchar* blocks = (__global const uchar*)(x + x0);
  const ulong first = get_global_id(0) * (ulong)CHUNK, last = min(first + CHUNK, count);
  for (ulong i = first; i < last; i += 16) vstore16(block_numbers(blocks, i), 0, y + y0 + i);
}

// A weight [columns, channels, taps] in panels of 32 columns, [panels, taps * channels, 32], zero past the last column;
// the first panel's are those from `begin` on.
// Mapping: a work-item takes 16 numbers of each of a panel's columns; global size [ceil(channels * taps / 16), panels].
__kernel void dequantize_panels(
    __global const int* x, const ulong x0, __global float* y, const ulong y0, const int channels, const int taps,
    const int columns, const int begin) {
  __global const uchar* blocks = (__global const uchar*)(x + x0);
  const int inner = channels * taps, first = get_global_id(0) * 16, panel = get_global_id(1);
  const int count = min(16, inner - first);
  float part[32 * 16];
  for (int c = 0; c < 32; ++c) {
    const int column = begin + panel * 32 + c;
    const ulong i = (ulong)column * inner + first;
    if (column >= columns) {
      vstore16((float16)(0.0f), c, part);
    } else if (count == 16 && i % 16 == 0) {
      vstore16(block_numbers(blocks, i), c, part);
    } else {
      for (int k = 0; k < count; ++k) part[c * 16 + k] = block_number(blocks, i + k);
    }
  }
  for (int k = 0; k < count; ++k) {
    const int row = (first + k) % taps * channels + (first + k) / taps;
    __global float* out = y + y0 + ((ulong)panel * inner + row) * 32;
    for (int c = 0; c < 32; ++c) out[c] = part[c * 16 + k];
  }
}
