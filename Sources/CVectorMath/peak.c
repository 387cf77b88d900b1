// What one core can do at most: multiply-adds in registers, and bytes to and from memory.
#include "CVectorMath.h"
#include "functions.h"

// Twelve accumulators cover the latency of two units; vectors of one register each must not spill, and how wide
// a register is depends on the level that was chosen, so there are three widths to try.
#define ACCUMULATE(LANES)                                                                              \
  typedef float vector##LANES __attribute__((vector_size(4 * LANES)));                                 \
  VECTORISED static float accumulate##LANES(float a, float b, size_t count) {                          \
    const vector##LANES scale = a - (vector##LANES){}, shift = b - (vector##LANES){};                  \
    vector##LANES v0 = shift, v1 = shift + 1, v2 = shift + 2, v3 = shift + 3, v4 = shift + 4,          \
                  v5 = shift + 5, v6 = shift + 6, v7 = shift + 7, v8 = shift + 8, v9 = shift + 9,      \
                  v10 = shift + 10, v11 = shift + 11;                                                  \
    for (size_t i = 0; i < count; ++i) {                                                               \
      v0 = v0 * scale + shift, v1 = v1 * scale + shift, v2 = v2 * scale + shift;                       \
      v3 = v3 * scale + shift, v4 = v4 * scale + shift, v5 = v5 * scale + shift;                       \
      v6 = v6 * scale + shift, v7 = v7 * scale + shift, v8 = v8 * scale + shift;                       \
      v9 = v9 * scale + shift, v10 = v10 * scale + shift, v11 = v11 * scale + shift;                   \
    }                                                                                                  \
    const vector##LANES sum = v0 + v1 + v2 + v3 + v4 + v5 + v6 + v7 + v8 + v9 + v10 + v11;             \
    float total = 0;                                                                                   \
    for (int i = 0; i < LANES; ++i) total += sum[i];                                                   \
    return total;                                                                                      \
  }

ACCUMULATE(4)
ACCUMULATE(8)
ACCUMULATE(16)

float vm_peak_multiply_add(int lanes, float a, float b, size_t count) {
  switch (lanes) {
    case 16: return accumulate16(a, b, count);
    case 8: return accumulate8(a, b, count);
    default: return accumulate4(a, b, count);
  }
}

VECTORISED float vm_peak_read(const float *x, size_t n) {
  float sums[64] = {0};
  for (size_t i = 0; i + 64 <= n; i += 64)
    for (int j = 0; j < 64; ++j) sums[j] += x[i + j];
  float total = 0;
  for (int j = 0; j < 64; ++j) total += sums[j];
  return total;
}
