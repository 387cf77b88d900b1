// The gradient of a convolution's weight on CPU devices; a linear layer's is the gradient of one tap.
//
//   dW[tap * C + c, o] = sum over n, p of x[n, step * p + tap - pad, c] g[n, p, o], x zero on padding
//
// Mapping: one work-item (work-group size 1, no local memory) owns RB rows x CB columns of dW and one part of
// the pixels; global size [ceil(taps * C / RB), ceil(O / CB), parts]. It packs BLOCK pixels of x and g into
// private memory, as float32: x with zeros for padding, g in panels of 32 columns. Then tiles of MR rows x 16
// MV columns stay in vector registers over the block. The sum over a block starts from zero and is added to
// the part's sum, and parts are added in order by `combine_parts` (reduce.cl): the order depends on BLOCK and
// part_size alone, which are never tuned.
//
// Layouts: x [N, H, W, C]; g [N, H', W', O], pixels = N H' W'; dW [taps * C, O], or partial [parts, taps * C,
// O] where there are several parts. A linear layer's x is [1, 1, rows, C].
// MR, MV 1 | 2, RB a multiple of MR and of 16, CB a multiple of 32: tile sizes, tuned. PARTS 0: y is T; 1: y
// is float32.

#define BLOCK 128
// Off by a cache line, so that a tile's rows do not share a cache's sets.
#define X_STRIDE (RB + 16)
#define FOR_ROWS _Pragma("unroll") for (int i = 0; i < MR; ++i)
#define FOR_VECTORS _Pragma("unroll") for (int v = 0; v < MV; ++v)

#if PARTS
#define OUT_t float
#define STORE_OUT(v, p, i) store_f32(v, p, i)
#define STORE16_OUT(v, p, i) store16_f32(v, p, i)
#else
#define OUT_t T_t
#define STORE_OUT(v, p, i) STORE(v, p, i)
#define STORE16_OUT(v, p, i) STORE16(v, p, i)
#endif

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void weight_gradient(
    __global const T_t* x, const ulong x0, __global const T_t* g, const ulong g0, __global OUT_t* y,
    const ulong y0, const int pixels, const int part_size, const int rows, const int columns,
    const int channels, const int height, const int width, const int out_height, const int out_width,
    const int kernel_width, const int step, const int pad_top, const int pad_left) {
  const int row0 = get_global_id(0) * RB, column0 = get_global_id(1) * CB;
  const int begin = get_global_id(2) * part_size, end = min(begin + part_size, pixels);
  const int row_count = min(RB, rows - row0), column_count = min(CB, columns - column0);
  const int tiles = (row_count + MR - 1) / MR, panels = (column_count + 31) / 32;
  x += x0;
  g += g0 + column0;

  float packed_x[X_STRIDE * BLOCK];
  float packed_g[CB * BLOCK];
  float16 sum[RB * CB / 16];
  for (int i = 0; i < RB * CB / 16; ++i) sum[i] = (float16)(0.0f);

  for (int first = begin; first < end; first += BLOCK) {
    const int count = min(BLOCK, end - first);
    for (int p = 0; p < count; ++p) {
      __global const T_t* in = g + (ulong)(first + p) * columns;
      int j = 0;
      for (; j + 16 <= column_count; j += 16)
        vstore16(LOAD16(in, j), 0, packed_g + (j / 32 * BLOCK + p) * 32 + j % 32);
      for (; j < panels * 32; ++j)
        packed_g[(j / 32 * BLOCK + p) * 32 + j % 32] = j < column_count ? LOAD(in, j) : 0.0f;
    }
    // Runs of rows that belong to one tap are contiguous in x.
    for (int r = 0; r < tiles * MR;) {
      const int tap = (row0 + r) / channels, c = (row0 + r) % channels;
      const int run = r < row_count ? min(channels - c, row_count - r) : tiles * MR - r;
      const int dy = tap / kernel_width - pad_top, dx = tap % kernel_width - pad_left;
      int column = first % out_width, line = first / out_width % out_height;
      ulong image = first / out_width / out_height;
      for (int p = 0; p < count; ++p) {
        const int in_y = line * step + dy, in_x = column * step + dx;
        const int inside = r < row_count && in_y >= 0 && in_y < height && in_x >= 0 && in_x < width;
        float* out = packed_x + p * X_STRIDE + r;
        int j = 0;
        if (inside) {
          __global const T_t* in = x + ((image * height + in_y) * width + in_x) * channels + c;
          for (; j + 16 <= run; j += 16) vstore16(LOAD16(in, j), 0, out + j);
          for (; j < run; ++j) out[j] = LOAD(in, j);
        } else {
          for (; j + 16 <= run; j += 16) vstore16((float16)(0.0f), 0, out + j);
          for (; j < run; ++j) out[j] = 0.0f;
        }
        if (++column == out_width) {
          column = 0;
          if (++line == out_height) {
            line = 0;
            ++image;
          }
        }
      }
      r += run;
    }
    for (int panel = 0; panel < panels; ++panel) {
      for (int t = 0; t < tiles; ++t) {
        for (int c = 0; c < 2; c += MV) {
          float16 acc[MR * MV];
          FOR_ROWS FOR_VECTORS acc[i * MV + v] = (float16)(0.0f);
          const float* a = packed_x + t * MR;
          const float* b = packed_g + panel * BLOCK * 32 + c * 16;
          _Pragma("unroll 4") for (int p = 0; p < count; ++p) {
            float16 gradient[MV];
            FOR_VECTORS gradient[v] = vload16(v, b);
            FOR_ROWS {
              const float value = a[i];
              FOR_VECTORS acc[i * MV + v] += value * gradient[v];
            }
            a += X_STRIDE;
            b += 32;
          }
          float16* to = sum + t * MR * (CB / 16) + panel * 2 + c;
          FOR_ROWS FOR_VECTORS to[i * (CB / 16) + v] += acc[i * MV + v];
        }
      }
    }
  }

  y += y0 + (ulong)get_global_id(2) * rows * columns + column0;
  for (int r = 0; r < row_count; ++r) {
    const float16* from = sum + r * (CB / 16);
    __global OUT_t* out = y + (ulong)(row0 + r) * columns;
    int j = 0;
    for (; j + 16 <= column_count; j += 16) STORE16_OUT(from[j / 16], out, j);
    for (; j < column_count; ++j) STORE_OUT(((const float*)from)[j], out, j);
  }
}
