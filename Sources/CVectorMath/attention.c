// A block of attention and of its gradient: the softmax between the products, and the products with values, in which a
// tile of rows stays in registers. Those with keys are product.c's.
#include "transpose.h"

#include "CVectorMath.h"

#define PANEL 32

typedef float lanes __attribute__((vector_size(64)));
typedef float unaligned_lanes __attribute__((vector_size(64), aligned(4)));

// Macros, because a vector that crosses a call is a matter of the target.
#define LOAD(p) (*(const unaligned_lanes *)(p))
#define STORE(p, v) (*(unaligned_lanes *)(p) = (v))

typedef int32_t words __attribute__((vector_size(64)));
#define SELECT(mask, a, b) ((lanes)(((mask) & (words)(a)) | (~(mask) & (words)(b))))

// e^x for x <= 0 as in functions.h; below e^-87 it is 0, and a NaN stays one: 2^n is a factor.
#define EXP_FALLING(result, x)                                            \
  {                                                                       \
    lanes x_ = (x);                                                       \
    lanes shifted = x_ * 1.44269504f + 12582912.0f;                       \
    lanes n = shifted - 12582912.0f;                                      \
    lanes r = (x_ - n * 0.693359375f) - n * -2.12194440e-4f;              \
    lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;                    \
    p = p * r + 8.3334519073e-3f;                                         \
    p = p * r + 4.1665795894e-2f;                                         \
    p = p * r + 1.6666665459e-1f;                                         \
    p = p * r + 5.0000001201e-1f;                                         \
    p = p * (r * r) + r + 1.0f;                                           \
    p *= (lanes)(((words)shifted << 23) + 0x3f800000);                    \
    result = SELECT(x_ < -87.0f, (lanes){0}, p);                          \
  }

// All 16 lanes to one number, in every lane.
#define ROTATED(v, n)                                                                                             \
  __builtin_shufflevector(v, v, (n) % 16, (n + 1) % 16, (n + 2) % 16, (n + 3) % 16, (n + 4) % 16, (n + 5) % 16,   \
                          (n + 6) % 16, (n + 7) % 16, (n + 8) % 16, (n + 9) % 16, (n + 10) % 16, (n + 11) % 16,   \
                          (n + 12) % 16, (n + 13) % 16, (n + 14) % 16, (n + 15) % 16)
#define FOLD(v, n, combine) v = combine(v, ROTATED(v, n))
#define FOLD_ALL(v, combine) \
  FOLD(v, 8, combine);       \
  FOLD(v, 4, combine);       \
  FOLD(v, 2, combine);       \
  FOLD(v, 1, combine)
#define LARGER(a, b) SELECT((a) > (b), a, b)
#define SUM(a, b) ((a) + (b))

INLINE float softmax_row(float *scores, size_t count, size_t n, float *maximum, float *sum) {
  for (size_t i = count; i < n; i++) scores[i] = -INFINITY;
  // The first maximum is finite, so that a row of nothing but -infinity gives zeros and not inf - inf.
  lanes top = *maximum - (lanes){0};
  for (size_t i = 0; i < n; i += 16) {
    lanes x = LOAD(scores + i);
    top = SELECT(x > top, x, top);
  }
  FOLD_ALL(top, LARGER);
  lanes total = {0};
  for (size_t i = 0; i < n; i += 16) {
    lanes e;
    EXP_FALLING(e, LOAD(scores + i) - top)
    STORE(scores + i, e);
    total += e;
  }
  FOLD_ALL(total, SUM);
  float factor = *maximum == top[0] ? 1 : exp_inline(*maximum - top[0]);
  *sum = *sum * factor + total[0];
  *maximum = top[0];
  return factor;
}

INLINE void softmax_rows(
    float *scores, size_t width, size_t rows, ptrdiff_t visible, int grows, size_t n, float *maxima, float *sums,
    float *out, size_t stride) {
  for (size_t row = 0; row < rows; row++) {
    ptrdiff_t count = visible + (grows ? (ptrdiff_t)row : 0);
    count = count < 0 ? 0 : count > (ptrdiff_t)n ? (ptrdiff_t)n : count;
    float factor = softmax_row(scores + row * width, (size_t)count, n, maxima + row, sums + row);
    if (factor != 1)
      for (size_t i = 0; i < stride; i += 16) STORE(out + row * stride + i, LOAD(out + row * stride + i) * factor);
  }
}

INLINE void softmax_slopes(
    float *weights, float *slopes, size_t width, size_t rows, size_t n, const float *sums, const float *totals,
    float scale) {
  for (size_t row = 0; row < rows; row++, weights += width, slopes += width) {
    float share = sums[row] == 0 ? 0 : 1 / sums[row];
    for (size_t i = 0; i < n; i += 16) {
      lanes weight = LOAD(weights + i) * share;
      STORE(weights + i, weight);
      STORE(slopes + i, weight * (LOAD(slopes + i) - totals[row]) * scale);
    }
  }
}

// out += scores values, for `rows` rows by `vectors` times 16 columns; the scores may be stored transposed.
INLINE void value_tile(
    const int transposed, const int rows, const int vectors, const float *scores, size_t width, const float *values,
    size_t stride, size_t count, float *out) {
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
      for (int v = 0; v < vectors; v++) acc[i][v] += scores[transposed ? k * width + (size_t)i : (size_t)i * width + k] * value[v];
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) STORE(out + (size_t)i * stride + 16 * v, acc[i][v]);
}

// Tiles of `tile` rows, the rest row by row.
INLINE void all_values(
    const int transposed, const int tile, const int vectors, const float *scores, size_t width, size_t rows,
    const float *values, size_t count, size_t stride, float *out) {
  size_t groups = stride / 16, group = 0, step = transposed ? 1 : width;
#define GROUPS(n)                                                                                          \
  for (; group + (n) <= groups; group += (n)) {                                                            \
    size_t row = 0;                                                                                        \
    for (; row + (size_t)tile <= rows; row += (size_t)tile)                                                \
      value_tile(transposed, tile, n, scores + row * step, width, values + 16 * group, stride, count,      \
                 out + row * stride + 16 * group);                                                         \
    for (; row < rows; row++)                                                                              \
      value_tile(transposed, 1, n, scores + row * step, width, values + 16 * group, stride, count,         \
                 out + row * stride + 16 * group);                                                         \
  }
  if (vectors == 3 && groups % 3 == 0) GROUPS(3)
  if (vectors >= 2) GROUPS(2)
  GROUPS(1)
#undef GROUPS
}

#define VALUES_PARAMETERS                                                                                   \
  const float *scores, size_t width, size_t rows, const float *values, size_t count, size_t stride, float *out
#define VALUES scores, width, rows, values, count, stride, out
#define SOFTMAX_PARAMETERS                                                                                     \
  float *scores, size_t width, size_t rows, ptrdiff_t visible, int grows, size_t n, float *maxima, float *sums, \
      float *out, size_t stride
#define SOFTMAX scores, width, rows, visible, grows, n, maxima, sums, out, stride
#define SLOPES_PARAMETERS                                                                                      \
  float *weights, float *slopes, size_t width, size_t rows, size_t n, const float *sums, const float *totals,   \
      float scale
#define SLOPES weights, slopes, width, rows, n, sums, totals, scale

#if defined(__x86_64__)
// 32 registers of 16 lanes, which the compiler takes only where it is told that vectors are so wide.
#define WIDE __attribute__((target("arch=x86-64-v4"), min_vector_width(512))) static void
WIDE values_wide(VALUES_PARAMETERS) { all_values(0, 8, 3, VALUES); }
WIDE transposed_wide(VALUES_PARAMETERS) { all_values(1, 8, 3, VALUES); }
WIDE softmax_wide(SOFTMAX_PARAMETERS) { softmax_rows(SOFTMAX); }
WIDE slopes_wide(SLOPES_PARAMETERS) { softmax_slopes(SLOPES); }
#define CHOOSE(name, ...) \
  if (vm_has_avx512()) return name##_wide(__VA_ARGS__); \
  name##_narrow(__VA_ARGS__)
#else
#define CHOOSE(name, ...) name##_narrow(__VA_ARGS__)
#endif

// 16 registers, each less than 16 lanes.
#define NARROW VECTORISED static void
NARROW values_narrow(VALUES_PARAMETERS) { all_values(0, 6, 1, VALUES); }
NARROW transposed_narrow(VALUES_PARAMETERS) { all_values(1, 6, 1, VALUES); }
NARROW softmax_narrow(SOFTMAX_PARAMETERS) { softmax_rows(SOFTMAX); }
NARROW slopes_narrow(SLOPES_PARAMETERS) { softmax_slopes(SLOPES); }

void vm_attention_values(VALUES_PARAMETERS) { CHOOSE(values, VALUES); }
void vm_attention_values_transposed(VALUES_PARAMETERS) { CHOOSE(transposed, VALUES); }
void vm_softmax_rows(SOFTMAX_PARAMETERS) { CHOOSE(softmax, SOFTMAX); }
void vm_softmax_slopes(SLOPES_PARAMETERS) { CHOOSE(slopes, SLOPES); }

VECTORISED void vm_pack_keys(const float *keys, size_t stride, size_t count, size_t size, float *packed) {
  for (size_t first = 0; first < count; first += PANEL, packed += PANEL * size) {
    size_t here = count - first < PANEL ? count - first : PANEL;
    transpose_inline(keys + first * stride, stride, here, size, 0, 1, packed, PANEL);
    for (size_t d = 0; d < size; d++)
      for (size_t k = here; k < PANEL; k++) packed[d * PANEL + k] = 0;
  }
}
