// Products on CPU devices: y = epilogue(scale * A W), W packed in panels of 32 columns.
//
// Mapping: one work-item (work-group size 1, no local memory) computes MB rows x 32 columns; global size
// [panels of a group, ceil(rows / MB), groups * batches]: work-items run in this order, so that a group of
// panels, which fits a core's cache, serves all rows before the next one, and rows serve a whole group.
// Tiles of MR rows x 16 MV columns stay in vector registers over KC steps of the inner extent; between blocks
// of KC they rest in a private scratch, so a panel's block is read from the nearest caches MB / MR times.
// The last block's sums are stored from the registers, unless an activation or a narrow panel follows.
// A's rows are read in place through pointers: for a convolution they are set anew for each tap, and point
// to `zeros` where the tap falls on padding (the indirect convolution of arXiv:1907.02129).
//
// Layouts: A rows x [K] with a row stride, or x [N, H, W, C]; W [panels, taps * C, 32]; y [rows, columns].
// W may be a part of a matrix, the columns from `begin`, a multiple of 32, up to `end`; y has all `columns`.
// MR, MB a multiple of MR, KC, MV 1 | 2: tile sizes. CONV 0 | 1. Storage other than f32 is widened tile by tile. W is
// stored as WEIGHT.
// `longest`: so many terms are added to an accumulator, and the accumulators to each other, since long sums round worse. KC
// is a multiple of it. 0: one accumulator adds all.
// PAIRS other than 0 (pairs.cl): T and WEIGHT are bf16 and nothing is widened. C and KC are even, and W has two rows in
// a word, [panels, taps * C / 2, 32], the first of them in its lower half.

#define NR 32

#define WIDEN_f32 0
#define WIDEN_f16 1
#define WIDEN_bf16 1
#if PAIRS
#define WIDEN 0
#else
#define WIDEN PASTE(WIDEN_, T)
#endif

#if WIDEN
#define ROW const float*
#else
#define ROW __global const T_t*
#endif

// A step takes so many numbers of the inner extent.
#if PAIRS
#define STEP 2
#define WEIGHT_t uint
#define WEIGHTS uint16
#define INPUT_t uint
#define LOAD_WEIGHTS(p, i) vload16(0, (p) + (i))
#define INPUT(row, step) as_uint(vload2(step, row))
#define ADD_PRODUCTS(sum, x, w) sum = dot_pairs(sum, (uint16)(x), w)
#else
#define STEP 1
#define WEIGHT_t PASTE(WEIGHT, _t)
#define WEIGHTS float16
#define INPUT_t float
#define LOAD_WEIGHTS(p, i) PASTE(load16_, WEIGHT)(p, i)
#define INPUT(row, step) (row)[step]
#define ADD_PRODUCTS(sum, x, w) sum += x * w
#endif

#define FOR_ROWS _Pragma("unroll") for (int i = 0; i < MR; ++i)
#define FOR_VECTORS _Pragma("unroll") for (int v = 0; v < MV; ++v)

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void product(
    __global const T_t* a, const ulong a0, __global const WEIGHT_t* w, const ulong w0, __global T_t* y,
    const ulong y0, EPILOGUE_PARAMETERS, __global const T_t* zeros, const ulong zeros0, const float scale,
    const int batches, const int rows, const int columns, const int begin, const int end, const int channels,
    const int longest, const ulong a_stride, const ulong a_batch, const ulong w_batch, const ulong y_batch
#if CONV
    , const int height, const int width, const int out_height, const int out_width, const int kernel_height,
    const int kernel_width, const int step, const int pad_top, const int pad_left
#endif
) {
  const int groups = get_num_groups(2) / batches;
  const int panel = get_group_id(2) % groups * get_num_groups(0) + get_group_id(0);
  const int first = get_group_id(1) * MB;
  const ulong batch = get_group_id(2) / groups;
  const int column = begin + panel * NR, left = columns - column;
  if (column >= end) return;
  const int count = min(MB, rows - first);
  const int tiles = (count + MR - 1) / MR;
  // Terms between two visits of a tile to its scratch.
  const int terms = longest ? longest : KC;
#if CONV
  const int taps = kernel_height * kernel_width;
  // Where each output row's window begins: image offset in rows of channels, top, left.
  int image_row[MB], top[MB], left_column[MB];
  for (int r = 0; r < tiles * MR; ++r) {
    const int row = first + min(r, count - 1);
    const int x = row % out_width, line = row / out_width;
    image_row[r] = line / out_height * height;
    top[r] = line % out_height * step - pad_top;
    left_column[r] = x * step - pad_left;
  }
#else
  const int taps = 1;
#endif
  a += a0 + batch * a_batch;
  w += (w0 + batch * w_batch + (ulong)panel * taps * channels * NR) / STEP;

  y += y0;
  const ulong y_first = batch * y_batch + (ulong)first * columns + column;
  const int direct = left >= NR && activation == 0 && !(extras & 2) && channels > 0;
  float16 biases[2] = {(float16)(0.0f), (float16)(0.0f)};
  for (int v = 0; direct && (extras & 1) && v < 2; ++v) biases[v] = LOAD16(bias, bias0 + column + v * 16);

  float16 part[MB * 2];
  // An empty sum has no first block to start it.
  for (int r = 0; channels == 0 && r < MB * 2; ++r) part[r] = (float16)(0.0f);
#if WIDEN
  float widened[MR * KC];
#endif

  for (int tap = 0; tap < taps; ++tap) {
#if CONV
    const int dy = tap / kernel_width, dx = tap % kernel_width;
#endif
    for (int k0 = 0; k0 < channels; k0 += KC) {
      const int depth = min(KC, channels - k0);
      const int is_first = tap == 0 && k0 == 0;
      const int is_last = tap == taps - 1 && k0 + KC >= channels;
      for (int t = 0; t < tiles; ++t) {
        __global const T_t* source[MR];
        ROW row[MR];
        FOR_ROWS {
#if CONV
          const int r = t * MR + i;
          const int in_y = top[r] + dy, in_x = left_column[r] + dx;
          const int inside = in_y >= 0 && in_y < height && in_x >= 0 && in_x < width;
          source[i] = inside
              ? a + ((ulong)(image_row[r] + in_y) * width + in_x) * channels + k0
              : zeros + zeros0;
#else
          source[i] = a + (ulong)(first + min(t * MR + i, count - 1)) * a_stride + k0;
#endif
        }
#if WIDEN
        FOR_ROWS {
          int k = 0;
          for (; k + 16 <= depth; k += 16) vstore16(LOAD16(source[i], k), 0, widened + i * KC + k);
          for (; k < depth; ++k) widened[i * KC + k] = LOAD(source[i], k);
          row[i] = widened + i * KC;
        }
#else
        FOR_ROWS row[i] = source[i];
#endif
        for (int c = 0; c < NR / 16; c += MV) {
          float16 acc[MR * MV];
          __global const WEIGHT_t* q = w + (ulong)(tap * channels + k0) / STEP * NR + c * 16;
          for (int from = 0; from < depth; from += terms) {
            const int is_new = is_first && from == 0, to = min(from + terms, depth);
            FOR_ROWS FOR_VECTORS
              acc[i * MV + v] = longest || is_new ? (float16)(0.0f) : part[(t * MR + i) * 2 + c + v];
            // PoCL's compiler leaves it rolled by itself, which costs small tiles a tenth.
            _Pragma("unroll 4") for (int k = from / STEP; k < to / STEP; ++k) {
              WEIGHTS weights[MV];
              FOR_VECTORS weights[v] = LOAD_WEIGHTS(q, v * 16);
              q += NR;
              FOR_ROWS {
                const INPUT_t x = INPUT(row[i], k);
                FOR_VECTORS ADD_PRODUCTS(acc[i * MV + v], x, weights[v]);
              }
            }
            if (longest && !is_new) FOR_ROWS FOR_VECTORS acc[i * MV + v] += part[(t * MR + i) * 2 + c + v];
            if (to < depth) FOR_ROWS FOR_VECTORS part[(t * MR + i) * 2 + c + v] = acc[i * MV + v];
          }
          if (is_last && direct) {
            FOR_ROWS {
              if (t * MR + i < count) {
                const ulong at = y_first + (ulong)(t * MR + i) * columns + c * 16;
                FOR_VECTORS {
                  float16 sum = scale * acc[i * MV + v] + biases[c + v];
                  if (extras & 4) sum += LOAD16(residual, residual0 + at + v * 16);
                  STORE16(sum, y, at + v * 16);
                }
              }
            }
          } else {
            FOR_ROWS FOR_VECTORS part[(t * MR + i) * 2 + c + v] = acc[i * MV + v];
          }
        }
      }
    }
  }

  if (direct) return;
  for (int r = 0; r < count; ++r) {
#if CONV
    const int image = (first + r) / (out_height * out_width);
#else
    const int image = 0;
#endif
    const ulong at = y_first + (ulong)r * columns;
    EPILOGUE(scale * part[2 * r], y, at, column, image, columns, left);
    if (left > 16) EPILOGUE(scale * part[2 * r + 1], y, at + 16, column + 16, image, columns, left - 16);
  }
}
