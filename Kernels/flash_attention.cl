// Attention on CPU devices: y = softmax(scale * Q K^T + mask) V per head, without the T x S matrix
// (online softmax, arXiv:1805.02867; blocks as in arXiv:2205.14135).
//
// Mapping: one work-item (work-group size 1) owns BQ query rows of one head; global size
// [ceil(queries / BQ), images * heads]. It walks over the keys in blocks of BK: scores of MR rows x 16 MV keys
// in registers, then the rows' maxima, exponentials and sums, then MR rows x 16 (MV 1) or up to 48 value columns.
//
// Layouts: Q, y [N, queries, heads * D]; K packed [N * heads, padded_keys / 32, D, 32] and V packed
// [N * heads, padded_keys, DP], both float32 and zero-padded (`arrange`), padded_keys a multiple of 32.
// D head size; DP D rounded up to 16; BQ (a multiple of MR), BK, MR, MV 1 | 2. `masked` and `causal` are 0 or 1.

#define LOWEST (-3.0e38f)
#define FOR_ROWS _Pragma("unroll") for (int i = 0; i < MR; ++i)
#define FOR_VECTORS _Pragma("unroll") for (int v = 0; v < MV; ++v)
#define FOR_GROUP _Pragma("unroll") for (int g = 0; g < GROUP; ++g)
#define GROUP (MV == 1 ? 1 : DP % 48 == 0 ? 3 : DP % 32 == 0 ? 2 : 1)

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void flash_attention(
    __global const T_t* q, const ulong q0, __global const float* keys, __global const float* values,
    __global T_t* y, const ulong y0, __global const T_t* mask, const ulong mask0, const ulong mask_image,
    const int masked, const int causal, const float scale, const int queries, const int key_count, const int
    padded_keys, const int heads) {
  const int first = get_group_id(0) * BQ;
  const int pair = get_group_id(1);
  const int image = pair / heads, head = pair % heads;
  const int count = min(BQ, queries - first);
  const int tiles = (count + MR - 1) / MR;
  const ulong width = (ulong)heads * D;
  const ulong at = (ulong)image * queries * width + (ulong)head * D;
  keys += (ulong)pair * padded_keys * D;
  values += (ulong)pair * padded_keys * DP;

  float query[BQ * D];
  float16 scores[BQ * BK / 16];
  float16 sum[BQ * DP / 16];
  float maximum[BQ], total[BQ];
  for (int r = 0; r < tiles * MR; ++r) {
    __global const T_t* in = q + q0 + at + (ulong)(first + min(r, count - 1)) * width;
    int d = 0;
    for (; d + 16 <= D; d += 16) vstore16(LOAD16(in, d) * (scale * LOG2E), 0, query + r * D + d);
    for (; d < D; ++d) query[r * D + d] = LOAD(in, d) * (scale * LOG2E);
    for (int v = 0; v < DP / 16; ++v) sum[r * (DP / 16) + v] = (float16)(0.0f);
    maximum[r] = LOWEST;
    total[r] = 0.0f;
  }

  const int end = causal ? min(key_count, first + count) : key_count;
  for (int block = 0; block < end; block += BK) {
    const int panels = min(BK / 32, (end - block + 31) / 32);
    for (int t = 0; t < tiles; ++t) {
      for (int p = 0; p < panels; ++p) {
        for (int c = 0; c < 2; c += MV) {
          float16 acc[MR * MV];
          FOR_ROWS FOR_VECTORS acc[i * MV + v] = (float16)(0.0f);
          __global const float* k = keys + (ulong)(block + p * 32) * D + c * 16;
          // By itself PoCL's compiler leaves these loops rolled.
          _Pragma("unroll 4") for (int d = 0; d < D; ++d) {
            float16 columns[MV];
            FOR_VECTORS columns[v] = vload16(v, k);
            k += 32;
            FOR_ROWS {
              const float x = query[(t * MR + i) * D + d];
              FOR_VECTORS acc[i * MV + v] += x * columns[v];
            }
          }
          FOR_ROWS FOR_VECTORS scores[(t * MR + i) * (BK / 16) + 2 * p + c + v] = acc[i * MV + v];
        }
      }
    }

    for (int r = 0; r < count; ++r) {
      float16* s = scores + r * (BK / 16);
      if (masked) {
        __global const T_t* m = mask + mask0 + image * mask_image + (ulong)(first + r) * key_count;
        for (int j = block; j < min(block + panels * 32, key_count); ++j) {
          // A finite mask stays finite in base 2; -INFINITY takes the key out altogether.
          const float added = LOAD(m, j);
          ((float*)s)[j - block] += added == -INFINITY ? added : max(added * LOG2E, LOWEST);
        }
      }
      const int visible = causal ? min(end, first + r + 1) : end;
      for (int j = max(0, visible - block); j < panels * 32; ++j) ((float*)s)[j] = -INFINITY;
      float16 m16 = s[0];
      for (int v = 1; v < 2 * panels; ++v) m16 = select(m16, s[v], s[v] > m16);
      const float8 m8 = select(m16.lo, m16.hi, m16.hi > m16.lo);
      const float4 m4 = select(m8.lo, m8.hi, m8.hi > m8.lo);
      const float2 m2 = select(m4.lo, m4.hi, m4.hi > m4.lo);
      const float before = maximum[r];
      const float now = max(before, max(m2.x, m2.y));
      float16 row_sum = (float16)(0.0f);
      for (int v = 0; v < 2 * panels; ++v) row_sum += s[v] = exp2_falling_v(s[v] - now);
      const float8 r8 = row_sum.lo + row_sum.hi;
      const float4 r4 = r8.lo + r8.hi;
      const float correction = exp2(before - now);
      total[r] = total[r] * correction + (r4.x + r4.y) + (r4.z + r4.w);
      maximum[r] = now;
      if (now > before)
        for (int v = 0; v < DP / 16; ++v) sum[r * (DP / 16) + v] *= correction;
    }

    const int depth = min(panels * 32, padded_keys - block);
    for (int t = 0; t < tiles; ++t) {
      for (int group = 0; group < DP / 16; group += GROUP) {
        float16 acc[MR * GROUP];
        FOR_ROWS FOR_GROUP acc[i * GROUP + g] = sum[(t * MR + i) * (DP / 16) + group + g];
        __global const float* v = values + (ulong)block * DP + group * 16;
        _Pragma("unroll 4") for (int j = 0; j < depth; ++j) {
          float16 column[GROUP];
          FOR_GROUP column[g] = vload16(g, v);
          v += DP;
          FOR_ROWS {
            const float x = ((float*)scores)[(t * MR + i) * BK + j];
            FOR_GROUP acc[i * GROUP + g] += x * column[g];
          }
        }
        FOR_ROWS FOR_GROUP sum[(t * MR + i) * (DP / 16) + group + g] = acc[i * GROUP + g];
      }
    }
  }

  for (int r = 0; r < count; ++r) {
    __global T_t* out = y + y0 + at + (ulong)(first + r) * width;
    // A query that sees no key gives zeros.
    const float factor = total[r] == 0.0f ? 0.0f : 1.0f / total[r];
    int d = 0;
    for (; d + 16 <= D; d += 16) STORE16(sum[r * (DP / 16) + d / 16] * factor, out, d);
    for (; d < D; ++d) STORE(((float*)sum)[r * DP + d] * factor, out, d);
  }
}
