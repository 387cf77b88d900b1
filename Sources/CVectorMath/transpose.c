// Matrices turned over.
#include "transpose.h"

#include "CVectorMath.h"

VECTORISED void vm_transpose(
    const float *x, size_t x_stride, size_t rows, size_t columns, float *y, size_t y_stride) {
  transpose_inline(x, x_stride, rows, columns, 0, 1, y, y_stride);
}
