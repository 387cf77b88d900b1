// Attention on GPUs: y = softmax(scale * Q K^T + mask) V per head by online softmax (arXiv:1805.02867).
//
// Mapping: a work-group of LOCAL items owns BQ query rows of one head; local size [LOCAL], global size
// [ceil(queries / BQ) * LOCAL, images * heads]. Keys, then values, of BK positions are staged in the same
// local memory. LANES = LOCAL / BQ items share a row: each holds every LANES-th column of its output. The
// softmax of a row is a team's work (team.cl): a subgroup's, or one item's.
//
// Layouts: Q, y [N, queries, heads * D]; K, V [N, keys, heads * D]. D head size; `masked`, `causal` 0 | 1.
// Local memory: (BQ * D + BK * (D + 1) + BQ * (BK + 1) + 3 * BQ) floats.

#define LOWEST (-3.0e38f)
#define LANES (LOCAL / BQ)
#define COLUMNS ((D + LANES - 1) / LANES)

__kernel __attribute__((reqd_work_group_size(LOCAL, 1, 1))) void tiled_attention(
    __global const T_t* q, const ulong q0, __global const T_t* keys, const ulong keys0,
    __global const T_t* values, const ulong values0, __global T_t* y, const ulong y0,
    __global const T_t* mask, const ulong mask0, const ulong mask_image, const int masked,
    const int causal, const float scale, const int queries, const int key_count, const int heads) {
  __local float query[BQ][D];
  __local float staged[BK][D + 1];
  __local float scores[BQ][BK + 1];
  __local float maxima[BQ], corrections[BQ], totals[BQ];
  const int item = get_local_id(0), row = item / LANES, lane = item % LANES;
  const int first = get_group_id(0) * BQ;
  const int image = get_group_id(1) / heads, head = get_group_id(1) % heads;
  const ulong width = (ulong)heads * D;
  const ulong q_at = (ulong)image * queries * width + (ulong)head * D;
  const ulong k_at = (ulong)image * key_count * width + (ulong)head * D;
  q += q0 + q_at;
  keys += keys0 + k_at;
  values += values0 + k_at;
  y += y0 + q_at;

  for (int e = item; e < BQ * D; e += LOCAL) {
    const int r = e / D, d = e % D;
    query[r][d] = first + r < queries ? LOAD(q, (ulong)(first + r) * width + d) * (scale * LOG2E) : 0.0f;
  }
  float sum[COLUMNS];
  for (int j = 0; j < COLUMNS; ++j) sum[j] = 0.0f;
  if (item < BQ) {
    maxima[item] = LOWEST;
    totals[item] = 0.0f;
  }
  barrier(CLK_LOCAL_MEM_FENCE);

  const int end = causal ? min(key_count, first + BQ) : key_count;
  for (int block = 0; block < end; block += BK) {
    const int count = min(BK, end - block);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int e = item; e < BK * D; e += LOCAL) {
      const int k = e / D, d = e % D;
      staged[k][d] = k < count ? LOAD(keys, (ulong)(block + k) * width + d) : 0.0f;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int k = lane; k < BK; k += LANES) {
      float s = 0.0f;
      for (int d = 0; d < D; ++d) s += query[row][d] * staged[k][d];
      if (masked && k < count && first + row < queries) {
        // A finite mask stays finite in base 2; -INFINITY takes the key out altogether.
        const float added =
            LOAD(mask, mask0 + image * mask_image + (ulong)(first + row) * key_count + block + k);
        s += added == -INFINITY ? added : max(added * LOG2E, LOWEST);
      }
      if (k >= count || (causal && block + k > first + row)) s = -INFINITY;
      scores[row][k] = s;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int r = TEAM; r < BQ; r += TEAMS) {
      const float before = maxima[r];
      float now = before;
      for (int k = MEMBER; k < BK; k += MEMBERS) now = max(now, scores[r][k]);
      now = team_max(now);
      float block_sum = 0.0f;
      for (int k = MEMBER; k < BK; k += MEMBERS) {
        const float p = exp2(scores[r][k] - now);
        scores[r][k] = p;
        block_sum += p;
      }
      block_sum = team_sum(block_sum);
      if (MEMBER == 0) {
        const float correction = exp2(before - now);
        maxima[r] = now;
        corrections[r] = correction;
        totals[r] = totals[r] * correction + block_sum;
      }
    }
    for (int e = item; e < BK * D; e += LOCAL) {
      const int k = e / D, d = e % D;
      staged[k][d] = k < count ? LOAD(values, (ulong)(block + k) * width + d) : 0.0f;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int j = 0; j < COLUMNS; ++j) {
      const int d = lane + j * LANES;
      if (d < D) {
        float s = sum[j] * corrections[row];
        for (int k = 0; k < BK; ++k) s += scores[row][k] * staged[k][d];
        sum[j] = s;
      }
    }
  }
  if (first + row < queries)
    for (int j = 0; j < COLUMNS; ++j) {
      const int d = lane + j * LANES;
      // A query that sees no key gives zeros.
      if (d < D) STORE(totals[row] == 0.0f ? 0.0f : sum[j] / totals[row], y, (ulong)(first + row) * width + d);
    }
}
