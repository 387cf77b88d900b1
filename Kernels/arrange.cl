// Reorders a matrix given by strides into row-major rows or into panels, zero past the last row and column.
//
// Source element (tap, channel, column) of batch (outer, inner) lies at the sum of index times stride.
// Output: [batch, ceil(columns / width), padded_rows, width]; row-major is one panel as wide as the matrix.
// Mapping: a work-item writes ROWS rows of one panel; global size [ceil(padded_rows / ROWS), panels, batch].
// T is the source's storage, TARGET (f32 or T) the output's.
// PAIRS 1: both are of 16 bits, and a word of the output has two rows, [batch, panels, padded_rows / 2, width], the
// first in its lower half. All of rows, padded_rows and ROWS are even.

#define TARGET_t PASTE(TARGET, _t)
#define SOURCE(row) (x + (row) / channels * tap_stride + (row) % channels * channel_stride)

__kernel void arrange(
    __global const T_t* x, const ulong x0, __global TARGET_t* y, const ulong y0, const int channels,
    const int rows, const int padded_rows, const int columns, const int width, const ulong tap_stride,
    const ulong channel_stride, const ulong column_stride, const int inner, const ulong outer_stride,
    const ulong inner_stride) {
  const int panel = get_global_id(1);
  const ulong batch = get_global_id(2);
  const int first = get_global_id(0) * ROWS;
  const int last = min(first + ROWS, padded_rows);
  const int left = min(width, columns - panel * width);
  x += x0 + batch / inner * outer_stride + batch % inner * inner_stride
      + (ulong)panel * width * column_stride;
  y += y0 + (batch * get_global_size(1) + panel) * (ulong)padded_rows * width;
#if PAIRS
  for (int row = first; row < last; row += 2) {
    __global uint* out = (__global uint*)(y + (ulong)row * width);
    int j = 0;
    if (row < rows) {
      __global const T_t *low = SOURCE(row), *high = SOURCE(row + 1);
      if (column_stride == 1) {
        for (; j + 16 <= left; j += 16)
          vstore16(convert_uint16(vload16(0, low + j)) | convert_uint16(vload16(0, high + j)) << 16, 0, out + j);
      }
      for (; j < left; ++j) out[j] = low[j * column_stride] | (uint)high[j * column_stride] << 16;
    }
    for (; j < width; ++j) out[j] = 0;
  }
#else
  for (int row = first; row < last; ++row) {
    __global TARGET_t* out = y + (ulong)row * width;
    int j = 0;
    if (row < rows) {
      __global const T_t* in = SOURCE(row);
      if (column_stride == 1) {
        for (; j + 16 <= left; j += 16) PASTE(store16_, TARGET)(LOAD16(in, j), out, j);
        for (; j < left; ++j) PASTE(store_, TARGET)(LOAD(in, j), out, j);
      } else {
        for (; j + 16 <= left; j += 16) {
          float t[16];
          for (int i = 0; i < 16; ++i) t[i] = LOAD(in, (j + i) * column_stride);
          PASTE(store16_, TARGET)(vload16(0, t), out, j);
        }
        for (; j < left; ++j) PASTE(store_, TARGET)(LOAD(in, j * column_stride), out, j);
      }
    }
    for (; j < width; ++j) PASTE(store_, TARGET)(0.0f, out, j);
  }
#endif
}
