// Convolutions of 3x3 taps and stride 1 on CPU devices by Winograd's F(2x2, 3x3): 16 products where the direct sum has 36.
// Lavin and Gray, arXiv:1509.09308, section 4.1.
//
//   y of a tile of 2x2 pixels = A' [sum over c of (G w G') (B' x B)] A, x the tile's 4x4 window of the input
//
// The three transforms are here; between them `product` (panels.cl) multiplies 16 matrices [tiles, C] [C, O]. All in
// between is float32. A run of tiles is taken at a time, so that what is in between stays in the caches.
//
// Mapping: `winograd_weights` [panels, C / 16], `winograd_input` and `winograd_output` one work-item for each tile;
// work-group size 1.
// WEIGHT is how w is stored.
// Layouts: w [panels, 9 C, 32]; u [16, panels, C, 32]; x [N, H, W, C]; v [16, tiles, C]; m [16, tiles, O];
// y [N, H', W', O]. C and O are multiples of 16.

#define WEIGHT_t PASTE(WEIGHT, _t)
#define LOAD16_WEIGHT(p, i) PASTE(load16_, WEIGHT)(p, i)
#define FOR_4 _Pragma("unroll") for (int i = 0; i < 4; ++i)

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void winograd_weights(
    __global const WEIGHT_t* w, const ulong w0, __global float* u, const ulong u0, const int channels,
    const int panels) {
  const ulong panel = get_global_id(0), matrix = (ulong)panels * channels * 32;
  const int first = get_global_id(1) * 16;
  for (int c = first; c < first + 16; ++c) {
    for (int part = 0; part < 32; part += 16) {
      __global const WEIGHT_t* in = w + w0 + (panel * 9 * channels + c) * 32 + part;
      // G w, a row of taps at a time.
      float16 rows[4][3];
      _Pragma("unroll") for (int j = 0; j < 3; ++j) {
        const float16 top = LOAD16_WEIGHT(in, (ulong)j * channels * 32);
        const float16 middle = LOAD16_WEIGHT(in, (ulong)(3 + j) * channels * 32);
        const float16 bottom = LOAD16_WEIGHT(in, (ulong)(6 + j) * channels * 32);
        const float16 outer = 0.5f * (top + bottom), inner = 0.5f * middle;
        rows[0][j] = top;
        rows[1][j] = outer + inner;
        rows[2][j] = outer - inner;
        rows[3][j] = bottom;
      }
      __global float* out = u + u0 + (panel * channels + c) * 32 + part;
      FOR_4 {
        const float16 outer = 0.5f * (rows[i][0] + rows[i][2]), inner = 0.5f * rows[i][1];
        vstore16(rows[i][0], 0, out + (4 * i) * matrix);
        vstore16(outer + inner, 0, out + (4 * i + 1) * matrix);
        vstore16(outer - inner, 0, out + (4 * i + 2) * matrix);
        vstore16(rows[i][2], 0, out + (4 * i + 3) * matrix);
      }
    }
  }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void winograd_input(
    __global const T_t* x, const ulong x0, __global float* v, const ulong v0, const int first, const int tiles,
    const int channels, const int height, const int width, const int tile_rows, const int tile_columns,
    const int pad_top, const int pad_left) {
  const int tile = first + get_global_id(0);
  const int left = tile % tile_columns * 2 - pad_left;
  const int top = tile / tile_columns % tile_rows * 2 - pad_top;
  const ulong image = tile / tile_columns / tile_rows;
  x += x0;
  v += v0 + (ulong)get_global_id(0) * channels;
  const ulong matrix = (ulong)tiles * channels;
  for (int c = 0; c < channels; c += 16) {
    // B' x, row by row of the window.
    float16 rows[4][4];
    _Pragma("unroll") for (int j = 0; j < 4; ++j) {
      float16 in[4];
      FOR_4 {
        const int inside = top + i >= 0 && top + i < height && left + j >= 0 && left + j < width;
        in[i] = inside ? LOAD16(x, ((image * height + top + i) * width + left + j) * channels + c) : (float16)(0.0f);
      }
      rows[0][j] = in[0] - in[2];
      rows[1][j] = in[1] + in[2];
      rows[2][j] = in[2] - in[1];
      rows[3][j] = in[1] - in[3];
    }
    FOR_4 {
      vstore16(rows[i][0] - rows[i][2], 0, v + (4 * i) * matrix + c);
      vstore16(rows[i][1] + rows[i][2], 0, v + (4 * i + 1) * matrix + c);
      vstore16(rows[i][2] - rows[i][1], 0, v + (4 * i + 2) * matrix + c);
      vstore16(rows[i][1] - rows[i][3], 0, v + (4 * i + 3) * matrix + c);
    }
  }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void winograd_output(
    __global const float* m, const ulong m0, __global T_t* y, const ulong y0, EPILOGUE_PARAMETERS, const int first,
    const int tiles, const int columns, const int out_height, const int out_width, const int tile_rows,
    const int tile_columns) {
  const int tile = first + get_global_id(0);
  const int left = tile % tile_columns * 2, top = tile / tile_columns % tile_rows * 2;
  const int image = tile / tile_columns / tile_rows;
  m += m0 + (ulong)get_global_id(0) * columns;
  y += y0;
  const ulong matrix = (ulong)tiles * columns;
  const int height = min(2, out_height - top), width = min(2, out_width - left);
  for (int column = 0; column < columns; column += 16) {
    // A' m, column by column of the sixteen.
    float16 rows[2][4];
    _Pragma("unroll") for (int j = 0; j < 4; ++j) {
      float16 in[4];
      FOR_4 in[i] = vload16(0, m + (4 * i + j) * matrix + column);
      rows[0][j] = in[0] + in[1] + in[2];
      rows[1][j] = in[1] - in[2] - in[3];
    }
    for (int i = 0; i < height; ++i) {
      const float16 sums[2] = {
          rows[i][0] + rows[i][1] + rows[i][2], rows[i][1] - rows[i][2] - rows[i][3]};
      for (int j = 0; j < width; ++j) {
        const ulong at = (((ulong)image * out_height + top + i) * out_width + left + j) * columns + column;
        EPILOGUE(sums[j], y, at, column, image, columns, 16);
      }
    }
  }
}
