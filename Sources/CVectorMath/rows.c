#include "CVectorMath.h"
#include "functions.h"

#include <float.h>

// Sums run in LANES independent lanes: they vectorise without permission to reorder, and are more accurate.
enum { LANES = 32 };

VECTORISED
float vm_maximum(const float *x, size_t n) {
  float lane[LANES];
  size_t i = 0;
  for (int j = 0; j < LANES; j++) lane[j] = -INFINITY;
  for (; i + LANES <= n; i += LANES)
    for (int j = 0; j < LANES; j++) lane[j] = maximum_inline(lane[j], x[i + j]);
  for (int j = 0; i + j < n; j++) lane[j] = maximum_inline(lane[j], x[i + j]);
  float result = lane[0];
  for (int j = 1; j < LANES; j++) result = maximum_inline(result, lane[j]);
  return result;
}

VECTORISED
float vm_minimum(const float *x, size_t n) {
  float lane[LANES];
  size_t i = 0;
  for (int j = 0; j < LANES; j++) lane[j] = INFINITY;
  for (; i + LANES <= n; i += LANES)
    for (int j = 0; j < LANES; j++) lane[j] = minimum_inline(lane[j], x[i + j]);
  for (int j = 0; i + j < n; j++) lane[j] = minimum_inline(lane[j], x[i + j]);
  float result = lane[0];
  for (int j = 1; j < LANES; j++) result = minimum_inline(result, lane[j]);
  return result;
}

VECTORISED
double vm_sum(const float *x, size_t n) {
  double lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int j = 0; j < LANES; j++) lane[j] += x[i + j];
  for (int j = 0; i + j < n; j++) lane[j] += x[i + j];
  double sum = 0;
  for (int j = 0; j < LANES; j++) sum += lane[j];
  return sum;
}

VECTORISED
static double sum_of_squared_deviations(const float *x, float mean, size_t n) {
  double lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int j = 0; j < LANES; j++) {
      float d = x[i + j] - mean;
      lane[j] += d * d;
    }
  for (int j = 0; i + j < n; j++) {
    float d = x[i + j] - mean;
    lane[j] += d * d;
  }
  double sum = 0;
  for (int j = 0; j < LANES; j++) sum += lane[j];
  return sum;
}

VECTORISED
void vm_add_to_doubles(const float *x, double *sums, size_t n) {
  for (size_t i = 0; i < n; i++) sums[i] += x[i];
}

// out = exp(x - maximum); returns the sum.
VECTORISED
static float exp_and_sum(const float *x, float maximum, float *out, size_t n) {
  float lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int j = 0; j < LANES; j++) {
      float e = exp_inline(x[i + j] - maximum);
      out[i + j] = e;
      lane[j] += e;
    }
  for (int j = 0; i + j < n; j++) {
    float e = exp_inline(x[i + j] - maximum);
    out[i + j] = e;
    lane[j] += e;
  }
  float sum = 0;
  for (int j = 0; j < LANES; j++) sum += lane[j];
  return sum;
}

void vm_softmax(const float *x, float *out, size_t n) {
  float sum = exp_and_sum(x, vm_maximum(x, n), out, n);
  vm_scale(out, 1.0f / sum, out, n);
}

VECTORISED
static void normalise(
    const float *x, float mean, float scale, const float *gamma, const float *beta, float *out, size_t n) {
  if (gamma && beta) {
    for (size_t i = 0; i < n; i++) out[i] = (x[i] - mean) * scale * gamma[i] + beta[i];
  } else if (gamma) {
    for (size_t i = 0; i < n; i++) out[i] = (x[i] - mean) * scale * gamma[i];
  } else {
    for (size_t i = 0; i < n; i++) out[i] = (x[i] - mean) * scale;
  }
}

void vm_layer_norm(const float *x, const float *gamma, const float *beta, float epsilon, float *out, size_t n) {
  float mean = (float)(vm_sum(x, n) / (double)n);
  double variance = sum_of_squared_deviations(x, mean, n) / (double)n;
  normalise(x, mean, (float)(1.0 / sqrt(variance + (double)epsilon)), gamma, beta, out, n);
}

void vm_rms_norm(const float *x, const float *gamma, float epsilon, float *out, size_t n) {
  double square = sum_of_squared_deviations(x, 0, n) / (double)n;
  normalise(x, 0, (float)(1.0 / sqrt(square + (double)epsilon)), gamma, 0, out, n);
}

// Sums run down the columns, contiguous whatever the group's width; groups are gathered from them at the end.
VECTORISED
void vm_group_moments(
    const float *x, size_t pixels, size_t channels, size_t groups, float *scratch, double *means, double *squares) {
  size_t width = channels / groups;
  float *sums = scratch, *mean = scratch + channels;
  memset(sums, 0, channels * sizeof(float));
  // Sums of deviations from the first pixel, which a large mean does not drown.
  for (size_t p = 0; p < pixels; p++)
    for (size_t c = 0; c < channels; c++) sums[c] += x[p * channels + c] - x[c];
  for (size_t g = 0; g < groups; g++) {
    double sum = 0;
    for (size_t c = g * width; c < (g + 1) * width; c++) sum += (double)sums[c] + (double)pixels * x[c];
    means[g] = sum / (double)(pixels * width);
    for (size_t c = g * width; c < (g + 1) * width; c++) mean[c] = (float)means[g];
  }
  memset(sums, 0, channels * sizeof(float));
  for (size_t p = 0; p < pixels; p++)
    for (size_t c = 0; c < channels; c++) {
      float d = x[p * channels + c] - mean[c];
      sums[c] += d * d;
    }
  for (size_t g = 0; g < groups; g++) {
    double sum = 0;
    for (size_t c = g * width; c < (g + 1) * width; c++) sum += sums[c];
    squares[g] = sum;
  }
}

VECTORISED
void vm_group_apply(
    const float *x, size_t pixels, size_t channels, const float *mean, const float *scale, const float *shift,
    int silu, float *out) {
  for (size_t p = 0; p < pixels; p++, x += channels, out += channels) {
    if (silu) {
      for (size_t c = 0; c < channels; c++) out[c] = silu_inline((x[c] - mean[c]) * scale[c] + shift[c]);
    } else {
      for (size_t c = 0; c < channels; c++) out[c] = (x[c] - mean[c]) * scale[c] + shift[c];
    }
  }
}
