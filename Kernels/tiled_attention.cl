// Attention on GPUs: y = softmax(scale * Q K^T + mask) V per head by online softmax (arXiv:1805.02867).
//
// Mapping: a work-group of LOCAL items owns BQ query rows of one head; local size [LOCAL], global size
// [ceil(queries / BQ) * LOCAL, images * heads]. Keys, then values, of BK positions are staged in the same local memory.
//
// MQ 1, the plain form: LANES = LOCAL / BQ items share a row: each holds every LANES-th column of its output, and scores
// are in local memory. The softmax of a row is a team's work (team.cl): a subgroup's, or one item's. Local memory:
// (BQ * D + BK * (D + 1) + BQ * (BK + 1) + 3 * BQ) floats.
//
// MQ > 1, in registers (arXiv:2307.08691): LANES items share MQ rows. Each holds their scores with every LANES-th key, and
// every LANES-th vector of four of their output. Local memory has each row's largest score of an item, and what its
// softmax makes of the scores, on the way to all items of the row; sums are the items' own until the end. D channels are
// staged DC at a time, where heads are large for the device's local memory. Local memory:
// ((BQ + BK) * (DC + 4) + BQ * (BK + 4) + BQ * LANES) floats. DC and BK are multiples of 4, BK one of LANES.
//
// Layouts: Q, y [N, queries, heads * D]; K, V [N, keys, heads * D]. D head size; `masked`, `causal` 0 | 1; `aligned`
// whether Q, K and V begin at multiples of four elements.

#define LOWEST (-3.0e38f)
#if MQ == 1
#define LANES (LOCAL / BQ)
#define COLUMNS ((D + LANES - 1) / LANES)
#else
#define GROUPS (BQ / MQ)
#define LANES (LOCAL / GROUPS)
#define MK (BK / LANES)
#define CHUNKS ((D + DC - 1) / DC)
// In vectors of four: a chunk's channels, those of an item, and the places between rows, which fall on other banks.
#define DV (DC / 4)
#define CV ((DV + LANES - 1) / LANES)
#define PITCH (DV + 1)
#define KEY_PITCH (BK / 4 + 1)

// Rows of a chunk that begins at channel `begin`, times `factor`; zeros beyond the last row and the last channel.
void stage(
    __local float4* to, __global const T_t* from, int rows, int count, int begin, ulong width, float factor,
    int aligned) {
  for (int e = get_local_id(0); e < rows * DV; e += LOCAL) {
    const int r = e / DV, d = begin + e % DV * 4;
    float4 v = (float4)(0.0f);
    if (r < count && d < D) v = factor * FETCH4(from, r * width + d, D - d, D % 4 == 0 && aligned);
    to[r * PITCH + e % DV] = v;
  }
}

// sum += a b^T over four channels.
#define ADD_PRODUCT(sum, a, b) \
  sum += a.x * b.x;            \
  sum += a.y * b.y;            \
  sum += a.z * b.z;            \
  sum += a.w * b.w;
#endif

__kernel __attribute__((reqd_work_group_size(LOCAL, 1, 1))) void tiled_attention(
    __global const T_t* q, const ulong q0, __global const T_t* keys, const ulong keys0,
    __global const T_t* values, const ulong values0, __global T_t* y, const ulong y0,
    __global const T_t* mask, const ulong mask0, const ulong mask_image, const int masked,
    const int causal, const float scale, const int queries, const int key_count, const int heads,
    const int aligned) {
#if MQ == 1
  __local float query[BQ][D];
  __local float staged[BK][D + 1];
  __local float scores[BQ][BK + 1];
  __local float maxima[BQ], corrections[BQ], totals[BQ];
  const int item = get_local_id(0), row = item / LANES, lane = item % LANES;
#else
  __local float4 query[BQ * PITCH], staged[BK * PITCH], weights[BQ * KEY_PITCH];
  __local float maxima[BQ * LANES];
  const int item = get_local_id(0), group = item / LANES, lane = item % LANES;
#endif
  const int first = get_group_id(0) * BQ;
  const int image = get_group_id(1) / heads, head = get_group_id(1) % heads;
  const ulong width = (ulong)heads * D;
  const ulong q_at = (ulong)image * queries * width + (ulong)head * D;
  const ulong k_at = (ulong)image * key_count * width + (ulong)head * D;
  q += q0 + q_at;
  keys += keys0 + k_at;
  values += values0 + k_at;
  y += y0 + q_at;

#if MQ == 1
  for (int e = item; e < BQ * D; e += LOCAL) {
    const int r = e / D, d = e % D;
    query[r][d] = first + r < queries ? LOAD(q, (ulong)(first + r) * width + d) * (scale * LOG2E) : 0.0f;
  }
  float sum[COLUMNS];
  UNROLL for (int j = 0; j < COLUMNS; ++j) sum[j] = 0.0f;
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
    UNROLL for (int j = 0; j < COLUMNS; ++j) sum[j] *= corrections[row];
    // Items without a column compute the last one again.
    ONCE for (int k = 0; k < BK; ++k)
      UNROLL for (int j = 0; j < COLUMNS; ++j) sum[j] += scores[row][k] * staged[k][min(lane + j * LANES, D - 1)];
  }
  if (first + row < queries)
    UNROLL for (int j = 0; j < COLUMNS; ++j) {
      const int d = lane + j * LANES;
      // A query that sees no key gives zeros.
      if (d < D) STORE(totals[row] == 0.0f ? 0.0f : sum[j] / totals[row], y, (ulong)(first + row) * width + d);
    }
#else
  // Row r of the item is group + r * GROUPS, its key m lane + m * LANES, its vector v of a chunk lane + v * LANES.
  float4 sum[MQ][CHUNKS * CV];
  float top[MQ], total[MQ];
  UNROLL for (int r = 0; r < MQ; ++r) {
    top[r] = LOWEST;
    total[r] = 0.0f;
    UNROLL for (int v = 0; v < CHUNKS * CV; ++v) sum[r][v] = (float4)(0.0f);
  }
  const int query_count = min(BQ, queries - first);
  const int end = causal ? min(key_count, first + BQ) : key_count;
  if (CHUNKS == 1) stage(query, q + first * width, BQ, query_count, 0, width, scale * LOG2E, aligned);

  for (int block = 0; block < end; block += BK) {
    const int count = min(BK, end - block);
    float score[MQ][MK];
    UNROLL for (int r = 0; r < MQ; ++r)
      UNROLL for (int m = 0; m < MK; ++m) score[r][m] = 0.0f;
    for (int chunk = 0; chunk < CHUNKS; ++chunk) {
      barrier(CLK_LOCAL_MEM_FENCE);
      if (CHUNKS > 1)
        stage(query, q + first * width, BQ, query_count, chunk * DC, width, scale * LOG2E, aligned);
      stage(staged, keys + block * width, BK, count, chunk * DC, width, 1.0f, aligned);
      barrier(CLK_LOCAL_MEM_FENCE);
      ONCE for (int d = 0; d < DV; ++d) {
        float4 key[MK];
        UNROLL for (int m = 0; m < MK; ++m) key[m] = staged[(lane + m * LANES) * PITCH + d];
        UNROLL for (int r = 0; r < MQ; ++r) {
          const float4 row = query[(group + r * GROUPS) * PITCH + d];
          UNROLL for (int m = 0; m < MK; ++m) { ADD_PRODUCT(score[r][m], row, key[m]) }
        }
      }
    }
    if (masked)
      UNROLL for (int r = 0; r < MQ; ++r) {
        const int row = first + group + r * GROUPS;
        UNROLL for (int m = 0; m < MK; ++m) {
          const int k = lane + m * LANES;
          if (k < count && row < queries) {
            // A finite mask stays finite in base 2; -INFINITY takes the key out altogether.
            const float added =
                LOAD(mask, mask0 + image * mask_image + (ulong)row * key_count + block + k);
            score[r][m] += added == -INFINITY ? added : max(added * LOG2E, LOWEST);
          }
        }
      }
    UNROLL for (int r = 0; r < MQ; ++r) {
      const int row = first + group + r * GROUPS;
      float largest = LOWEST;
      UNROLL for (int m = 0; m < MK; ++m) {
        const int k = lane + m * LANES;
        if (k >= count || (causal && block + k > row)) score[r][m] = -INFINITY;
        largest = max(largest, score[r][m]);
      }
      maxima[(group + r * GROUPS) * LANES + lane] = largest;
    }
    // All keys have been read, and the row's largest scores are there.
    barrier(CLK_LOCAL_MEM_FENCE);
    stage(staged, values + block * width, BK, count, 0, width, 1.0f, aligned);
    float before[MQ];
    UNROLL for (int r = 0; r < MQ; ++r) before[r] = top[r];
    ONCE for (int other = 0; other < LANES; ++other)
      UNROLL for (int r = 0; r < MQ; ++r) top[r] = max(top[r], maxima[(group + r * GROUPS) * LANES + other]);
    UNROLL for (int r = 0; r < MQ; ++r) {
      const float correction = exp2(before[r] - top[r]);
      total[r] *= correction;
      UNROLL for (int v = 0; v < CHUNKS * CV; ++v) sum[r][v] *= correction;
    }
    // A row's scores move up to the first place: registers have no index, and exp2 is long.
    float part[MQ];
    UNROLL for (int r = 0; r < MQ; ++r) part[r] = 0.0f;
    ONCE for (int m = 0; m < MK; ++m)
      UNROLL for (int r = 0; r < MQ; ++r) {
        const float p = exp2(score[r][0] - top[r]);
        ((__local float*)weights)[(group + r * GROUPS) * KEY_PITCH * 4 + lane + m * LANES] = p;
        part[r] += p;
        UNROLL for (int next = 1; next < MK; ++next) score[r][next - 1] = score[r][next];
      }
    UNROLL for (int r = 0; r < MQ; ++r) total[r] += part[r];
    ONCE for (int chunk = 0; chunk < CHUNKS; ++chunk) {
      if (chunk > 0) {
        barrier(CLK_LOCAL_MEM_FENCE);
        stage(staged, values + block * width, BK, count, chunk * DC, width, 1.0f, aligned);
      }
      barrier(CLK_LOCAL_MEM_FENCE);
      ONCE for (int k = 0; k < BK; k += 4) {
        float4 p[MQ];
        UNROLL for (int r = 0; r < MQ; ++r) p[r] = weights[(group + r * GROUPS) * KEY_PITCH + k / 4];
        UNROLL for (int v = 0; v < CV; ++v) {
          // Items without a vector compute their last one again.
          __local const float4* at = staged + k * PITCH + min(lane + v * LANES, DV - 1);
          const float4 v0 = at[0], v1 = at[PITCH], v2 = at[2 * PITCH], v3 = at[3 * PITCH];
          UNROLL for (int r = 0; r < MQ; ++r) {
            sum[r][v] += p[r].x * v0;
            sum[r][v] += p[r].y * v1;
            sum[r][v] += p[r].z * v2;
            sum[r][v] += p[r].w * v3;
          }
        }
      }
#if CHUNKS > 1
      // The next chunk's sums move up, since registers have no index; after all chunks each is where it was.
      UNROLL for (int r = 0; r < MQ; ++r)
        UNROLL for (int v = 0; v < CV; ++v) {
          const float4 first_sum = sum[r][v];
          UNROLL for (int next = 1; next < CHUNKS; ++next) sum[r][(next - 1) * CV + v] = sum[r][next * CV + v];
          sum[r][(CHUNKS - 1) * CV + v] = first_sum;
        }
#endif
    }
  }

  UNROLL for (int r = 0; r < MQ; ++r) maxima[(group + r * GROUPS) * LANES + lane] = total[r];
  barrier(CLK_LOCAL_MEM_FENCE);
  UNROLL for (int r = 0; r < MQ; ++r) total[r] = 0.0f;
  ONCE for (int other = 0; other < LANES; ++other)
    UNROLL for (int r = 0; r < MQ; ++r) total[r] += maxima[(group + r * GROUPS) * LANES + other];
  // A row's sums move up to the first place.
  ONCE for (int v = 0; v < CHUNKS * CV; ++v) {
    const int place = lane + v % CV * LANES, d = v / CV * DC + place * 4;
    UNROLL for (int r = 0; r < MQ; ++r) {
      const int row = first + group + r * GROUPS;
      // A query that sees no key gives zeros.
      const float4 result = total[r] == 0.0f ? (float4)(0.0f) : sum[r][0] / total[r];
      if (row < queries && place < DV && d < D) store_part(result, y, row * width + d, D - d);
      UNROLL for (int next = 1; next < CHUNKS * CV; ++next) sum[r][next - 1] = sum[r][next];
    }
  }
#endif
}
