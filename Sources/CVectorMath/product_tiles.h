// Tiles of a product in registers, of words that MULTIPLY_ADD(sums, left, right) multiplies: the word at `left` by each lane
// of `right`. `word` is as wide as a float. What includes this defines both.
#ifndef PRODUCT_TILES_H
#define PRODUCT_TILES_H

#include "functions.h"

#define PANEL 32

typedef float lanes __attribute__((vector_size(64)));
typedef float unaligned_lanes __attribute__((vector_size(64), aligned(4)));

#define LOAD(p) (*(const unaligned_lanes *)(p))
#define STORE(p, v) (*(unaligned_lanes *)(p) = (v))
#define UNROLL _Pragma("clang loop unroll(full)")

// Terms first..<last of each of `taps` rows of the left, by 16 `vectors` columns of a panel.
INLINE void tile(
    const int rows, const int vectors, const word *const *left, size_t tap_stride, size_t taps, size_t first,
    size_t last, const word *panel, float *out, size_t stride, float scale, int adds) {
  lanes acc[8][2];
  UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++) acc[i][v] = (lanes){0};
  for (size_t tap = 0; tap < taps; tap++, left += tap_stride) {
    const word *row[8];
    UNROLL for (int i = 0; i < rows; i++) row[i] = left[i];
    for (size_t k = first; k < last; k++, panel += PANEL) {
      lanes value[2];
      UNROLL for (int v = 0; v < vectors; v++) value[v] = LOAD(panel + 16 * v);
      UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++)
        MULTIPLY_ADD(acc[i][v], row[i] + k, value[v]);
    }
  }
  UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++) {
    float *to = out + (size_t)i * stride + 16 * v;
    STORE(to, adds ? LOAD(to) + acc[i][v] * scale : acc[i][v] * scale);
  }
}

// `height` rows at a time, and what is left in halves of eight: a single row keeps few registers busy.
INLINE void tiles(
    const int height, const int vectors, const word *const *left, size_t rows, size_t taps, size_t first, size_t last,
    const word *panel, float *out, size_t stride, float scale, int adds) {
#define ROWS(count)                                                                                                    \
  for (; row + (size_t)(count) <= rows; row += (size_t)(count))                                                        \
    tile(count, vectors, left + row, rows, taps, first, last, panel + 16 * v, out + row * stride + 16 * v, stride, scale, \
         adds);
  for (int v = 0; v < 2; v += vectors) {
    size_t row = 0;
    ROWS(height) ROWS(4) ROWS(2) ROWS(1)
  }
#undef ROWS
}

// A panel of which only some columns are there: by way of a block that has them all.
INLINE void narrow_tiles(
    const int height, const int vectors, const word *const *left, size_t rows, size_t taps, size_t first, size_t last,
    const word *panel, size_t columns, float *out, size_t stride, float scale, int adds) {
  float block[8 * PANEL];
  for (size_t row = 0, here; row < rows; row += here) {
    here = rows - row < (size_t)height ? 1 : (size_t)height;
    for (int v = 0; v < 2; v += vectors) {
      if (here == 1)
        tile(1, vectors, left + row, rows, taps, first, last, panel + 16 * v, block + 16 * v, PANEL, scale, 0);
      else
        tile(height, vectors, left + row, rows, taps, first, last, panel + 16 * v, block + 16 * v, PANEL, scale, 0);
    }
    for (size_t i = 0; i < here; i++)
      for (size_t c = 0; c < columns; c++) {
        float *to = out + (row + i) * stride + c;
        *to = adds ? *to + block[i * PANEL + c] : block[i * PANEL + c];
      }
  }
}

INLINE void product(
    const int height, const int vectors, const word *const *left, size_t taps, size_t inner, size_t rows,
    const word *panels, size_t columns, float *out, size_t stride, float scale, int adds, size_t longest) {
  size_t several = inner < longest ? longest / inner : 1, part = inner < longest ? inner : longest;
  for (size_t c = 0; c < columns; c += PANEL, out += PANEL) {
    int next = adds;
    for (size_t tap = 0; tap < taps; tap += several)
      for (size_t first = 0; first < inner; first += part, next = 1) {
        size_t last = inner - first < part ? inner : first + part, here = taps - tap < several ? taps - tap : several;
        const word *panel = panels + (tap * inner + first) * PANEL;
        if (columns - c < PANEL)
          narrow_tiles(
              height, vectors, left + tap * rows, rows, here, first, last, panel, columns - c, out, stride, scale, next);
        else
          tiles(height, vectors, left + tap * rows, rows, here, first, last, panel, out, stride, scale, next);
      }
    panels += taps * inner * PANEL;
  }
}

// Of left rows that lie `step` words apart.
INLINE void strided_product(
    const int height, const int vectors, const word *left, size_t step, size_t inner, size_t rows, const word *panels,
    size_t columns, float *out, size_t stride, float scale) {
  const word *places[64];
  for (size_t first = 0, here; first < rows; first += here) {
    here = rows - first < 64 ? rows - first : 64;
    for (size_t i = 0; i < here; i++) places[i] = left + (first + i) * step;
    product(height, vectors, places, 1, inner, here, panels, columns, out + first * stride, stride, scale, 0, inner);
  }
}

#define PRODUCT_PARAMETERS                                                                                           \
  const float *const *left, size_t taps, size_t inner, size_t rows, const float *panels, size_t columns, float *out, \
      size_t stride, int adds, size_t longest
#define SCORES_PARAMETERS                                                                                 \
  const float *q, size_t stride, size_t rows, const float *keys, size_t panels, size_t size, float scale, \
      float *scores, size_t width

#endif
