// Convolutions of 3x3 taps and stride 1 on CPU devices by Winograd's F(2x2, 3x3) and F(4x4, 3x3), as SIDE says: 16 products
// where the direct sum has 36, or 36 where it has 144. Lavin and Gray, arXiv:1509.09308, section 4.
//
//   y of a tile of SIDE x SIDE pixels = A' [sum over c of (G w G') (B' x B)] A, x the tile's window of the input
//
// The three transforms are here; between them `product` (panels.cl) multiplies WINDOW^2 matrices [tiles, C] [C, O]. All in
// between is float32. A run of tiles is taken at a time, so that what is in between stays in the caches. The numbers are
// those of winograd.c.
//
// Mapping: `winograd_weights` [panels, C / 16], `winograd_input` and `winograd_output` one work-item for each tile;
// work-group size 1.
// WEIGHT is how w is stored.
// Layouts: w [panels, 9 C, 32]; u [WINDOW^2, panels, C, 32]; x [N, H, W, C]; v [WINDOW^2, tiles, C]; m [WINDOW^2, tiles, O];
// y [N, H', W', O]. C and O are multiples of 16.

#define WEIGHT_t PASTE(WEIGHT, _t)
#define LOAD16_WEIGHT(p, i) PASTE(load16_, WEIGHT)(p, i)
#define WINDOW (SIDE + 2)
#define FOR(i, count) _Pragma("unroll") for (int i = 0; i < count; ++i)

#if SIDE == 2
// G w of three taps.
void weights_line(const float16 first, const float16 middle, const float16 last, float16* out) {
  const float16 outer = 0.5f * (first + last), inner = 0.5f * middle;
  out[0] = first;
  out[1] = outer + inner;
  out[2] = outer - inner;
  out[3] = last;
}

// B' x of a line of the window.
void input_line(const float16* x, float16* out) {
  out[0] = x[0] - x[2];
  out[1] = x[1] + x[2];
  out[2] = x[2] - x[1];
  out[3] = x[1] - x[3];
}

// A' m of a line of products.
void output_line(const float16* m, float16* out) {
  out[0] = m[0] + m[1] + m[2];
  out[1] = m[1] - m[2] - m[3];
}
#else
#define NEAR 0.70710678f
#define FAR 1.41421356f
#define NEAR_2 0.5f
#define FAR_2 2.0f

void weights_line(const float16 first, const float16 middle, const float16 last, float16* out) {
  const float16 near_outer = (-2.0f / 3) * (first + NEAR_2 * last), near_inner = (-2.0f / 3 * NEAR) * middle;
  const float16 far_outer = (1.0f / 6) * (first + FAR_2 * last), far_inner = (FAR / 6) * middle;
  out[0] = first;
  out[1] = near_outer + near_inner;
  out[2] = near_outer - near_inner;
  out[3] = far_outer + far_inner;
  out[4] = far_outer - far_inner;
  out[5] = last;
}

void input_line(const float16* x, float16* out) {
  const float16 near_even = x[4] - FAR_2 * x[2], near_odd = NEAR * x[3] - (NEAR * FAR_2) * x[1];
  const float16 far_even = x[4] - NEAR_2 * x[2], far_odd = FAR * x[3] - (FAR * NEAR_2) * x[1];
  out[0] = x[0] - (NEAR_2 + FAR_2) * x[2] + x[4];
  out[1] = near_even + near_odd;
  out[2] = near_even - near_odd;
  out[3] = far_even + far_odd;
  out[4] = far_even - far_odd;
  out[5] = x[1] - (NEAR_2 + FAR_2) * x[3] + x[5];
}

void output_line(const float16* m, float16* out) {
  const float16 near_even = m[1] + m[2], near_odd = m[1] - m[2], far_even = m[3] + m[4], far_odd = m[3] - m[4];
  out[0] = m[0] + near_even + far_even;
  out[1] = NEAR * near_odd + FAR * far_odd;
  out[2] = NEAR_2 * near_even + FAR_2 * far_even;
  out[3] = (NEAR * NEAR_2) * near_odd + (FAR * FAR_2) * far_odd + m[5];
}
#endif

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void winograd_weights(
    __global const WEIGHT_t* w, const ulong w0, __global float* u, const ulong u0, const int channels,
    const int panels) {
  const ulong panel = get_global_id(0), matrix = (ulong)panels * channels * 32;
  const int first = get_global_id(1) * 16;
  for (int c = first; c < first + 16; ++c) {
    for (int part = 0; part < 32; part += 16) {
      __global const WEIGHT_t* in = w + w0 + (panel * 9 * channels + c) * 32 + part;
      float16 columns[3][WINDOW];
      FOR(j, 3) {
        const float16 top = LOAD16_WEIGHT(in, (ulong)j * channels * 32);
        const float16 middle = LOAD16_WEIGHT(in, (ulong)(3 + j) * channels * 32);
        const float16 bottom = LOAD16_WEIGHT(in, (ulong)(6 + j) * channels * 32);
        weights_line(top, middle, bottom, columns[j]);
      }
      __global float* out = u + u0 + (panel * channels + c) * 32 + part;
      FOR(i, WINDOW) {
        float16 row[WINDOW];
        weights_line(columns[0][i], columns[1][i], columns[2][i], row);
        FOR(j, WINDOW) vstore16(row[j], 0, out + (WINDOW * i + j) * matrix);
      }
    }
  }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void winograd_input(
    __global const T_t* x, const ulong x0, __global float* v, const ulong v0, const int first, const int tiles,
    const int channels, const int height, const int width, const int tile_rows, const int tile_columns,
    const int pad_top, const int pad_left) {
  const int tile = first + get_global_id(0);
  const int left = tile % tile_columns * SIDE - pad_left;
  const int top = tile / tile_columns % tile_rows * SIDE - pad_top;
  const ulong image = tile / tile_columns / tile_rows;
  x += x0;
  v += v0 + (ulong)get_global_id(0) * channels;
  const ulong matrix = (ulong)tiles * channels;
  for (int c = 0; c < channels; c += 16) {
    float16 columns[WINDOW][WINDOW];
    FOR(j, WINDOW) {
      float16 column[WINDOW];
      FOR(i, WINDOW) {
        const int inside = top + i >= 0 && top + i < height && left + j >= 0 && left + j < width;
        column[i] = inside ? LOAD16(x, ((image * height + top + i) * width + left + j) * channels + c) : (float16)(0.0f);
      }
      input_line(column, columns[j]);
    }
    FOR(i, WINDOW) {
      float16 row[WINDOW], out[WINDOW];
      FOR(j, WINDOW) row[j] = columns[j][i];
      input_line(row, out);
      FOR(j, WINDOW) vstore16(out[j], 0, v + (WINDOW * i + j) * matrix + c);
    }
  }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void winograd_output(
    __global const float* m, const ulong m0, __global T_t* y, const ulong y0, EPILOGUE_PARAMETERS, const int first,
    const int tiles, const int columns, const int out_height, const int out_width, const int tile_rows,
    const int tile_columns) {
  const int tile = first + get_global_id(0);
  const int left = tile % tile_columns * SIDE, top = tile / tile_columns % tile_rows * SIDE;
  const int image = tile / tile_columns / tile_rows;
  m += m0 + (ulong)get_global_id(0) * columns;
  y += y0;
  const ulong matrix = (ulong)tiles * columns;
  const int height = min(SIDE, out_height - top), width = min(SIDE, out_width - left);
  for (int column = 0; column < columns; column += 16) {
    float16 sums[WINDOW][SIDE];
    FOR(j, WINDOW) {
      float16 in[WINDOW];
      FOR(i, WINDOW) in[i] = vload16(0, m + (WINDOW * i + j) * matrix + column);
      output_line(in, sums[j]);
    }
    FOR(i, SIDE) {
      if (i >= height) break;
      float16 row[WINDOW], out[SIDE];
      FOR(j, WINDOW) row[j] = sums[j][i];
      output_line(row, out);
      for (int j = 0; j < width; ++j) {
        const ulong at = (((ulong)image * out_height + top + i) * out_width + left + j) * columns + column;
        EPILOGUE(out[j], y, at, column, image, columns, 16);
      }
    }
  }
}
