// Products on GPUs: y = epilogue(scale * A W) by tiles in local memory.
//
// Mapping: a work-group of TX x TY items computes TM x TN outputs, each item (TM / TY) x (TN / TX) of them in
// registers, strided so that neighbours store side by side. Local size [TX, TY, 1]; global size
// [ceil(columns / TN) * TX, ceil(rows / TM) * TY, batch]. TK inner steps are staged at a time.
//
// A element (row, k) lies at row * a_row + k * a_inner, or for CONV 1 in x [N, H, W, C] with
// k = tap * C + channel; W element (k, column) at k * w_inner + column * w_column, or where there are BLOCKS (blocks.cl)
// number (column * C + channel) * taps + tap of the words w. y [rows, columns].
// TX, TY, TM, TN and TK are tuned: TuningParameters.swift has the shipped values. VW must be 4.

#define MI (TM / TY)
#define NI (TN / TX)

#ifdef BLOCKS
#define W_t int
#else
#define W_t T_t
#endif

__kernel __attribute__((reqd_work_group_size(TX, TY, 1))) void product(
    __global const T_t* a, const ulong a0, __global const W_t* w, const ulong w0, __global T_t* y,
    const ulong y0, EPILOGUE_PARAMETERS, const float scale, const int rows, const int columns,
    const int inner, const ulong a_row, const ulong a_inner, const ulong w_inner, const ulong w_column,
    const ulong a_batch, const ulong w_batch, const ulong y_batch
#if CONV
    , const int channels, const int height, const int width, const int out_height, const int out_width,
    const int kernel_width, const int step, const int pad_top, const int pad_left
#endif
) {
  __local float tile_a[TK][TM + 1];
  __local float tile_w[TK][TN + 1];
  const int tx = get_local_id(0), ty = get_local_id(1);
  const int item = ty * TX + tx;
  const int row0 = get_group_id(1) * TM, column0 = get_group_id(0) * TN;
  const ulong batch = get_group_id(2);
  a += a0 + batch * a_batch;
  w += w0 + batch * w_batch;

  float acc[MI][NI];
  for (int i = 0; i < MI; ++i)
    for (int j = 0; j < NI; ++j) acc[i][j] = 0.0f;

  for (int k0 = 0; k0 < inner; k0 += TK) {
    for (int e = item; e < TM * TK; e += TX * TY) {
      const int k = k0 + e % TK, row = row0 + e / TK;
      float v = 0.0f;
      if (k < inner && row < rows) {
#if CONV
        const int tap = k / channels, channel = k - tap * channels;
        const int line = row / out_width;
        const int in_y = line % out_height * step - pad_top + tap / kernel_width;
        const int in_x = row % out_width * step - pad_left + tap % kernel_width;
        if (in_y >= 0 && in_y < height && in_x >= 0 && in_x < width)
          v = LOAD(a, (((ulong)(line / out_height) * height + in_y) * width + in_x) * channels + channel);
#else
        v = LOAD(a, row * a_row + k * a_inner);
#endif
      }
      tile_a[e % TK][e / TK] = v;
    }
    for (int e = item; e < TN * TK; e += TX * TY) {
      // Neighbouring items read along whichever axis is contiguous.
      const int n = w_column == 1 ? e % TN : e / TK, kk = w_column == 1 ? e / TN : e % TK;
      const int k = k0 + kk, column = column0 + n;
#ifdef BLOCKS
#if CONV
      const ulong number = (ulong)column * inner + k % channels * (inner / channels) + k / channels;
#else
      const ulong number = (ulong)column * inner + k;
#endif
      tile_w[kk][n] = k < inner && column < columns ? block_number((__global const uchar*)w, number) : 0.0f;
#else
      tile_w[kk][n] = k < inner && column < columns ? LOAD(w, k * w_inner + column * w_column) : 0.0f;
#endif
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int k = 0; k < TK; ++k) {
      float x[MI], z[NI];
      for (int i = 0; i < MI; ++i) x[i] = tile_a[k][ty + i * TY];
      for (int j = 0; j < NI; ++j) z[j] = tile_w[k][tx + j * TX];
      for (int i = 0; i < MI; ++i)
        for (int j = 0; j < NI; ++j) acc[i][j] += x[i] * z[j];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }

  for (int i = 0; i < MI; ++i) {
    const int row = row0 + ty + i * TY;
    if (row >= rows) continue;
#if CONV
    const int image = row / (out_height * out_width);
#else
    const int image = 0;
#endif
    for (int j = 0; j < NI; ++j) {
      const int column = column0 + tx + j * TX;
      if (column >= columns) continue;
      const ulong at = batch * y_batch + (ulong)row * columns + column;
      __global T_t* out = y + y0;
      EPILOGUE((floatV)(scale * acc[i][j]), out, at, column, image, columns, 1);
    }
  }
}
