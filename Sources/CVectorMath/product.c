// Products with a right matrix in panels, and left rows that lie anywhere: a convolution's pixels are read where they are.
// A tile of the result stays in registers, a panel's part in the second cache; no operand is copied on the way.
#include "transpose.h"

#include "CVectorMath.h"

typedef float word;
#define MULTIPLY_ADD(sums, left, right) sums += *(left) * (right)
#include "product_tiles.h"

#define PRODUCT left, taps, inner, rows, panels, columns, out, stride, 1, adds, longest
#define SCORES q, stride, size, rows, keys, panels *PANEL, scores, width, scale

#if defined(__x86_64__)
// 32 registers of 16 lanes, which the compiler takes only where it is told that vectors are so wide.
#define WIDE __attribute__((target("arch=x86-64-v4"), min_vector_width(512))) static void
WIDE product_wide(PRODUCT_PARAMETERS) { product(8, 2, PRODUCT); }
WIDE scores_wide(SCORES_PARAMETERS) { strided_product(8, 2, SCORES); }
#endif

// 16 registers, each less than 16 lanes.
VECTORISED static void product_narrow(PRODUCT_PARAMETERS) { product(6, 1, PRODUCT); }
VECTORISED static void scores_narrow(SCORES_PARAMETERS) { strided_product(6, 1, SCORES); }

void vm_product(PRODUCT_PARAMETERS) {
#if defined(__x86_64__)
  if (vm_has_avx512()) return product_wide(left, taps, inner, rows, panels, columns, out, stride, adds, longest);
#endif
  product_narrow(left, taps, inner, rows, panels, columns, out, stride, adds, longest);
}

void vm_attention_scores(SCORES_PARAMETERS) {
#if defined(__x86_64__)
  if (vm_has_avx512()) return scores_wide(q, stride, rows, keys, panels, size, scale, scores, width);
#endif
  scores_narrow(q, stride, rows, keys, panels, size, scale, scores, width);
}

VECTORISED
void vm_pack_columns(
    const float *x, size_t rows, size_t columns, size_t first, int transposed, float scale, float *panel) {
  size_t count = columns - first < PANEL ? columns - first : PANEL;
  if (transposed) {
    if (scale == 1)
      transpose_inline(x + first * rows, rows, count, rows, 0, 1, panel, PANEL);
    else
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

// Rows of a panel that are widened at a time, to stay in the first cache.
#define CHUNK 128

VECTORISED
void vm_pack_narrow(
    vm_narrow type, const uint16_t *x, size_t rows, size_t columns, size_t first, float scale, float *panel) {
  float wide[PANEL * CHUNK];
  size_t count = columns - first < PANEL ? columns - first : PANEL;
  for (size_t r = 0, here; r < rows; r += here, panel += here * PANEL) {
    here = rows - r < CHUNK ? rows - r : CHUNK;
    for (size_t c = 0; c < count; c++) {
      const uint16_t *from = x + (first + c) * rows + r;
      float *to = wide + c * CHUNK;
      if (type == VM_BFLOAT16)
        for (size_t i = 0; i < here; i++) to[i] = float_of((uint32_t)from[i] << 16);
      else
        for (size_t i = 0; i < here; i++) to[i] = half_inline(from[i]);
    }
    transpose_inline(wide, CHUNK, count, here, 1, scale, panel, PANEL);
    for (size_t i = 0; i < here; i++)
      for (size_t c = count; c < PANEL; c++) panel[i * PANEL + c] = 0;
  }
}
