// Gradients of the norms. y is the standardised x, (x - mean) * scale + offset: see vm_layer_norm.
#include "CVectorMath.h"
#include "functions.h"

// d/dz z s(z).
INLINE float silu_slope(float z) {
  float s = sigmoid_inline(z);
  return s * (1.0f + z * (1.0f - s));
}

#define STANDARD(i, c) ((x[(i) * channels + (c)] - mean[c]) * scale[c] + offset[c])
// What the activation passes on.
#define INNER(i, c, y) \
  (silu ? g[(i) * channels + (c)] * silu_slope((y) * gamma[c] + beta[c]) : g[(i) * channels + (c)])

// Eight pixels are summed in float and these sums in double, as vm_group_moments does.
INLINE void group_sums(
    const int silu, const float *x, const float *g, size_t pixels, size_t channels, const float *mean,
    const float *scale, const float *offset, const float *gamma, const float *beta, double *sums, double *slopes) {
  size_t p = 0;
  for (; p + 8 <= pixels; p += 8, x += 8 * channels, g += 8 * channels)
    for (size_t c = 0; c < channels; c++) {
      float h[8], hy[8];
#pragma clang loop unroll(full)
      for (size_t i = 0; i < 8; i++) {
        float y = STANDARD(i, c);
        h[i] = INNER(i, c, y);
        hy[i] = h[i] * y;
      }
      sums[c] += ((h[0] + h[1]) + (h[2] + h[3])) + ((h[4] + h[5]) + (h[6] + h[7]));
      slopes[c] += ((hy[0] + hy[1]) + (hy[2] + hy[3])) + ((hy[4] + hy[5]) + (hy[6] + hy[7]));
    }
  for (; p < pixels; p++, x += channels, g += channels)
    for (size_t c = 0; c < channels; c++) {
      float y = STANDARD(0, c), h = INNER(0, c, y);
      sums[c] += h;
      slopes[c] += h * y;
    }
}

INLINE void group_gradient(
    const int silu, const float *x, const float *g, size_t pixels, size_t channels, const float *mean,
    const float *scale, const float *offset, const float *gamma, const float *beta, const float *gain,
    const float *tilt, const float *shift, float *out) {
  for (size_t p = 0; p < pixels; p++, x += channels, g += channels, out += channels)
    for (size_t c = 0; c < channels; c++) {
      float y = STANDARD(0, c);
      out[c] = gain[c] * INNER(0, c, y) + (tilt[c] * y + shift[c]);
    }
}

VECTORISED
void vm_group_gradient_sums(
    const float *x, const float *g, size_t pixels, size_t channels, const float *mean, const float *scale,
    const float *offset, const float *gamma, const float *beta, int silu, double *sums, double *slopes) {
  memset(sums, 0, channels * sizeof(double));
  memset(slopes, 0, channels * sizeof(double));
  if (silu) {
    group_sums(1, x, g, pixels, channels, mean, scale, offset, gamma, beta, sums, slopes);
  } else {
    group_sums(0, x, g, pixels, channels, mean, scale, offset, gamma, beta, sums, slopes);
  }
}

VECTORISED
void vm_group_gradient(
    const float *x, const float *g, size_t pixels, size_t channels, const float *mean, const float *scale,
    const float *offset, const float *gamma, const float *beta, int silu, const float *gain, const float *tilt,
    const float *shift, float *out) {
  if (silu) {
    group_gradient(1, x, g, pixels, channels, mean, scale, offset, gamma, beta, gain, tilt, shift, out);
  } else {
    group_gradient(0, x, g, pixels, channels, mean, scale, offset, gamma, beta, gain, tilt, shift, out);
  }
}

VECTORISED
void vm_row_norm_gradient(
    const float *x, const float *g, const float *gamma, float mean, float scale, float offset, int centred, float *out,
    double *sumsOfSlopes, double *sums, size_t n) {
  enum { COLUMNS = 16 };
  double total[COLUMNS] = {0}, slope[COLUMNS] = {0};
  size_t i = 0;
#define ROW(j)                                   \
  float y = (x[i + j] - mean) * scale + offset;  \
  float h = gamma ? g[i + j] * gamma[i + j] : g[i + j]; \
  total[j] += h;                                 \
  slope[j] += h * y;
  for (; i + COLUMNS <= n; i += COLUMNS)
    for (size_t j = 0; j < COLUMNS; j++) { ROW(j) }
  for (size_t j = 0; i + j < n; j++) { ROW(j) }
#undef ROW
  float average = centred ? (float)(total_of_16(total) / (double)n) : 0;
  float tilt = (float)(total_of_16(slope) / (double)n);
  for (i = 0; i < n; i++) {
    float y = (x[i] - mean) * scale + offset;
    float h = gamma ? g[i] * gamma[i] : g[i];
    out[i] = scale * (h - average - y * tilt);
  }
  if (sumsOfSlopes)
    for (i = 0; i < n; i++) sumsOfSlopes[i] += g[i] * ((x[i] - mean) * scale + offset);
  if (sums)
    for (i = 0; i < n; i++) sums[i] += g[i];
}
