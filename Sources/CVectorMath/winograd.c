// Winograd's F(2x2, 3x3) and F(4x4, 3x3), arXiv:1509.09308: the transforms around (side + 2)^2 products. Channels are
// multiples of 16.
//
// The numbers are those of interpolation at 0, 1, -1 and infinity, and at 0, +-sqrt(1/2), +-sqrt(2) and infinity: with the
// usual +-1 and +-2 the rounding errors of the second would be twice as large.
#include "functions.h"

#include "CVectorMath.h"

#define PANEL 32
// Of the larger of the two.
#define WINDOW 6
#define SIDE 4

typedef float lanes __attribute__((vector_size(64)));
typedef float unaligned_lanes __attribute__((vector_size(64), aligned(4)));

#define LOAD(p) (*(const unaligned_lanes *)(p))
#define STORE(p, v) (*(unaligned_lanes *)(p) = (v))
#define UNROLL _Pragma("clang loop unroll(full)")

// The points, whose product is 1, and their squares.
#define NEAR 0.70710678f
#define FAR 1.41421356f
#define NEAR_2 0.5f
#define FAR_2 2.0f

// G w of three taps.
INLINE void weights_line(int side, const lanes w[3], lanes out[WINDOW]) {
  if (side == 2) {
    lanes outer = 0.5f * (w[0] + w[2]), inner = 0.5f * w[1];
    out[0] = w[0], out[1] = outer + inner, out[2] = outer - inner, out[3] = w[2];
    return;
  }
  lanes near_outer = (-2.0f / 3) * (w[0] + NEAR_2 * w[2]), near_inner = (-2.0f / 3 * NEAR) * w[1];
  lanes far_outer = (1.0f / 6) * (w[0] + FAR_2 * w[2]), far_inner = (FAR / 6) * w[1];
  out[0] = w[0];
  out[1] = near_outer + near_inner, out[2] = near_outer - near_inner;
  out[3] = far_outer + far_inner, out[4] = far_outer - far_inner;
  out[5] = w[2];
}

// B' x of a line of the window.
INLINE void input_line(int side, const lanes x[WINDOW], lanes out[WINDOW]) {
  if (side == 2) {
    out[0] = x[0] - x[2], out[1] = x[1] + x[2], out[2] = x[2] - x[1], out[3] = x[1] - x[3];
    return;
  }
  lanes near_even = x[4] - FAR_2 * x[2], near_odd = NEAR * x[3] - (NEAR * FAR_2) * x[1];
  lanes far_even = x[4] - NEAR_2 * x[2], far_odd = FAR * x[3] - (FAR * NEAR_2) * x[1];
  out[0] = x[0] - (NEAR_2 + FAR_2) * x[2] + x[4];
  out[1] = near_even + near_odd, out[2] = near_even - near_odd;
  out[3] = far_even + far_odd, out[4] = far_even - far_odd;
  out[5] = x[1] - (NEAR_2 + FAR_2) * x[3] + x[5];
}

// A' m of a line of products.
INLINE void output_line(int side, const lanes m[WINDOW], lanes out[SIDE]) {
  if (side == 2) {
    out[0] = m[0] + m[1] + m[2], out[1] = m[1] - m[2] - m[3];
    return;
  }
  lanes near_even = m[1] + m[2], near_odd = m[1] - m[2], far_even = m[3] + m[4], far_odd = m[3] - m[4];
  out[0] = m[0] + near_even + far_even;
  out[1] = NEAR * near_odd + FAR * far_odd;
  out[2] = NEAR_2 * near_even + FAR_2 * far_even;
  out[3] = (NEAR * NEAR_2) * near_odd + (FAR * FAR_2) * far_odd + m[5];
}

INLINE void weights(int side, const float *w, size_t channels, float *u, size_t matrix) {
  size_t tap = channels * PANEL, window = (size_t)side + 2;
  for (size_t i = 0; i < tap; i += 16, w += 16, u += 16) {
    lanes columns[3][WINDOW];
    UNROLL for (size_t j = 0; j < 3; j++) {
      lanes column[3] = {LOAD(w + j * tap), LOAD(w + (3 + j) * tap), LOAD(w + (6 + j) * tap)};
      weights_line(side, column, columns[j]);
    }
    UNROLL for (size_t j = 0; j < window; j++) {
      lanes taps[3] = {columns[0][j], columns[1][j], columns[2][j]}, row[WINDOW];
      weights_line(side, taps, row);
      UNROLL for (size_t k = 0; k < window; k++) STORE(u + (window * j + k) * matrix, row[k]);
    }
  }
}

INLINE void input(int side, const float *const *x, size_t channels, float *v, size_t matrix) {
  size_t window = (size_t)side + 2;
  const float *from[WINDOW * WINDOW];
  for (size_t i = 0; i < window * window; i++) from[i] = x[i];
  for (size_t c = 0; c < channels; c += 16, v += 16) {
    lanes columns[WINDOW][WINDOW];
    UNROLL for (size_t j = 0; j < window; j++) {
      lanes column[WINDOW];
      UNROLL for (size_t i = 0; i < window; i++) column[i] = LOAD(from[window * i + j] + c);
      input_line(side, column, columns[j]);
    }
    UNROLL for (size_t i = 0; i < window; i++) {
      lanes row[WINDOW], out[WINDOW];
      UNROLL for (size_t j = 0; j < window; j++) row[j] = columns[j][i];
      input_line(side, row, out);
      UNROLL for (size_t j = 0; j < window; j++) STORE(v + (window * i + j) * matrix, out[j]);
    }
  }
}

INLINE void output(int side, const float *m, size_t matrix, size_t columns, float *const *y) {
  size_t window = (size_t)side + 2;
  float *to[SIDE * SIDE];
  for (int i = 0; i < side * side; i++) to[i] = y[i];
  for (size_t c = 0; c < columns; c += 16, m += 16) {
    lanes sums[WINDOW][SIDE];
    UNROLL for (size_t j = 0; j < window; j++) {
      lanes column[WINDOW];
      UNROLL for (size_t i = 0; i < window; i++) column[i] = LOAD(m + (window * i + j) * matrix);
      output_line(side, column, sums[j]);
    }
    UNROLL for (int i = 0; i < side; i++) {
      lanes row[WINDOW], out[SIDE];
      UNROLL for (size_t j = 0; j < window; j++) row[j] = sums[j][i];
      output_line(side, row, out);
      UNROLL for (int j = 0; j < side; j++) {
        float *pixel = to[side * i + j];
        if (pixel) STORE(pixel + c, LOAD(pixel + c) + out[j]);
      }
    }
  }
}

VECTORISED
void vm_winograd_weights(int side, const float *w, size_t channels, float *u, size_t matrix) {
  if (side == 2) weights(2, w, channels, u, matrix);
  else weights(4, w, channels, u, matrix);
}

VECTORISED
void vm_winograd_input(int side, const float *const *x, size_t channels, float *v, size_t matrix) {
  if (side == 2) input(2, x, channels, v, matrix);
  else input(4, x, channels, v, matrix);
}

VECTORISED
void vm_winograd_output(int side, const float *m, size_t matrix, size_t columns, float *const *y) {
  if (side == 2) output(2, m, matrix, columns, y);
  else output(4, m, matrix, columns, y);
}
