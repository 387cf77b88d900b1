// Products with a right matrix in panels, and left rows that lie anywhere: a convolution's pixels are read where they are.
// A tile of the result stays in registers, a panel's part in the second cache; no operand is copied on the way.
#include "transpose.h"

#include "CVectorMath.h"

#define PANEL 32
// Terms of a sum that are added in registers before they go to the result: more would round worse, and leave the cache.
#define LONGEST 1024

typedef float lanes __attribute__((vector_size(64)));
typedef float unaligned_lanes __attribute__((vector_size(64), aligned(4)));

#define LOAD(p) (*(const unaligned_lanes *)(p))
#define STORE(p, v) (*(unaligned_lanes *)(p) = (v))
#define UNROLL _Pragma("clang loop unroll(full)")

// Terms first..<last of each of `taps` rows of the left, by 16 `vectors` columns of a panel.
INLINE void tile(
    const int rows, const int vectors, const float *const *left, size_t tap_stride, size_t taps, size_t first,
    size_t last, const float *panel, float *out, size_t stride, int adds) {
  lanes acc[8][2];
  UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++) acc[i][v] = (lanes){0};
  for (size_t tap = 0; tap < taps; tap++, left += tap_stride) {
    const float *row[8];
    UNROLL for (int i = 0; i < rows; i++) row[i] = left[i];
    for (size_t k = first; k < last; k++, panel += PANEL) {
      lanes value[2];
      UNROLL for (int v = 0; v < vectors; v++) value[v] = LOAD(panel + 16 * v);
      UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++) acc[i][v] += row[i][k] * value[v];
    }
  }
  UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++) {
    float *to = out + (size_t)i * stride + 16 * v;
    STORE(to, adds ? LOAD(to) + acc[i][v] : acc[i][v]);
  }
}

INLINE void tiles(
    const int height, const int vectors, const float *const *left, size_t rows, size_t taps, size_t first, size_t last,
    const float *panel, float *out, size_t stride, int adds) {
  for (int v = 0; v < 2; v += vectors) {
    size_t row = 0;
    for (; row + (size_t)height <= rows; row += (size_t)height)
      tile(height, vectors, left + row, rows, taps, first, last, panel + 16 * v, out + row * stride + 16 * v, stride, adds);
    for (; row < rows; row++)
      tile(1, vectors, left + row, rows, taps, first, last, panel + 16 * v, out + row * stride + 16 * v, stride, adds);
  }
}

// A panel of which only some columns are there: by way of a block that has them all.
INLINE void narrow_tiles(
    const int height, const int vectors, const float *const *left, size_t rows, size_t taps, size_t first, size_t last,
    const float *panel, size_t columns, float *out, size_t stride, int adds) {
  float block[8 * PANEL];
  for (size_t row = 0, here; row < rows; row += here) {
    here = rows - row < (size_t)height ? 1 : (size_t)height;
    for (int v = 0; v < 2; v += vectors) {
      if (here == 1)
        tile(1, vectors, left + row, rows, taps, first, last, panel + 16 * v, block + 16 * v, PANEL, 0);
      else
        tile(height, vectors, left + row, rows, taps, first, last, panel + 16 * v, block + 16 * v, PANEL, 0);
    }
    for (size_t i = 0; i < here; i++)
      for (size_t c = 0; c < columns; c++) {
        float *to = out + (row + i) * stride + c;
        *to = adds ? *to + block[i * PANEL + c] : block[i * PANEL + c];
      }
  }
}

INLINE void product(
    const int height, const int vectors, const float *const *left, size_t taps, size_t inner, size_t rows,
    const float *panels, size_t columns, float *out, size_t stride, int adds) {
  size_t several = inner < LONGEST ? LONGEST / inner : 1, part = inner < LONGEST ? inner : LONGEST;
  for (size_t c = 0; c < columns; c += PANEL, out += PANEL) {
    int next = adds;
    for (size_t tap = 0; tap < taps; tap += several)
      for (size_t first = 0; first < inner; first += part, next = 1) {
        size_t last = inner - first < part ? inner : first + part, here = taps - tap < several ? taps - tap : several;
        const float *panel = panels + (tap * inner + first) * PANEL;
        if (columns - c < PANEL)
          narrow_tiles(
              height, vectors, left + tap * rows, rows, here, first, last, panel, columns - c, out, stride, next);
        else
          tiles(height, vectors, left + tap * rows, rows, here, first, last, panel, out, stride, next);
      }
    panels += taps * inner * PANEL;
  }
}

#define PARAMETERS                                                                                                   \
  const float *const *left, size_t taps, size_t inner, size_t rows, const float *panels, size_t columns, float *out, \
      size_t stride, int adds
#define ARGUMENTS left, taps, inner, rows, panels, columns, out, stride, adds

#if defined(__x86_64__)
// 32 registers of 16 lanes, which the compiler takes only where it is told that vectors are so wide.
__attribute__((target("arch=x86-64-v4"), min_vector_width(512))) static void product_wide(PARAMETERS) {
  product(8, 2, ARGUMENTS);
}
#endif

// 16 registers, each less than 16 lanes.
VECTORISED static void product_narrow(PARAMETERS) { product(6, 1, ARGUMENTS); }

void vm_product(PARAMETERS) {
#if defined(__x86_64__)
  if (vm_has_avx512()) return product_wide(ARGUMENTS);
#endif
  product_narrow(ARGUMENTS);
}

VECTORISED
void vm_pack_columns(
    const float *x, size_t rows, size_t columns, size_t first, int transposed, float scale, float *panel) {
  size_t count = columns - first < PANEL ? columns - first : PANEL;
  if (transposed) {
    transpose_inline(x + first * rows, rows, count, rows, 1, scale, panel, PANEL);
    for (size_t r = 0; r < rows; r++)
      for (size_t c = count; c < PANEL; c++) panel[r * PANEL + c] = 0;
  } else {
    for (size_t r = 0; r < rows; r++, panel += PANEL) {
      for (size_t c = 0; c < count; c++) panel[c] = x[r * columns + first + c] * scale;
      for (size_t c = count; c < PANEL; c++) panel[c] = 0;
    }
  }
}
