// The gradient of attention on GPUs; the formulas and the two launches are those of attention_gradient.cl.
//
// Mapping: a work-group of LOCAL items owns BQ query rows of one head and walks over the keys in blocks of
// BK, or owns BQ keys and walks over the queries; local size [LOCAL], global size [ceil(queries or keys / BQ)
// * LOCAL, images * heads]. What it walks over is staged in the same local memory, one operand after another.
// LANES = LOCAL / BQ items share an owned row: each holds every LANES-th channel of its sums. The softmax of
// a row is one item's work, so that sums have one order.
//
// Layouts: q, o, g, dq [N, queries, heads * D]; k, v, dk, dv [N, keys, heads * D]; statistics [N * heads, 3,
// queries]: max in base 2, 1 / total (0 where no key is seen), d. D head size; `masked`, `causal` 0 | 1; VW
// must be 4.
// Local memory: (2 * BQ * D + BK * (WIDTH + 1) + 2 * BQ * (BK + 1) + 3 * max(BQ, BK)) floats.

#define LOWEST (-3.0e38f)
#define LANES (LOCAL / BQ)
#define COLUMNS ((D + LANES - 1) / LANES)
// Of a staged row. The channels past D are zeros, so that no condition differs between lanes in a loop with
// barriers: PoCL 3.1 gave wrong sums for heads of one channel where one did.
#define WIDTH (COLUMNS * LANES)

// `rows` rows of a head from `first`, of `count` there are, `columns` wide; the rest is zero.
#define STAGE(to, p, first, rows, columns, count)                                           \
  for (int e_ = item; e_ < (rows) * (columns); e_ += LOCAL) {                               \
    const int r_ = e_ / (columns), d_ = e_ % (columns);                                     \
    const int is_there_ = (first) + r_ < (count) && d_ < D;                                 \
    to[r_][d_] = is_there_ ? LOAD(p, (ulong)((first) + r_) * width + d_) : 0.0f;            \
  }

// A score in base 2 with its mask; -INFINITY where the key is hidden or one of the two does not exist.
float finish_score(
    float s, __global const T_t* mask, const int masked, const int causal, const int query, const int queries,
    const int key, const int keys) {
  if (query >= queries || key >= keys || (causal && key > query)) return -INFINITY;
  if (masked) {
    // A finite mask stays finite in base 2; -INFINITY takes the key out altogether.
    const float added = LOAD(mask, (ulong)query * keys + key);
    s += added == -INFINITY ? added : max(added * LOG2E, LOWEST);
  }
  return s;
}

__kernel __attribute__((reqd_work_group_size(LOCAL, 1, 1))) void attention_gradient_queries(
    __global const T_t* q, const ulong q0, __global const T_t* k, const ulong k0, __global const T_t* v,
    const ulong v0, __global const T_t* o, const ulong o0, __global const T_t* g, const ulong g0,
    __global T_t* dq, const ulong dq0, __global float* statistics, __global const T_t* mask,
    const ulong mask0, const ulong mask_image, const int masked, const int causal, const float scale,
    const int queries, const int key_count, const int heads) {
  __local float query[BQ][D], from[BQ][D];
  __local float staged[BK][WIDTH + 1];
  __local float scores[BQ][BK + 1], slopes[BQ][BK + 1];
  __local float maxima[BQ], corrections[BQ], totals[BQ];
  const int item = get_local_id(0), row = item / LANES, lane = item % LANES;
  const int first = get_group_id(0) * BQ;
  const int image = get_group_id(1) / heads, head = get_group_id(1) % heads;
  const ulong width = (ulong)heads * D;
  const ulong q_at = (ulong)image * queries * width + (ulong)head * D;
  const ulong k_at = (ulong)image * key_count * width + (ulong)head * D;
  q += q0 + q_at;
  k += k0 + k_at;
  v += v0 + k_at;
  o += o0 + q_at;
  g += g0 + q_at;
  dq += dq0 + q_at;
  mask += mask0 + image * mask_image;
  statistics += (ulong)get_group_id(1) * 3 * queries;

  STAGE(query, q, first, BQ, D, queries)
  STAGE(from, g, first, BQ, D, queries)
  barrier(CLK_LOCAL_MEM_FENCE);
  float sum[COLUMNS];
  UNROLL for (int c = 0; c < COLUMNS; ++c) sum[c] = 0.0f;
  float dot = 0.0f;
  // Every lane of a row adds it up by itself, in the same order.
  if (first + row < queries)
    for (int d = 0; d < D; ++d) dot += LOAD(o, (ulong)(first + row) * width + d) * from[row][d];
  if (item < BQ) {
    maxima[item] = LOWEST;
    totals[item] = 0.0f;
  }

  const int end = causal ? min(key_count, first + BQ) : key_count;
  for (int block = 0; block < end; block += BK) {
    barrier(CLK_LOCAL_MEM_FENCE);
    STAGE(staged, v, block, BK, WIDTH, key_count)
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int j = lane; j < BK; j += LANES) {
      float s = 0.0f;
      for (int d = 0; d < D; ++d) s += from[row][d] * staged[j][d];
      slopes[row][j] = s - dot;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    STAGE(staged, k, block, BK, WIDTH, key_count)
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int j = lane; j < BK; j += LANES) {
      float s = 0.0f;
      for (int d = 0; d < D; ++d) s += query[row][d] * staged[j][d];
      scores[row][j] =
          finish_score(s * (scale * LOG2E), mask, masked, causal, first + row, queries, block + j, key_count);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (item < BQ) {
      const float before = maxima[item];
      float now = before, block_sum = 0.0f;
      for (int j = 0; j < BK; ++j) now = max(now, scores[item][j]);
      for (int j = 0; j < BK; ++j) {
        const float p = exp2(scores[item][j] - now);
        slopes[item][j] *= p;
        block_sum += p;
      }
      corrections[item] = exp2(before - now);
      totals[item] = totals[item] * corrections[item] + block_sum;
      maxima[item] = now;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    UNROLL for (int c = 0; c < COLUMNS; ++c) sum[c] *= corrections[row];
    ONCE for (int j = 0; j < BK; ++j)
      UNROLL for (int c = 0; c < COLUMNS; ++c) sum[c] += slopes[row][j] * staged[j][lane + c * LANES];
  }
  if (first + row < queries) {
    // A query that sees no key has no gradient.
    const float inverse = totals[row] == 0.0f ? 0.0f : 1.0f / totals[row];
    UNROLL for (int c = 0; c < COLUMNS; ++c) {
      const int d = lane + c * LANES;
      if (d < D) STORE(sum[c] * (scale * inverse), dq, (ulong)(first + row) * width + d);
    }
    if (lane == 0) {
      statistics[first + row] = maxima[row];
      statistics[queries + first + row] = inverse;
      statistics[2 * queries + first + row] = dot;
    }
  }
}

__kernel __attribute__((reqd_work_group_size(LOCAL, 1, 1))) void attention_gradient_keys(
    __global const T_t* q, const ulong q0, __global const T_t* k, const ulong k0, __global const T_t* v,
    const ulong v0, __global const T_t* g, const ulong g0, __global T_t* dk, const ulong dk0,
    __global T_t* dv, const ulong dv0, __global const float* statistics, __global const T_t* mask,
    const ulong mask0, const ulong mask_image, const int masked, const int causal, const float scale,
    const int queries, const int key_count, const int heads) {
  __local float keys[BQ][D], values[BQ][D];
  __local float staged[BK][WIDTH + 1];
  __local float weights[BQ][BK + 1], slopes[BQ][BK + 1];
  __local float rows[3][BK];
  const int item = get_local_id(0), row = item / LANES, lane = item % LANES;
  const int first = get_group_id(0) * BQ;
  const int image = get_group_id(1) / heads, head = get_group_id(1) % heads;
  const ulong width = (ulong)heads * D;
  const ulong q_at = (ulong)image * queries * width + (ulong)head * D;
  const ulong k_at = (ulong)image * key_count * width + (ulong)head * D;
  q += q0 + q_at;
  g += g0 + q_at;
  k += k0 + k_at;
  v += v0 + k_at;
  dk += dk0 + k_at;
  dv += dv0 + k_at;
  mask += mask0 + image * mask_image;
  statistics += (ulong)get_group_id(1) * 3 * queries;

  STAGE(keys, k, first, BQ, D, key_count)
  STAGE(values, v, first, BQ, D, key_count)
  float key_sum[COLUMNS], value_sum[COLUMNS];
  UNROLL for (int c = 0; c < COLUMNS; ++c) key_sum[c] = value_sum[c] = 0.0f;

  for (int block = causal ? first / BK * BK : 0; block < queries; block += BK) {
    barrier(CLK_LOCAL_MEM_FENCE);
    STAGE(staged, q, block, BK, WIDTH, queries)
    for (int e = item; e < 3 * BK; e += LOCAL)
      rows[e / BK][e % BK] =
          block + e % BK < queries ? statistics[(ulong)(e / BK) * queries + block + e % BK] : 0.0f;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = lane; i < BK; i += LANES) {
      float s = 0.0f;
      for (int d = 0; d < D; ++d) s += keys[row][d] * staged[i][d];
      s = finish_score(s * (scale * LOG2E), mask, masked, causal, block + i, queries, first + row, key_count);
      weights[row][i] = exp2(s - rows[0][i]) * rows[1][i];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    STAGE(staged, g, block, BK, WIDTH, queries)
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = lane; i < BK; i += LANES) {
      float s = 0.0f;
      for (int d = 0; d < D; ++d) s += values[row][d] * staged[i][d];
      slopes[row][i] = weights[row][i] * (s - rows[2][i]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    ONCE for (int i = 0; i < BK; ++i)
      UNROLL for (int c = 0; c < COLUMNS; ++c) value_sum[c] += weights[row][i] * staged[i][lane + c * LANES];
    barrier(CLK_LOCAL_MEM_FENCE);
    STAGE(staged, q, block, BK, WIDTH, queries)
    barrier(CLK_LOCAL_MEM_FENCE);
    ONCE for (int i = 0; i < BK; ++i)
      UNROLL for (int c = 0; c < COLUMNS; ++c) key_sum[c] += slopes[row][i] * staged[i][lane + c * LANES];
  }
  UNROLL for (int c = 0; c < COLUMNS; ++c) {
    const int d = lane + c * LANES;
    if (d < D && first + row < key_count) {
      STORE(key_sum[c] * scale, dk, (ulong)(first + row) * width + d);
      STORE(value_sum[c], dv, (ulong)(first + row) * width + d);
    }
  }
}
