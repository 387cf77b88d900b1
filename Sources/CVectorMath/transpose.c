// Matrices turned over.
#include "transpose.h"

#include "CVectorMath.h"

VECTORISED void vm_transpose(
    const float *x, size_t x_stride, size_t rows, size_t columns, float *y, size_t y_stride) {
  transpose_inline(x, x_stride, rows, columns, 0, 1, y, y_stride);
}

// Squares of it, so that whole lines of both are in the first cache.
#define SQUARE 32

VECTORISED void vm_transpose_shorts(
    const uint16_t *x, size_t x_stride, size_t rows, size_t columns, uint16_t *y, size_t y_stride) {
  for (size_t r = 0; r < rows; r += SQUARE)
    for (size_t c = 0; c < columns; c += SQUARE)
      for (size_t j = c; j < c + SQUARE && j < columns; j++)
        for (size_t i = r; i < r + SQUARE && i < rows; i++) y[j * y_stride + i] = x[i * x_stride + j];
}
