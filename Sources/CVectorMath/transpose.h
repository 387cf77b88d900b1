// Transposing in tiles of 8x8 that stay in registers.
#ifndef TRANSPOSE_H
#define TRANSPOSE_H

#include "functions.h"

#define UNROLLED _Pragma("clang loop unroll(full)")

typedef float octet __attribute__((vector_size(32)));
typedef float unaligned_octet __attribute__((vector_size(32), aligned(4)));

INLINE void transpose_8x8(const float *x, size_t x_stride, float *y, size_t y_stride, const int scales, float scale) {
  octet r[8], pair[8], quad[8];
  UNROLLED for (int i = 0; i < 8; i++) {
    r[i] = *(const unaligned_octet *)(x + (size_t)i * x_stride);
    if (scales) r[i] *= scale;
  }
  UNROLLED for (int i = 0; i < 8; i += 2) {
    pair[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    pair[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  UNROLLED for (int i = 0; i < 2; i++)
    UNROLLED for (int half = 0; half < 2; half++) {
      octet a = pair[4 * half + i], b = pair[4 * half + i + 2];
      quad[4 * half + 2 * i] = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
      quad[4 * half + 2 * i + 1] = __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
    }
  UNROLLED for (int i = 0; i < 4; i++) {
    *(unaligned_octet *)(y + (size_t)i * y_stride) =
        __builtin_shufflevector(quad[i], quad[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    *(unaligned_octet *)(y + (size_t)(i + 4) * y_stride) =
        __builtin_shufflevector(quad[i], quad[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// y [columns, rows] is x [rows, columns] transposed, times `scale` if it scales: else every bit is kept, whatever it
// stands for. Whole lines of both are read and written at a time.
INLINE void transpose_inline(
    const float *x, size_t x_stride, size_t rows, size_t columns, const int scales, float scale, float *y,
    size_t y_stride) {
  size_t whole_rows = rows & ~(size_t)7, whole_columns = columns & ~(size_t)7;
  for (size_t c = 0; c < whole_columns; c += 16)
    for (size_t r = 0; r < whole_rows; r += 16)
      for (size_t i = r; i < r + 16 && i < whole_rows; i += 8)
        for (size_t j = c; j < c + 16 && j < whole_columns; j += 8)
          transpose_8x8(x + i * x_stride + j, x_stride, y + j * y_stride + i, y_stride, scales, scale);
  for (size_t r = 0; r < rows; r++)
    for (size_t c = r < whole_rows ? whole_columns : 0; c < columns; c++)
      y[c * y_stride + r] = scales ? x[r * x_stride + c] * scale : x[r * x_stride + c];
}

#endif
