// Products of int8: left rows are rounded in blocks of 32, as the right matrix was when it became blocks of q8_0.
// A tile of the result stays in registers; of each block the sum is of whole numbers, four products an instruction.
#include "CVectorMath.h"
#include "transpose.h"

#define BLOCK 32
#define PANEL 32
// Blocks of a panel that are read for all rows before the next ones are: what the first cache holds.
#define MOST_BLOCKS 32

#define UNROLL _Pragma("clang loop unroll(full)")

// Of a block: what its numbers are multiplied by to become steps, and what a step is worth; NaN where a number is not
// finite.
typedef struct {
  float inverse, scale;
} block_scale;

INLINE block_scale scale_of(const float *x) {
  // Magnitudes are in the order of their bits, infinity and NaN above all.
  uint32_t most = bits_of(0x1p-100f);
  for (int i = 0; i < BLOCK; i++) {
    uint32_t bits = bits_of(x[i]) & 0x7fffffff;
    most = bits > most ? bits : most;
  }
  if (most >= 0x7f800000) return (block_scale){0, NAN};
  return (block_scale){127 / float_of(most), float_of(most) / 127};
}

// Halves away from zero: just less than a half more, toward zero. What is not finite becomes 0.
INLINE int32_t step_of(float x, float inverse) {
  float steps = inverse == 0 ? 0 : x * inverse;
  return (int32_t)(steps + copysignf(0x1.fffffep-2f, steps));
}

VECTORISED
void vm_round_to_int8(const float *x, size_t blocks, float *out) {
  for (size_t b = 0; b < blocks; b++, x += BLOCK, out += BLOCK) {
    block_scale by = scale_of(x);
    for (int i = 0; i < BLOCK; i++) out[i] = (float)step_of(x[i], by.inverse) * by.scale;
  }
}

VECTORISED
void vm_int8_rows(const float *x, size_t blocks, vm_int8_row *rows) {
  for (; blocks > 0; blocks--, x += BLOCK, rows++) {
    block_scale by = scale_of(x);
    int32_t sum = 0;
    for (int i = 0; i < BLOCK; i++) {
      int32_t step = step_of(x[i], by.inverse);
      rows->steps[i] = (int8_t)step;
      sum += step;
    }
    rows->scale = by.scale;
    rows->start = -128 * sum;
  }
}

VECTORISED
void vm_int8_panel(
    const uint8_t *blocks, size_t inner, size_t columns, size_t first, float scale, vm_int8_block *panel) {
  size_t count = columns - first < PANEL ? columns - first : PANEL, blocks_of_column = inner / BLOCK;
  const uint8_t *column = blocks + first * blocks_of_column * 34;
  for (size_t b = 0; b < blocks_of_column; b++, panel++, column += 34) {
    // Four bytes are moved as one number.
    float words[PANEL][BLOCK / 4] = {{0}};
    for (size_t c = 0; c < PANEL; c++) {
      const uint8_t *block = column + (c < count ? c : 0) * blocks_of_column * 34;
      uint16_t half;
      memcpy(&half, block, sizeof half);
      panel->scales[c] = c < count ? half_inline(half) * scale : 0;
      memcpy(words[c], block + 2, BLOCK);
    }
    float turned[BLOCK / 4][PANEL];
    transpose_inline(words[0], BLOCK / 4, PANEL, BLOCK / 4, 0, 1, turned[0], PANEL);
    const uint8_t *bytes = (const uint8_t *)turned;
    for (size_t i = 0; i < BLOCK * PANEL; i++) panel->steps[i] = bytes[i] ^ 0x80;
  }
}

#if defined(__x86_64__)
#include <immintrin.h>

#define VNNI __attribute__((target("arch=x86-64-v4,avx512vnni"), min_vector_width(512)))

// `rows` rows of `blocks` blocks each, `left_stride` apart, by a panel.
VNNI static inline __attribute__((always_inline)) void tile(
    const int rows, const vm_int8_row *left, size_t left_stride, size_t blocks, const vm_int8_block *panel, float *out,
    size_t stride, int adds) {
  __m512 sum[6][2];
  UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < 2; v++) sum[r][v] = _mm512_setzero_ps();
  for (size_t b = 0; b < blocks; b++, left++, panel++) {
    __m512i acc[6][2];
    UNROLL for (int r = 0; r < rows; r++)
      acc[r][0] = acc[r][1] = _mm512_set1_epi32(left[(size_t)r * left_stride].start);
    UNROLL for (int s = 0; s < BLOCK / 4; s++) {
      __m512i w0 = _mm512_loadu_si512(panel->steps + 128 * s), w1 = _mm512_loadu_si512(panel->steps + 128 * s + 64);
      UNROLL for (int r = 0; r < rows; r++) {
        int32_t four;
        memcpy(&four, left[(size_t)r * left_stride].steps + 4 * s, sizeof four);
        __m512i x = _mm512_set1_epi32(four);
        acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], w0, x);
        acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], w1, x);
      }
    }
    __m512 scale0 = _mm512_loadu_ps(panel->scales), scale1 = _mm512_loadu_ps(panel->scales + 16);
    UNROLL for (int r = 0; r < rows; r++) {
      __m512 scale = _mm512_set1_ps(left[(size_t)r * left_stride].scale);
      sum[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][0]), _mm512_mul_ps(scale, scale0), sum[r][0]);
      sum[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][1]), _mm512_mul_ps(scale, scale1), sum[r][1]);
    }
  }
  UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < 2; v++) {
    float *to = out + (size_t)r * stride + 16 * v;
    _mm512_storeu_ps(to, adds ? _mm512_add_ps(_mm512_loadu_ps(to), sum[r][v]) : sum[r][v]);
  }
}

VNNI void vm_product_int8(
    const vm_int8_row *left, size_t blocks, size_t rows, const vm_int8_block *panels, size_t columns, float *out,
    size_t stride, int adds) {
  for (size_t c = 0; c < columns; c += PANEL, out += PANEL, panels += blocks) {
    size_t wide = columns - c < PANEL ? columns - c : PANEL;
    for (size_t first = 0, here; first < blocks; first += here) {
      here = blocks - first < MOST_BLOCKS ? blocks - first : MOST_BLOCKS;
      int next = adds || first > 0;
      for (size_t row = 0, high; row < rows; row += high) {
        high = rows - row >= 6 ? 6 : rows - row >= 3 ? 3 : 1;
        const vm_int8_row *from = left + row * blocks + first;
        // Of a panel of which only some columns are there, by way of a block that has them all.
        float whole[6 * PANEL], *to = out + row * stride;
        int isWhole = wide == PANEL;
        float *target = isWhole ? to : whole;
        size_t step = isWhole ? stride : PANEL;
        int here_adds = isWhole && next;
        if (high == 6)
          tile(6, from, blocks, here, panels + first, target, step, here_adds);
        else if (high == 3)
          tile(3, from, blocks, here, panels + first, target, step, here_adds);
        else
          tile(1, from, blocks, here, panels + first, target, step, here_adds);
        if (isWhole) continue;
        for (size_t r = 0; r < high; r++)
          for (size_t i = 0; i < wide; i++)
            to[r * stride + i] = (next ? to[r * stride + i] : 0) + whole[r * PANEL + i];
      }
    }
  }
}
#else
// vm_has_vnni says that it is never called.
void vm_product_int8(
    const vm_int8_row *left, size_t blocks, size_t rows, const vm_int8_block *panels, size_t columns, float *out,
    size_t stride, int adds) {}
#endif
