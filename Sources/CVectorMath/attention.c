// The two products of an attention block and the softmax between them. The products' inner extent is a head's
// size, too short for a BLAS call to pay for packing; here keys are packed once for all queries, and a tile of
// rows stays in registers.
#include "functions.h"

#include "CVectorMath.h"

#define PANEL 32

typedef float lanes __attribute__((vector_size(64)));
typedef float unaligned_lanes __attribute__((vector_size(64), aligned(4)));

// Macros, because a vector that crosses a call is a matter of the target.
#define LOAD(p) (*(const unaligned_lanes *)(p))
#define STORE(p, v) (*(unaligned_lanes *)(p) = (v))

typedef int32_t words __attribute__((vector_size(64)));
#define SELECT(mask, a, b) ((lanes)(((mask) & (words)(a)) | (~(mask) & (words)(b))))

// e^x for x <= 0 as in functions.h; below e^-87 it is 0, and a NaN stays one.
#define EXP_FALLING(result, x)                                                         \
  {                                                                                    \
    lanes x_ = (x);                                                                    \
    words vanishes = x_ < -87.0f;                                                      \
    lanes c = SELECT(vanishes, (lanes){0}, x_);                                        \
    lanes shifted = c * 1.44269504f + 12582912.0f;                                     \
    lanes n = shifted - 12582912.0f;                                                   \
    lanes r = (c - n * 0.693359375f) - n * -2.12194440e-4f;                            \
    lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;                                 \
    p = p * r + 8.3334519073e-3f;                                                      \
    p = p * r + 4.1665795894e-2f;                                                      \
    p = p * r + 1.6666665459e-1f;                                                      \
    p = p * r + 5.0000001201e-1f;                                                      \
    p = p * (r * r) + r + 1.0f;                                                        \
    p = (lanes)((words)p + ((words)shifted << 23));                                    \
    p = SELECT(vanishes, (lanes){0}, p);                                               \
    result = SELECT(x_ != x_, x_, p);                                                  \
  }

INLINE float softmax_lanes(float *scores, size_t count, size_t n, float *maximum, float *sum) {
  for (size_t i = count; i < n; i++) scores[i] = -INFINITY;
  // The first maximum is finite, so that a row of nothing but -infinity gives zeros and not inf - inf.
  lanes top = *maximum - (lanes){0};
  for (size_t i = 0; i < n; i += 16) {
    lanes x = LOAD(scores + i);
    top = SELECT(x > top, x, top);
  }
  float next = *maximum;
  for (int j = 0; j < 16; j++) next = top[j] > next ? top[j] : next;
  lanes total = {0};
  for (size_t i = 0; i < n; i += 16) {
    lanes e;
    EXP_FALLING(e, LOAD(scores + i) - next)
    STORE(scores + i, e);
    total += e;
  }
  float block = 0;
  for (int j = 0; j < 16; j++) block += total[j];
  float factor = exp_inline(*maximum - next);
  *sum = *sum * factor + block;
  *maximum = next;
  return factor;
}

// `rows` query rows by `vectors` times 16 keys.
INLINE void score_tile(
    const int rows, const int vectors, const float *q, size_t stride, const float *keys, size_t size, float scale,
    float *scores, size_t width) {
  lanes acc[8][2];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) acc[i][v] = (lanes){0};
  for (size_t d = 0; d < size; d++) {
    lanes key[2];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) key[v] = LOAD(keys + d * PANEL + 16 * v);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) acc[i][v] += q[(size_t)i * stride + d] * key[v];
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) STORE(scores + (size_t)i * width + 16 * v, acc[i][v] * scale);
}

// out += scores values, for `rows` rows by `vectors` times 16 columns.
INLINE void value_tile(
    const int rows, const int vectors, const float *scores, size_t width, const float *values, size_t stride,
    size_t count, float *out) {
  lanes acc[8][3];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) acc[i][v] = LOAD(out + (size_t)i * stride + 16 * v);
  for (size_t k = 0; k < count; k++) {
    lanes value[3];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) value[v] = LOAD(values + k * stride + 16 * v);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) acc[i][v] += scores[(size_t)i * width + k] * value[v];
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) STORE(out + (size_t)i * stride + 16 * v, acc[i][v]);
}

// Tiles of `tile` rows, the rest row by row.
INLINE void all_scores(
    const int tile, const int vectors, const float *q, size_t stride, size_t rows, const float *keys, size_t panels,
    size_t size, float scale, float *scores) {
  size_t width = panels * PANEL;
  for (size_t p = 0; p < panels; p++)
    for (int v = 0; v < 2; v += vectors) {
      const float *panel = keys + p * size * PANEL + 16 * v;
      float *out = scores + p * PANEL + 16 * v;
      size_t row = 0;
      for (; row + (size_t)tile <= rows; row += (size_t)tile)
        score_tile(tile, vectors, q + row * stride, stride, panel, size, scale, out + row * width, width);
      for (; row < rows; row++)
        score_tile(1, vectors, q + row * stride, stride, panel, size, scale, out + row * width, width);
    }
}

INLINE void all_values(
    const int tile, const int vectors, const float *scores, size_t width, size_t rows, const float *values,
    size_t count, size_t stride, float *out) {
  size_t groups = stride / 16, group = 0;
#define GROUPS(n)                                                                                          \
  for (; group + (n) <= groups; group += (n)) {                                                            \
    size_t row = 0;                                                                                        \
    for (; row + (size_t)tile <= rows; row += (size_t)tile)                                                \
      value_tile(tile, n, scores + row * width, width, values + 16 * group, stride, count,                 \
                 out + row * stride + 16 * group);                                                         \
    for (; row < rows; row++)                                                                              \
      value_tile(1, n, scores + row * width, width, values + 16 * group, stride, count,                    \
                 out + row * stride + 16 * group);                                                         \
  }
  if (vectors == 3 && groups % 3 == 0) GROUPS(3)
  if (vectors >= 2) GROUPS(2)
  GROUPS(1)
#undef GROUPS
}

#define SCORES_PARAMETERS                                                                             \
  const float *q, size_t stride, size_t rows, const float *keys, size_t panels, size_t size, float scale, \
      float *scores
#define VALUES_PARAMETERS                                                                                   \
  const float *scores, size_t width, size_t rows, const float *values, size_t count, size_t stride, float *out

#if defined(__x86_64__)
// 32 registers of 16 lanes, which the compiler takes only where it is told that vectors are so wide.
#define WIDE __attribute__((target("arch=x86-64-v4"), min_vector_width(512)))
WIDE static void scores_wide(SCORES_PARAMETERS) {
  all_scores(8, 2, q, stride, rows, keys, panels, size, scale, scores);
}
WIDE static void values_wide(VALUES_PARAMETERS) {
  all_values(8, 3, scores, width, rows, values, count, stride, out);
}
WIDE static float softmax_wide(float *scores, size_t count, size_t n, float *maximum, float *sum) {
  return softmax_lanes(scores, count, n, maximum, sum);
}
#endif

// 16 registers, each less than 16 lanes.
VECTORISED static void scores_narrow(SCORES_PARAMETERS) {
  all_scores(6, 1, q, stride, rows, keys, panels, size, scale, scores);
}
VECTORISED static void values_narrow(VALUES_PARAMETERS) {
  all_values(6, 1, scores, width, rows, values, count, stride, out);
}

VECTORISED static float softmax_narrow(float *scores, size_t count, size_t n, float *maximum, float *sum) {
  return softmax_lanes(scores, count, n, maximum, sum);
}

float vm_softmax_block(float *scores, size_t count, size_t n, float *maximum, float *sum) {
#if defined(__x86_64__)
  if (vm_has_avx512()) return softmax_wide(scores, count, n, maximum, sum);
#endif
  return softmax_narrow(scores, count, n, maximum, sum);
}

void vm_attention_scores(SCORES_PARAMETERS) {
#if defined(__x86_64__)
  if (vm_has_avx512()) return scores_wide(q, stride, rows, keys, panels, size, scale, scores);
#endif
  scores_narrow(q, stride, rows, keys, panels, size, scale, scores);
}

void vm_attention_values(VALUES_PARAMETERS) {
#if defined(__x86_64__)
  if (vm_has_avx512()) return values_wide(scores, width, rows, values, count, stride, out);
#endif
  values_narrow(scores, width, rows, values, count, stride, out);
}

VECTORISED void vm_pack_keys(const float *keys, size_t stride, size_t count, size_t size, float *packed) {
  for (size_t first = 0; first < count; first += PANEL, packed += PANEL * size) {
    size_t here = count - first < PANEL ? count - first : PANEL;
    for (size_t k = 0; k < PANEL; k++)
      for (size_t d = 0; d < size; d++) packed[d * PANEL + k] = k < here ? keys[(first + k) * stride + d] : 0;
  }
}
