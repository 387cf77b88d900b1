// Convolutions of 3x3 taps and stride 1 on CPU devices by Winograd's F(2x2, 3x3) and F(4x4, 3x3): 16 products where the
// direct sum has 36, or 36 where it has 144. Lavin and Gray, arXiv:1509.09308, section 4.
//
//   y of a tile of side x side pixels = A' [sum over c of (G w G') (B' x B)] A, x the tile's window of the input
//
// The three transforms are here; between them `product` (panels.cl) multiplies (side + 2)^2 matrices [tiles, C] [C, O]. All
// in between is float32. A run of tiles is taken at a time, so that what is in between stays in the caches. The numbers are
// those of winograd.c. The side is an argument, so that pictures of all sizes have one program.
//
// Mapping: `winograd_weights` [panels, C / 16], `winograd_input` and `winograd_output` one work-item for each tile;
// work-group size 1.
// WEIGHT is how w is stored.
// Layouts: w [panels, 9 C, 32]; u [(side + 2)^2, panels, C, 32]; x [N, H, W, C]; v [(side + 2)^2, tiles, C];
// m [(side + 2)^2, tiles, O]; y [N, H', W', O]. C and O are multiples of 16.

#define WEIGHT_t PASTE(WEIGHT, _t)
#define LOAD16_WEIGHT(p, i) PASTE(load16_, WEIGHT)(p, i)
#define INLINE static __attribute__((always_inline))
// Of the larger tiles.
#define SIDE 4
#define WINDOW 6
// Unrolls a loop within a line of the window. Loops over lines are not unrolled: that would take seconds more to compile,
// and a window fills more than the registers anyway.
#define FOR(i, count) _Pragma("unroll") for (int i = 0; i < count; ++i)

// The points of the larger tiles, whose product is 1, and their squares.
#define NEAR 0.70710678f
#define FAR 1.41421356f
#define NEAR_2 0.5f
#define FAR_2 2.0f

// G w of three taps.
INLINE void weights_line(const int side, const float16 first, const float16 middle, const float16 last, float16* out) {
  if (side == 2) {
    const float16 outer = 0.5f * (first + last), inner = 0.5f * middle;
    out[0] = first;
    out[1] = outer + inner;
    out[2] = outer - inner;
    out[3] = last;
    return;
  }
  const float16 near_outer = (-2.0f / 3) * (first + NEAR_2 * last), near_inner = (-2.0f / 3 * NEAR) * middle;
  const float16 far_outer = (1.0f / 6) * (first + FAR_2 * last), far_inner = (FAR / 6) * middle;
  out[0] = first;
  out[1] = near_outer + near_inner;
  out[2] = near_outer - near_inner;
  out[3] = far_outer + far_inner;
  out[4] = far_outer - far_inner;
  out[5] = last;
}

// B' x of a line of the window.
INLINE void input_line(const int side, const float16* x, float16* out) {
  if (side == 2) {
    out[0] = x[0] - x[2];
    out[1] = x[1] + x[2];
    out[2] = x[2] - x[1];
    out[3] = x[1] - x[3];
    return;
  }
  const float16 near_even = x[4] - FAR_2 * x[2], near_odd = NEAR * x[3] - (NEAR * FAR_2) * x[1];
  const float16 far_even = x[4] - NEAR_2 * x[2], far_odd = FAR * x[3] - (FAR * NEAR_2) * x[1];
  out[0] = x[0] - (NEAR_2 + FAR_2) * x[2] + x[4];
  out[1] = near_even + near_odd;
  out[2] = near_even - near_odd;
  out[3] = far_even + far_odd;
  out[4] = far_even - far_odd;
  out[5] = x[1] - (NEAR_2 + FAR_2) * x[3] + x[5];
}

// A' m of a line of products.
INLINE void output_line(const int side, const float16* m, float16* out) {
  if (side == 2) {
    out[0] = m[0] + m[1] + m[2];
    out[1] = m[1] - m[2] - m[3];
    return;
  }
  const float16 near_even = m[1] + m[2], near_odd = m[1] - m[2], far_even = m[3] + m[4], far_odd = m[3] - m[4];
  out[0] = m[0] + near_even + far_even;
  out[1] = NEAR * near_odd + FAR * far_odd;
  out[2] = NEAR_2 * near_even + FAR_2 * far_even;
  out[3] = (NEAR * NEAR_2) * near_odd + (FAR * FAR_2) * far_odd + m[5];
}

// Sixteen columns of nine taps, which lie `tap` apart.
INLINE void weights(
    const int side, __global const WEIGHT_t* w, const ulong tap, __global float* u, const ulong matrix) {
  const int window = side + 2;
  float16 columns[3][WINDOW];
  for (int j = 0; j < 3; ++j) {
    const float16 top = LOAD16_WEIGHT(w, j * tap);
    const float16 middle = LOAD16_WEIGHT(w, (3 + j) * tap);
    const float16 bottom = LOAD16_WEIGHT(w, (6 + j) * tap);
    weights_line(side, top, middle, bottom, columns[j]);
  }
  for (int i = 0; i < window; ++i) {
    float16 row[WINDOW];
    weights_line(side, columns[0][i], columns[1][i], columns[2][i], row);
    FOR(j, window) vstore16(row[j], 0, u + (window * i + j) * matrix);
  }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void winograd_weights(
    __global const WEIGHT_t* w, const ulong w0, __global float* u, const ulong u0, const int side,
    const int channels, const int panels) {
  const ulong panel = get_global_id(0), matrix = (ulong)panels * channels * 32;
  const int first = get_global_id(1) * 16;
  for (int c = first; c < first + 16; ++c) {
    for (int part = 0; part < 32; part += 16) {
      __global const WEIGHT_t* in = w + w0 + (panel * 9 * channels + c) * 32 + part;
      __global float* out = u + u0 + (panel * channels + c) * 32 + part;
      if (side == 2) weights(2, in, (ulong)channels * 32, out, matrix);
      else weights(4, in, (ulong)channels * 32, out, matrix);
    }
  }
}

// Sixteen channels of a tile's window, whose first pixel is at `top` and `left` of an image.
INLINE void input(
    const int side, __global const T_t* x, const int channels, const int height, const int width, const int top,
    const int left, __global float* v, const ulong matrix) {
  const int window = side + 2;
  float16 columns[WINDOW][WINDOW];
  for (int j = 0; j < window; ++j) {
    float16 column[WINDOW];
    FOR(i, window) {
      const int inside = top + i >= 0 && top + i < height && left + j >= 0 && left + j < width;
      column[i] = inside ? LOAD16(x, ((long)(top + i) * width + left + j) * channels) : (float16)(0.0f);
    }
    input_line(side, column, columns[j]);
  }
  for (int i = 0; i < window; ++i) {
    float16 row[WINDOW], out[WINDOW];
    FOR(j, window) row[j] = columns[j][i];
    input_line(side, row, out);
    FOR(j, window) vstore16(out[j], 0, v + (window * i + j) * matrix);
  }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void winograd_input(
    __global const T_t* x, const ulong x0, __global float* v, const ulong v0, const int side, const int first,
    const int tiles, const int channels, const int height, const int width, const int tile_rows,
    const int tile_columns, const int pad_top, const int pad_left) {
  const int tile = first + get_global_id(0);
  const int left = tile % tile_columns * side - pad_left;
  const int top = tile / tile_columns % tile_rows * side - pad_top;
  const ulong image = tile / tile_columns / tile_rows;
  x += x0 + image * height * width * channels;
  v += v0 + (ulong)get_global_id(0) * channels;
  const ulong matrix = (ulong)tiles * channels;
  for (int c = 0; c < channels; c += 16) {
    if (side == 2) input(2, x + c, channels, height, width, top, left, v + c, matrix);
    else input(4, x + c, channels, height, width, top, left, v + c, matrix);
  }
}

// Sixteen columns of a tile's pixels, row by row.
INLINE void output(const int side, __global const float* m, const ulong matrix, float16* pixels) {
  const int window = side + 2;
  float16 sums[WINDOW][SIDE];
  for (int j = 0; j < window; ++j) {
    float16 column[WINDOW];
    FOR(i, window) column[i] = vload16(0, m + (window * i + j) * matrix);
    output_line(side, column, sums[j]);
  }
  for (int i = 0; i < side; ++i) {
    float16 row[WINDOW];
    FOR(j, window) row[j] = sums[j][i];
    output_line(side, row, pixels + side * i);
  }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void winograd_output(
    __global const float* m, const ulong m0, __global T_t* y, const ulong y0, EPILOGUE_PARAMETERS, const int side,
    const int first, const int tiles, const int columns, const int out_height, const int out_width,
    const int tile_rows, const int tile_columns) {
  const int tile = first + get_global_id(0);
  const int left = tile % tile_columns * side, top = tile / tile_columns % tile_rows * side;
  const int image = tile / tile_columns / tile_rows;
  m += m0 + (ulong)get_global_id(0) * columns;
  y += y0;
  const ulong matrix = (ulong)tiles * columns;
  const int height = min(side, out_height - top), width = min(side, out_width - left);
  for (int column = 0; column < columns; column += 16) {
    float16 pixels[SIDE * SIDE];
    if (side == 2) output(2, m + column, matrix, pixels);
    else output(4, m + column, matrix, pixels);
    for (int i = 0; i < height; ++i) {
      for (int j = 0; j < width; ++j) {
        const ulong at = (((ulong)image * out_height + top + i) * out_width + left + j) * columns + column;
        EPILOGUE(pixels[side * i + j], y, at, column, image, columns, 16);
      }
    }
  }
}
