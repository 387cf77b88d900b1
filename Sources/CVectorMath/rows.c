#include "CVectorMath.h"
#include "functions.h"

#include <float.h>

// Sums run in LANES independent lanes: they vectorise without permission to reorder, and are more accurate.
enum { LANES = 32 };

INLINE double total(double *lane) {
  for (int j = 0; j < 16; j++) lane[j] += lane[j + 16];
  return total_of_16(lane);
}

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
  return total(lane);
}

// Eight numbers as a tree, which loses less than one after the other, and nothing of eight that are equal.
#define SUM8(term) (((term(0) + term(1)) + (term(2) + term(3))) + ((term(4) + term(5)) + (term(6) + term(7))))

// Sums of x - mean and of its square.
typedef struct { double sum, square; } deviations;

VECTORISED
static deviations deviations_from(const float *x, float mean, size_t n) {
  enum { COLUMNS = 16 };
  double sums[COLUMNS] = {0}, squares[COLUMNS] = {0};
  size_t i = 0;
#define DEVIATION(k) (x[i + (k) * COLUMNS + j] - mean)
#define SQUARE(k) (DEVIATION(k) * DEVIATION(k))
  for (; i + 8 * COLUMNS <= n; i += 8 * COLUMNS)
    for (int j = 0; j < COLUMNS; j++) {
      sums[j] += SUM8(DEVIATION);
      squares[j] += SUM8(SQUARE);
    }
  for (; i + COLUMNS <= n; i += COLUMNS)
    for (int j = 0; j < COLUMNS; j++) {
      sums[j] += DEVIATION(0);
      squares[j] += SQUARE(0);
    }
  for (int j = 0; i + j < n; j++) {
    sums[j] += DEVIATION(0);
    squares[j] += SQUARE(0);
  }
#undef DEVIATION
#undef SQUARE
  return (deviations){total_of_16(sums), total_of_16(squares)};
}

VECTORISED
static double sum_of_squares(const float *x, size_t n) {
  double lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int j = 0; j < LANES; j++) lane[j] += x[i + j] * x[i + j];
  for (int j = 0; i + j < n; j++) lane[j] += x[i + j] * x[i + j];
  return total(lane);
}

VECTORISED
void vm_add_to_doubles(const float *x, double *sums, size_t n) {
  for (size_t i = 0; i < n; i++) sums[i] += x[i];
}

// Eight rows are summed in float and these sums in double.
VECTORISED
void vm_add_rows_to_doubles(const float *x, size_t stride, size_t rows, double *sums, size_t n) {
  size_t r = 0;
  for (; r + 8 <= rows; r += 8, x += 8 * stride)
    for (size_t i = 0; i < n; i++) {
#define VALUE(k) x[(k) * stride + i]
      sums[i] += SUM8(VALUE);
#undef VALUE
    }
  for (; r < rows; r++, x += stride)
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

// `offset` is what the rounding of the mean to float leaves over, times the scale.
VECTORISED
static void normalise(
    const float *x, float mean, float scale, float offset, const float *gamma, const float *beta, float *out,
    size_t n) {
  if (gamma && beta) {
    for (size_t i = 0; i < n; i++) out[i] = ((x[i] - mean) * scale + offset) * gamma[i] + beta[i];
  } else if (gamma) {
    for (size_t i = 0; i < n; i++) out[i] = ((x[i] - mean) * scale + offset) * gamma[i];
  } else {
    for (size_t i = 0; i < n; i++) out[i] = (x[i] - mean) * scale + offset;
  }
}

// The second pass sums the deviations from the rounded mean too, which give what the rounding lost (Chan, Golub,
// LeVeque 1983).
void vm_layer_statistics(const float *x, float epsilon, float *mean, float *scale, float *offset, size_t n) {
  *mean = (float)(vm_sum(x, n) / (double)n);
  deviations d = deviations_from(x, *mean, n);
  double rest = d.sum / (double)n;
  double variance = d.square / (double)n - rest * rest;
  double inverse = 1.0 / sqrt((variance > 0 ? variance : 0 * variance) + (double)epsilon);
  *scale = (float)inverse;
  *offset = (float)(-rest * inverse);
}

float vm_rms_scale(const float *x, float epsilon, size_t n) {
  return (float)(1.0 / sqrt(sum_of_squares(x, n) / (double)n + (double)epsilon));
}

void vm_layer_norm(const float *x, const float *gamma, const float *beta, float epsilon, float *out, size_t n) {
  float mean, scale, offset;
  vm_layer_statistics(x, epsilon, &mean, &scale, &offset, n);
  normalise(x, mean, scale, offset, gamma, beta, out, n);
}

void vm_rms_norm(const float *x, const float *gamma, float epsilon, float *out, size_t n) {
  normalise(x, 0, vm_rms_scale(x, epsilon, n), 0, gamma, 0, out, n);
}

// Sums run down the columns, contiguous whatever the group's width; groups are gathered from them at the end.
// Eight pixels are summed in float and these sums in double: over all pixels float's roundings would add up.
VECTORISED
void vm_group_moments(
    const float *x, size_t pixels, size_t channels, size_t groups, double *scratch, double *means,
    double *squares) {
  size_t width = channels / groups, p = 0;
  double count = (double)(pixels * width), *sums = scratch, *square = scratch + channels;
  float *mean = (float *)(scratch + 2 * channels);
  memset(sums, 0, 2 * channels * sizeof(double));
  for (; p + 8 <= pixels; p += 8) {
    const float *row = x + p * channels;
    for (size_t c = 0; c < channels; c++) {
#define VALUE(i) row[i * channels + c]
      sums[c] += SUM8(VALUE);
    }
  }
  for (; p < pixels; p++)
    for (size_t c = 0; c < channels; c++) sums[c] += x[p * channels + c];
  for (size_t g = 0; g < groups; g++) {
    double sum = 0;
    for (size_t c = g * width; c < (g + 1) * width; c++) sum += sums[c];
    for (size_t c = g * width; c < (g + 1) * width; c++) mean[c] = (float)(sum / count);
  }
  // As in vm_layer_norm, deviations from the rounded mean correct it.
  memset(sums, 0, channels * sizeof(double));
  for (p = 0; p + 8 <= pixels; p += 8) {
    const float *row = x + p * channels;
    for (size_t c = 0; c < channels; c++) {
      float m = mean[c];
#define DEVIATION(i) (VALUE(i) - m)
#define SQUARE(i) (DEVIATION(i) * DEVIATION(i))
      sums[c] += SUM8(DEVIATION);
      square[c] += SUM8(SQUARE);
    }
  }
  for (; p < pixels; p++)
    for (size_t c = 0; c < channels; c++) {
      float d = x[p * channels + c] - mean[c];
      sums[c] += d;
      square[c] += d * d;
    }
  for (size_t g = 0; g < groups; g++) {
    double sum = 0, total = 0;
    for (size_t c = g * width; c < (g + 1) * width; c++) {
      sum += sums[c];
      total += square[c];
    }
    double rest = sum / count, about = total - rest * sum;
    means[g] = mean[g * width] + rest;
    squares[g] = about > 0 ? about : 0 * about;
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
