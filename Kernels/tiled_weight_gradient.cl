// The gradient of a convolution's weight on GPUs; a linear layer's is the gradient of one tap.
//
//   dW[tap * C + c, o] = sum over n, p of x[n, step * p + tap - pad, c] g[n, p, o], x zero on padding
//
// Mapping: a work-group of TX x TY items computes TM rows x TN columns of dW over one part of the pixels,
// each item (TM / TY) x (TN / TX) of them in registers, strided so that neighbours store side by side. Local
// size [TX, TY, 1]; global size [ceil(O / TN) * TX, ceil(taps * C / TM) * TY, parts]. TK pixels are staged at
// a time: along both tiles neighbouring items read neighbouring channels.
// Parts are added in order by `combine_parts` (reduce.cl); part_size is never tuned, so that sums repeat.
//
// Layouts: x [N, H, W, C]; g [N, H', W', O], pixels = N H' W'; dW [taps * C, O], or partial [parts, taps * C,
// O] where there are several parts. A linear layer's x is [1, 1, rows, C].
// TX, TY, TM, TN and TK are tuned as in tiled.cl. PARTS 0: y is T; 1: y is float32.

#define MI (TM / TY)
#define NI (TN / TX)
#if PARTS
#define OUT_t float
#define STORE_OUT(v, p, i) store_f32(v, p, i)
#else
#define OUT_t T_t
#define STORE_OUT(v, p, i) STORE(v, p, i)
#endif

__kernel __attribute__((reqd_work_group_size(TX, TY, 1))) void weight_gradient(
    __global const T_t* x, const ulong x0, __global const T_t* g, const ulong g0, __global OUT_t* y,
    const ulong y0, const int pixels, const int part_size, const int rows, const int columns,
    const int channels, const int height, const int width, const int out_height, const int out_width,
    const int kernel_width, const int step, const int pad_top, const int pad_left) {
  __local float tile_x[TK][TM];
  __local float tile_g[TK][TN];
  const int tx = get_local_id(0), ty = get_local_id(1);
  const int item = ty * TX + tx;
  const int row0 = get_group_id(1) * TM, column0 = get_group_id(0) * TN;
  const int begin = get_group_id(2) * part_size, end = min(begin + part_size, pixels);
  x += x0;
  g += g0;

  float acc[MI][NI];
  UNROLL for (int i = 0; i < MI; ++i)
    UNROLL for (int j = 0; j < NI; ++j) acc[i][j] = 0.0f;

  for (int first = begin; first < end; first += TK) {
    for (int e = item; e < TM * TK; e += TX * TY) {
      const int p = first + e / TM, row = row0 + e % TM;
      float v = 0.0f;
      if (p < end && row < rows) {
        const int tap = row / channels, channel = row - tap * channels;
        const int line = p / out_width;
        const int in_y = line % out_height * step - pad_top + tap / kernel_width;
        const int in_x = p % out_width * step - pad_left + tap % kernel_width;
        if (in_y >= 0 && in_y < height && in_x >= 0 && in_x < width)
          v = LOAD(x, (((ulong)(line / out_height) * height + in_y) * width + in_x) * channels + channel);
      }
      tile_x[e / TM][e % TM] = v;
    }
    for (int e = item; e < TN * TK; e += TX * TY) {
      const int p = first + e / TN, column = column0 + e % TN;
      tile_g[e / TN][e % TN] = p < end && column < columns ? LOAD(g, (ulong)p * columns + column) : 0.0f;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int k = 0; k < TK; ++k) {
      float a[MI], b[NI];
      UNROLL for (int i = 0; i < MI; ++i) a[i] = tile_x[k][ty + i * TY];
      UNROLL for (int j = 0; j < NI; ++j) b[j] = tile_g[k][tx + j * TX];
      UNROLL for (int i = 0; i < MI; ++i)
        UNROLL for (int j = 0; j < NI; ++j) acc[i][j] += a[i] * b[j];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }

  y += y0 + (ulong)get_group_id(2) * rows * columns;
  UNROLL for (int i = 0; i < MI; ++i) {
    const int row = row0 + ty + i * TY;
    UNROLL for (int j = 0; j < NI; ++j) {
      const int column = column0 + tx + j * TX;
      if (row < rows && column < columns) STORE_OUT(acc[i][j], y, (ulong)row * columns + column);
    }
  }
}
