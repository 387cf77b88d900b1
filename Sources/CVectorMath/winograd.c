// Winograd's F(2x2, 3x3), arXiv:1509.09308, section 4.1: the transforms around sixteen products. Channels are multiples of 16.
#include "functions.h"

#include "CVectorMath.h"

#define PANEL 32

typedef float lanes __attribute__((vector_size(64)));
typedef float unaligned_lanes __attribute__((vector_size(64), aligned(4)));

#define LOAD(p) (*(const unaligned_lanes *)(p))
#define STORE(p, v) (*(unaligned_lanes *)(p) = (v))
#define UNROLL _Pragma("clang loop unroll(full)")

// G w G' of a panel's nine taps.
INLINE void weights(const float *w, size_t channels, float *u, size_t matrix) {
  size_t tap = channels * PANEL;
  for (size_t i = 0; i < tap; i += 16, w += 16, u += 16) {
    lanes rows[4][3];
    UNROLL for (size_t j = 0; j < 3; j++) {
      lanes top = LOAD(w + j * tap), middle = LOAD(w + (3 + j) * tap), bottom = LOAD(w + (6 + j) * tap);
      lanes outer = 0.5f * (top + bottom), inner = 0.5f * middle;
      rows[0][j] = top, rows[1][j] = outer + inner, rows[2][j] = outer - inner, rows[3][j] = bottom;
    }
    UNROLL for (size_t j = 0; j < 4; j++) {
      lanes outer = 0.5f * (rows[j][0] + rows[j][2]), inner = 0.5f * rows[j][1];
      STORE(u + 4 * j * matrix, rows[j][0]);
      STORE(u + (4 * j + 1) * matrix, outer + inner);
      STORE(u + (4 * j + 2) * matrix, outer - inner);
      STORE(u + (4 * j + 3) * matrix, rows[j][2]);
    }
  }
}

// B' x B of a window.
INLINE void input(const float *const *x, size_t channels, float *v, size_t matrix) {
  const float *from[16];
  for (int i = 0; i < 16; i++) from[i] = x[i];
  for (size_t c = 0; c < channels; c += 16, v += 16) {
    lanes rows[4][4];
    UNROLL for (int j = 0; j < 4; j++) {
      lanes first = LOAD(from[j] + c), second = LOAD(from[4 + j] + c);
      lanes third = LOAD(from[8 + j] + c), fourth = LOAD(from[12 + j] + c);
      rows[0][j] = first - third, rows[1][j] = second + third;
      rows[2][j] = third - second, rows[3][j] = second - fourth;
    }
    UNROLL for (size_t i = 0; i < 4; i++) {
      STORE(v + 4 * i * matrix, rows[i][0] - rows[i][2]);
      STORE(v + (4 * i + 1) * matrix, rows[i][1] + rows[i][2]);
      STORE(v + (4 * i + 2) * matrix, rows[i][2] - rows[i][1]);
      STORE(v + (4 * i + 3) * matrix, rows[i][1] - rows[i][3]);
    }
  }
}

// A' m A of a tile.
INLINE void output(const float *m, size_t matrix, size_t columns, float *const *y) {
  float *to[4] = {y[0], y[1], y[2], y[3]};
  for (size_t c = 0; c < columns; c += 16, m += 16) {
    lanes rows[2][4];
    UNROLL for (size_t j = 0; j < 4; j++) {
      lanes first = LOAD(m + j * matrix), second = LOAD(m + (4 + j) * matrix);
      lanes third = LOAD(m + (8 + j) * matrix), fourth = LOAD(m + (12 + j) * matrix);
      rows[0][j] = first + second + third, rows[1][j] = second - third - fourth;
    }
    UNROLL for (int i = 0; i < 2; i++) {
      lanes left = rows[i][0] + rows[i][1] + rows[i][2], right = rows[i][1] - rows[i][2] - rows[i][3];
      if (to[2 * i]) STORE(to[2 * i] + c, LOAD(to[2 * i] + c) + left);
      if (to[2 * i + 1]) STORE(to[2 * i + 1] + c, LOAD(to[2 * i + 1] + c) + right);
    }
  }
}

VECTORISED
void vm_winograd_weights(const float *w, size_t channels, float *u, size_t matrix) { weights(w, channels, u, matrix); }

VECTORISED
void vm_winograd_input(const float *const *x, size_t channels, float *v, size_t matrix) { input(x, channels, v, matrix); }

VECTORISED
void vm_winograd_output(const float *m, size_t matrix, size_t columns, float *const *y) { output(m, matrix, columns, y); }
