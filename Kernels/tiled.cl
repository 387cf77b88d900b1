// Products on GPUs: y = epilogue(scale * A W) by tiles in local memory.
//
// Mapping: a work-group of TX x TY items computes TM x TN outputs, each item (TM / TY) x (TN / TX) of them in
// registers: runs of LW, as far apart as the items' runs side by side. Local size [TX, TY, 1]; global size
// [ceil(columns / TN) * TX, ceil(rows / TM) * TY, batch]. TK inner steps are staged at a time.
//
// Global memory is read in vectors of GW (1 or 4) along whichever axis is contiguous, local memory in vectors of LW (1
// or 4). With STAGES 2 there are two pairs of tiles: while one is used the next is on its way in registers, and a step
// has one barrier instead of two.
//
// A element (row, k) lies at row * a_row + k * a_inner, or for CONV 1 in x [N, H, W, C] with
// k = tap * C + channel; W element (k, column) at k * w_inner + column * w_column, or where there are BLOCKS (blocks.cl)
// number (column * C + channel) * taps + tap of the words w. y [rows, columns]. `aligned`: 1 where every vector of A is
// whole and lies at a multiple of its size, 2 where every one of W does.
//
// Where there are few tiles of outputs, a sum is taken in parts of `part_size` inner steps, a multiple of TK, by work-groups
// of their own: the third axis of the global size is then the parts, `partial` [parts, rows, columns] holds their sums,
// and `product_parts` adds them in their order. Else part_size is 0.
//
// TX, TY, TM, TN, TK, LW, GW and STAGES are tuned: TuningParameters.swift has the shipped values. VW must be 4, and
// TX * TY a multiple of TK / GW.

#define MI (TM / TY)
#define NI (TN / TX)
// Vectors of an item's row.
#define NV (NI / LW)
#define ITEMS (TX * TY)
// Between inner steps in local memory: vectors stay aligned, and the parts of a column fall on other banks.
#define PA (TM + LW)
#define PW (TN + LW)
// Vectors of a tile, and how many of them an item stages.
#define A_COUNT (TM * TK / GW)
#define W_COUNT (TN * TK / GW)
#define A_PARTS ((A_COUNT + ITEMS - 1) / ITEMS)
#define W_PARTS ((W_COUNT + ITEMS - 1) / ITEMS)
#define NOWHERE (1 << 30)

#ifdef BLOCKS
#define W_t int
#else
#define W_t T_t
#endif

// Of a convolution's input.
#define INSIDE(y_, x_) ((y_) >= 0 && (y_) < height && (x_) >= 0 && (x_) < width)

#if LW == 4
typedef float4 floatL;
#define TO_LOCAL4(v, p) (*(__local float4*)(p) = (v))
#else
typedef float floatL;
#define TO_LOCAL4(v, p) vstore4(v, 0, p)
#endif

#if GW == 4
typedef float4 floatG;
#define FROM_ARRAY(t) vload4(0, t)
#define FETCH FETCH4
#else
typedef float floatG;
#define FROM_ARRAY(t) (t)[0]
#define FETCH(p, i, left, is_aligned) ((void)(left), LOAD(p, i))
#endif

// Vector number e of a tile, whose other axis is `extent` long: its first place there, and its first inner step.
#define PLACE(e, along_inner, extent) ((along_inner) ? (e) / (TK / GW) : (e) % ((extent) / GW) * GW)
#define STEP(e, along_inner, extent) ((along_inner) ? (e) % (TK / GW) * GW : (e) / ((extent) / GW))

// A staged vector to its place in local memory; `pitch` is between inner steps.
void put(floatG v, __local float* tile, int pitch, int place, int k, int along_inner) {
  __local float* to = tile + k * pitch + place;
#if GW == 4
  if (along_inner) {
    to[0] = v.x;
    to[pitch] = v.y;
    to[2 * pitch] = v.z;
    to[3 * pitch] = v.w;
  } else {
    TO_LOCAL4(v, to);
  }
#else
  *to = v;
#endif
}

// Adds the products of TK inner steps; the tiles begin at the item's first row and column.
void multiply(__local const float* tile_a, __local const float* tile_w, floatL acc[MI * NV]) {
  for (int k = 0; k < TK; ++k) {
    floatL x[MI / LW], z[NV];
    UNROLL for (int i = 0; i < MI / LW; ++i)
      x[i] = *(__local const floatL*)(tile_a + k * PA + i * TY * LW);
    UNROLL for (int j = 0; j < NV; ++j)
      z[j] = *(__local const floatL*)(tile_w + k * PW + j * TX * LW);
    // mad: where a compiler chooses, it contracts the tiles of some sizes and not of others, and bits would differ.
    UNROLL for (int i = 0; i < MI / LW; ++i)
      UNROLL for (int j = 0; j < NV; ++j) {
#if LW == 4
        floatL* column = acc + 4 * i * NV + j;
        column[0] = mad((floatL)(x[i].x), z[j], column[0]);
        column[NV] = mad((floatL)(x[i].y), z[j], column[NV]);
        column[2 * NV] = mad((floatL)(x[i].z), z[j], column[2 * NV]);
        column[3 * NV] = mad((floatL)(x[i].w), z[j], column[3 * NV]);
#else
        acc[i * NV + j] = mad(x[i], z[j], acc[i * NV + j]);
#endif
      }
  }
}

__kernel __attribute__((reqd_work_group_size(TX, TY, 1))) void product(
    __global const T_t* a, const ulong a0, __global const W_t* w, const ulong w0, __global T_t* y,
    const ulong y0, EPILOGUE_PARAMETERS, const float scale, const int rows, const int columns,
    const int inner, const int part_size, __global float* partial, const int aligned, const ulong a_row,
    const ulong a_inner, const ulong w_inner, const ulong w_column, const ulong a_batch, const ulong w_batch,
    const ulong y_batch
#if CONV
    , const int channels, const int height, const int width, const int out_height, const int out_width,
    const int kernel_width, const int step, const int pad_top, const int pad_left
#endif
) {
  __local float tile_a[STAGES * TK * PA] __attribute__((aligned(16)));
  __local float tile_w[STAGES * TK * PW] __attribute__((aligned(16)));
  const int tx = get_local_id(0), ty = get_local_id(1);
  const int item = ty * TX + tx;
  const int row0 = get_group_id(1) * TM, column0 = get_group_id(0) * TN;
  const int part = part_size > 0 ? get_group_id(2) : 0, begin = part * part_size;
  const int end = part_size > 0 ? min(begin + part_size, inner) : inner;
  const ulong batch = part_size > 0 ? 0 : get_group_id(2);
  a += a0 + batch * a_batch;
  w += w0 + batch * w_batch;

  // What an item stages lies at the same places of every step's tiles. The 64-bit part of an index is in `a` and `w`,
  // which move from step to step, and in these.
#if CONV
  const int a_along = 1;
  long a_at[A_PARTS];
  int a_y[A_PARTS], a_x[A_PARTS];
  // The item's vectors of all parts begin at the same inner step, and so at the same tap and channel.
  const int own_k = item % (TK / GW) * GW;
  const int first_tap = (begin + own_k) / max(channels, 1);
  int channel = begin + own_k - first_tap * channels;
  int tap_y = first_tap / kernel_width, tap_x = first_tap % kernel_width;
  UNROLL for (int p = 0; p < A_PARTS; ++p) {
    const int row = row0 + PLACE(item + p * ITEMS, 1, TM), line = row / out_width;
    a_y[p] = row < rows ? line % out_height * step - pad_top : -NOWHERE;
    a_x[p] = row % out_width * step - pad_left;
    a_at[p] = (((long)(line / out_height) * height + a_y[p]) * width + a_x[p]) * channels;
  }
#else
  const int a_along = a_inner == 1;
  a += begin * a_inner;
  ulong a_at[A_PARTS];
  int a_k[A_PARTS];
  UNROLL for (int p = 0; p < A_PARTS; ++p) {
    const int e = item + p * ITEMS, row = row0 + PLACE(e, a_along, TM), k = STEP(e, a_along, TM);
    a_k[p] = row < rows && k < TK ? k : NOWHERE;
    a_at[p] = row * a_row + k * a_inner;
  }
#endif
#ifdef BLOCKS
  const int w_along = 1;
#else
  const int w_along = w_column != 1;
  w += begin * w_inner;
  ulong w_at[W_PARTS];
  int w_k[W_PARTS];
  UNROLL for (int p = 0; p < W_PARTS; ++p) {
    const int e = item + p * ITEMS, column = column0 + PLACE(e, w_along, TN), k = STEP(e, w_along, TN);
    w_k[p] = column < columns && k < TK ? k : NOWHERE;
    w_at[p] = k * w_inner + column * w_column;
  }
#endif

  floatL acc[MI * NV];
  UNROLL for (int v = 0; v < MI * NV; ++v) acc[v] = (floatL)(0.0f);

  // A round fetches a step's tiles, and uses those of the step before.
  for (int k0 = begin, stage = 0; k0 < end + TK; k0 += TK) {
#if STAGES == 1
    if (k0 > begin) multiply(tile_a + ty * LW, tile_w + tx * LW, acc);
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
    floatG next_a[A_PARTS], next_w[W_PARTS];
    if (k0 < end) {
#if CONV
      const int offset = (tap_y * width + tap_x) * channels + channel;
      UNROLL for (int p = 0; p < A_PARTS; ++p) {
        next_a[p] = (floatG)(0.0f);
#if GW == 4
        if (!(aligned & 1)) {
          // The four may be of several taps.
          float t[4];
          UNROLL for (int j = 0; j < 4; ++j) {
            const int k = k0 + own_k + j, tap = k / channels;
            const int dy = tap / kernel_width, dx = tap - dy * kernel_width;
            const int at = (dy * width + dx) * channels + (k - tap * channels);
            t[j] = k < inner && INSIDE(a_y[p] + dy, a_x[p] + dx) ? LOAD(a, a_at[p] + at) : 0.0f;
          }
          next_a[p] = vload4(0, t);
        } else
#endif
          if (k0 + own_k < inner && INSIDE(a_y[p] + tap_y, a_x[p] + tap_x))
            next_a[p] = FETCH(a, a_at[p] + offset, 4, true);
      }
      channel += TK;
      if (channel >= channels) {
        const int taps = channel / channels;
        channel -= taps * channels;
        tap_x += taps;
        tap_y += tap_x / kernel_width;
        tap_x %= kernel_width;
      }
#else
      UNROLL for (int p = 0; p < A_PARTS; ++p) {
        const int left = inner - k0 - a_k[p];
        const int edge = rows - row0 - PLACE(item + p * ITEMS, 0, TM);
        next_a[p] = (floatG)(0.0f);
        if (left > 0) next_a[p] = FETCH(a, a_at[p], a_along ? left : edge, aligned & 1);
      }
      a += TK * a_inner;
#endif
#ifdef BLOCKS
      // Numbers move up from the last place: registers have no index, and reading one is long.
      float t[W_PARTS * GW];
      ONCE for (int n = 0; n < W_PARTS * GW; ++n) {
        const int e = item + n / GW * ITEMS, column = column0 + PLACE(e, 1, TN);
        const int k = k0 + STEP(e, 1, TN) + n % GW;
        UNROLL for (int next = 1; next < W_PARTS * GW; ++next) t[next - 1] = t[next];
#if CONV
        const ulong number = (ulong)column * inner + k % channels * (inner / channels) + k / channels;
#else
        const ulong number = (ulong)column * inner + k;
#endif
        t[W_PARTS * GW - 1] =
            k < inner && column < columns ? block_number((__global const uchar*)w, number) : 0.0f;
      }
      UNROLL for (int p = 0; p < W_PARTS; ++p) next_w[p] = FROM_ARRAY(t + p * GW);
#else
      UNROLL for (int p = 0; p < W_PARTS; ++p) {
        const int left = inner - k0 - w_k[p];
        const int edge = columns - column0 - PLACE(item + p * ITEMS, 0, TN);
        next_w[p] = (floatG)(0.0f);
        if (left > 0) next_w[p] = FETCH(w, w_at[p], w_along ? left : edge, aligned & 2);
      }
      w += TK * w_inner;
#endif
    }
#if STAGES == 2
    if (k0 > begin) multiply(tile_a + stage * TK * PA + ty * LW, tile_w + stage * TK * PW + tx * LW, acc);
    stage = 1 - stage;
#endif
    if (k0 < end) {
      UNROLL for (int p = 0; p < A_PARTS; ++p) {
        const int e = item + p * ITEMS;
        if (A_COUNT % ITEMS == 0 || e < A_COUNT)
          put(next_a[p], tile_a + stage * TK * PA, PA, PLACE(e, a_along, TM), STEP(e, a_along, TM), a_along);
      }
      UNROLL for (int p = 0; p < W_PARTS; ++p) {
        const int e = item + p * ITEMS;
        if (W_COUNT % ITEMS == 0 || e < W_COUNT)
          put(next_w[p], tile_w + stage * TK * PW, PW, PLACE(e, w_along, TN), STEP(e, w_along, TN), w_along);
      }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }

  // Sums move up to the first place: registers have no index, and the epilogue is there once.
  ONCE for (int v = 0; v < MI * NV; ++v) {
    const int i = v / NV, j = v % NV;
    const int row = row0 + (i / LW * TY + ty) * LW + i % LW;
    const int column = column0 + (j * TX + tx) * LW, left = min(LW, columns - column);
#if CONV
    const int image = row / (out_height * out_width);
#else
    const int image = 0;
#endif
    if (row < rows && left > 0) {
      const ulong at = batch * y_batch + (ulong)row * columns + column;
      __global T_t* out = y + y0;
      if (part_size > 0) {
        store_part_f32((floatV)(acc[0]), partial, (ulong)part * rows * columns + at, left);
      } else {
        EPILOGUE((floatV)(scale * acc[0]), out, at, column, image, columns, left);
      }
    }
    UNROLL for (int next = 1; next < MI * NV; ++next) acc[next - 1] = acc[next];
  }
}

// The sums of all parts, in their order, and what follows a product. An image has image_rows of the rows.
// Global size [ceil(columns / VW), rows].
__kernel void product_parts(
    __global const float* partial, __global T_t* y, const ulong y0, EPILOGUE_PARAMETERS, const float scale,
    const int rows, const int columns, const int parts, const int image_rows) {
  const int column = get_global_id(0) * VW, row = get_global_id(1), left = min(VW, columns - column);
  if (left <= 0 || row >= rows) return;
  const ulong at = (ulong)row * columns + column;
  floatV sum = (floatV)(0.0f);
  for (int part = 0; part < parts; ++part)
    sum += load_part_f32(partial, (ulong)part * rows * columns + at, left);
  __global T_t* out = y + y0;
  EPILOGUE(scale * sum, out, at, column, row / image_rows, columns, left);
}
