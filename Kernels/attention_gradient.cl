// The gradient of attention on CPU devices, without the T x S matrix. With S = scale Q K^T + mask and O = P
// V, of a head:
//   P = exp(S - max) / total,  d = rowsum(g O),  dS = P (g V^T - d)
//   dQ = scale dS K,  dK = scale dS^T Q,  dV = P^T g
//
// Two launches, so that nothing is added by two work-items: `attention_gradient_queries` walks over the keys
// by online softmax (arXiv:1805.02867) and gives dQ and the rows' statistics; `attention_gradient_keys` walks
// over the queries and gives dK and dV. Tiles of MR rows x 16 MV columns, or 16 (MV 1) or up to 48 channels,
// stay in vector registers.
//
// Mapping: one work-item (work-group size 1) owns BQ query rows of a head, global size [ceil(queries / BQ),
// images * heads]; or KB keys of a head, global size [ceil(keys / KB), images * heads].
// Layouts: q, o, g, dq [N, queries, heads * D]; k, dk, dv [N, keys, heads * D]; K and V packed for the
// products over channels, [N * heads, padded_keys / 32, D, 32], float32 and zero-padded (`arrange`),
// padded_keys a multiple of 32; statistics [N * heads, 3, queries]: max in base 2, 1 / total (0 where no key
// is seen), d.
// D head size; DP D rounded up to 16; BQ and KB multiples of MR, KB also of 32; MR, MV 1 | 2. BK, keys of a
// block, is a constant: the rounding of dQ depends on it. `masked` and `causal` are 0 or 1; the mask gets no
// gradient.

#define BK 128
#define LOWEST (-3.0e38f)
#define FOR_ROWS _Pragma("unroll") for (int i = 0; i < MR; ++i)
#define FOR_VECTORS _Pragma("unroll") for (int v = 0; v < MV; ++v)
#define FOR_GROUP _Pragma("unroll") for (int n = 0; n < GROUP; ++n)
#define GROUP (MV == 1 ? 1 : DP % 48 == 0 ? 3 : DP % 32 == 0 ? 2 : 1)

// out[r, key] = sum over d of rows[r, d] packed[key, d]: `tiles` times MR rows of DP floats, panels of 32
// keys; out has `width` vectors a row.
void row_products(
    const float* rows, __global const float* packed, const int tiles, const int panels, float16* out,
    const int width) {
  for (int t = 0; t < tiles; ++t) {
    for (int p = 0; p < panels; ++p) {
      for (int c = 0; c < 2; c += MV) {
        float16 acc[MR * MV];
        FOR_ROWS FOR_VECTORS acc[i * MV + v] = (float16)(0.0f);
        __global const float* k = packed + (ulong)p * 32 * D + c * 16;
        const float* row = rows + t * MR * DP;
        _Pragma("unroll 4") for (int d = 0; d < D; ++d) {
          float16 columns[MV];
          FOR_VECTORS columns[v] = vload16(v, k);
          k += 32;
          FOR_ROWS {
            const float x = row[i * DP + d];
            FOR_VECTORS acc[i * MV + v] += x * columns[v];
          }
        }
        FOR_ROWS FOR_VECTORS out[(t * MR + i) * width + 2 * p + c + v] = acc[i * MV + v];
      }
    }
  }
}

// sum[r, :] += sum over k < depth of factors[r * row_step + k * step] rows[k, :], rows of DP floats.
void add_products(
    const float* factors, const int row_step, const int step, const float* rows, const int depth,
    const int tiles, float16* sum) {
  for (int t = 0; t < tiles; ++t) {
    for (int group = 0; group < DP / 16; group += GROUP) {
      float16 acc[MR * GROUP];
      FOR_ROWS FOR_GROUP acc[i * GROUP + n] = sum[(t * MR + i) * (DP / 16) + group + n];
      const float* row = rows + group * 16;
      const float* factor = factors + t * MR * row_step;
      _Pragma("unroll 4") for (int k = 0; k < depth; ++k) {
        float16 column[GROUP];
        FOR_GROUP column[n] = vload16(n, row);
        row += DP;
        FOR_ROWS {
          const float x = factor[i * row_step];
          FOR_GROUP acc[i * GROUP + n] += x * column[n];
        }
        factor += step;
      }
      FOR_ROWS FOR_GROUP sum[(t * MR + i) * (DP / 16) + group + n] = acc[i * GROUP + n];
    }
  }
}

// A row of D elements as DP floats, with zeros behind.
void widen_row(__global const T_t* in, float* out) {
  int d = 0;
  for (; d + 16 <= D; d += 16) vstore16(LOAD16(in, d), 0, out + d);
  for (; d < DP; ++d) out[d] = d < D ? LOAD(in, d) : 0.0f;
}

void narrow_row(const float16* in, const float factor, __global T_t* out) {
  int d = 0;
  for (; d + 16 <= D; d += 16) STORE16(in[d / 16] * factor, out, d);
  for (; d < D; ++d) STORE(((const float*)in)[d] * factor, out, d);
}

// Scales scores of `count` keys to base 2 and adds their mask; keys at `visible` and after are hidden.
void finish_scores(
    float16* s, const int vectors, const float scale, __global const T_t* mask, const int masked,
    const int count, const int visible) {
  for (int v = 0; v < vectors; ++v) s[v] *= scale * LOG2E;
  if (masked) {
    for (int j = 0; j < count; ++j) {
      // A finite mask stays finite in base 2; -INFINITY takes the key out altogether.
      const float added = LOAD(mask, j);
      ((float*)s)[j] += added == -INFINITY ? added : max(added * LOG2E, LOWEST);
    }
  }
  for (int j = max(0, visible); j < vectors * 16; ++j) ((float*)s)[j] = -INFINITY;
}

float lanes_sum16(float16 v) {
  const float8 a = v.lo + v.hi;
  const float4 b = a.lo + a.hi;
  return (b.x + b.y) + (b.z + b.w);
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void attention_gradient_queries(
    __global const T_t* q, const ulong q0, __global const float* packed_keys,
    __global const float* packed_values, __global const T_t* k, const ulong k0, __global const T_t* o,
    const ulong o0, __global const T_t* g, const ulong g0, __global T_t* dq, const ulong dq0,
    __global float* statistics, __global const T_t* mask, const ulong mask0, const ulong mask_image,
    const int masked, const int causal, const float scale, const int queries, const int key_count,
    const int padded_keys, const int heads) {
  const int first = get_group_id(0) * BQ;
  const int pair = get_group_id(1);
  const int image = pair / heads, head = pair % heads;
  const int count = min(BQ, queries - first);
  const int tiles = (count + MR - 1) / MR;
  const ulong width = (ulong)heads * D;
  const ulong at = ((ulong)image * queries + first) * width + (ulong)head * D;
  q += q0 + at;
  o += o0 + at;
  g += g0 + at;
  dq += dq0 + at;
  k += k0 + (ulong)image * key_count * width + (ulong)head * D;
  packed_keys += (ulong)pair * padded_keys * D;
  packed_values += (ulong)pair * padded_keys * D;
  statistics += (ulong)pair * 3 * queries + first;
  mask += mask0 + image * mask_image + (ulong)first * key_count;

  float query[BQ * DP], from[BQ * DP], rows[BK * DP];
  float16 scores[BQ * BK / 16], slopes[BQ * BK / 16], sum[BQ * DP / 16];
  float maximum[BQ], total[BQ], dot[BQ];
  for (int r = 0; r < tiles * MR; ++r) {
    const ulong row = (ulong)min(r, count - 1) * width;
    float output[DP];
    widen_row(q + row, query + r * DP);
    widen_row(g + row, from + r * DP);
    widen_row(o + row, output);
    float16 products = (float16)(0.0f);
    for (int v = 0; v < DP / 16; ++v) {
      products += vload16(v, output) * vload16(v, from + r * DP);
      sum[r * (DP / 16) + v] = (float16)(0.0f);
    }
    dot[r] = lanes_sum16(products);
    maximum[r] = LOWEST;
    total[r] = 0.0f;
  }

  const int end = causal ? min(key_count, first + count) : key_count;
  for (int block = 0; block < end; block += BK) {
    const int panels = min(BK / 32, (end - block + 31) / 32), depth = min(BK, end - block);
    row_products(query, packed_keys + (ulong)block * D, tiles, panels, scores, BK / 16);
    row_products(from, packed_values + (ulong)block * D, tiles, panels, slopes, BK / 16);
    for (int r = 0; r < count; ++r) {
      float16* s = scores + r * (BK / 16);
      float16* slope = slopes + r * (BK / 16);
      const int visible = causal ? min(end, first + r + 1) : end;
      finish_scores(
          s, 2 * panels, scale, mask + (ulong)r * key_count + block, masked, depth, visible - block);
      float16 m16 = s[0];
      for (int v = 1; v < 2 * panels; ++v) m16 = select(m16, s[v], s[v] > m16);
      const float8 m8 = select(m16.lo, m16.hi, m16.hi > m16.lo);
      const float4 m4 = select(m8.lo, m8.hi, m8.hi > m8.lo);
      const float2 m2 = select(m4.lo, m4.hi, m4.hi > m4.lo);
      const float before = maximum[r];
      const float now = max(before, max(m2.x, m2.y));
      float16 row_sum = (float16)(0.0f);
      for (int v = 0; v < 2 * panels; ++v) {
        const float16 p = exp2_falling_v(s[v] - now);
        row_sum += p;
        slope[v] = p * (slope[v] - dot[r]);
      }
      const float correction = exp2(before - now);
      total[r] = total[r] * correction + lanes_sum16(row_sum);
      maximum[r] = now;
      if (now > before)
        for (int v = 0; v < DP / 16; ++v) sum[r * (DP / 16) + v] *= correction;
    }
    for (int j = 0; j < depth; ++j) widen_row(k + (ulong)(block + j) * width, rows + j * DP);
    add_products((const float*)slopes, BK, 1, rows, depth, tiles, sum);
  }

  for (int r = 0; r < count; ++r) {
    // A query that sees no key has no gradient.
    const float inverse = total[r] == 0.0f ? 0.0f : 1.0f / total[r];
    narrow_row(sum + r * (DP / 16), scale * inverse, dq + (ulong)r * width);
    statistics[r] = maximum[r];
    statistics[queries + r] = inverse;
    statistics[2 * queries + r] = dot[r];
  }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void attention_gradient_keys(
    __global const T_t* q, const ulong q0, __global const float* packed_keys,
    __global const float* packed_values, __global const T_t* g, const ulong g0, __global T_t* dk,
    const ulong dk0, __global T_t* dv, const ulong dv0, __global const float* statistics,
    __global const T_t* mask, const ulong mask0, const ulong mask_image, const int masked, const int causal,
    const float scale, const int queries, const int key_count, const int padded_keys, const int heads) {
  const int first = get_group_id(0) * KB;
  const int pair = get_group_id(1);
  const int image = pair / heads, head = pair % heads;
  const int count = min(KB, key_count - first);
  const int panels = (count + 31) / 32, key_tiles = (count + MR - 1) / MR;
  const ulong width = (ulong)heads * D;
  const ulong at = (ulong)image * queries * width + (ulong)head * D;
  const ulong out = ((ulong)image * key_count + first) * width + (ulong)head * D;
  q += q0 + at;
  g += g0 + at;
  packed_keys += ((ulong)pair * padded_keys + first) * D;
  packed_values += ((ulong)pair * padded_keys + first) * D;
  statistics += (ulong)pair * 3 * queries;
  mask += mask0 + image * mask_image + first;

  float query[BQ * DP], from[BQ * DP];
  float16 scores[BQ * KB / 16], slopes[BQ * KB / 16];
  float16 key_sum[KB * DP / 16], value_sum[KB * DP / 16];
  for (int i = 0; i < KB * DP / 16; ++i) key_sum[i] = value_sum[i] = (float16)(0.0f);

  for (int block = causal ? first / BQ * BQ : 0; block < queries; block += BQ) {
    const int depth = min(BQ, queries - block), tiles = (depth + MR - 1) / MR;
    for (int r = 0; r < tiles * MR; ++r) {
      const ulong row = (ulong)(block + min(r, depth - 1)) * width;
      widen_row(q + row, query + r * DP);
      widen_row(g + row, from + r * DP);
    }
    row_products(query, packed_keys, tiles, panels, scores, KB / 16);
    row_products(from, packed_values, tiles, panels, slopes, KB / 16);
    for (int r = 0; r < depth; ++r) {
      float16* s = scores + r * (KB / 16);
      float16* slope = slopes + r * (KB / 16);
      const int visible = causal ? min(count, block + r + 1 - first) : count;
      finish_scores(
          s, 2 * panels, scale, mask + (ulong)(block + r) * key_count, masked, count, visible);
      const float maximum = statistics[block + r], inverse = statistics[queries + block + r];
      const float dot = statistics[2 * queries + block + r];
      for (int v = 0; v < 2 * panels; ++v) {
        s[v] = exp2_falling_v(s[v] - maximum) * inverse;
        slope[v] = s[v] * (slope[v] - dot);
      }
    }
    add_products((const float*)scores, 1, KB, from, depth, key_tiles, value_sum);
    add_products((const float*)slopes, 1, KB, query, depth, key_tiles, key_sum);
  }

  for (int j = 0; j < count; ++j) {
    narrow_row(key_sum + j * (DP / 16), scale, dk + dk0 + out + (ulong)j * width);
    narrow_row(value_sum + j * (DP / 16), 1.0f, dv + dv0 + out + (ulong)j * width);
  }
}
