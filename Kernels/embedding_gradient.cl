// The gradient of an embedding's table, without atomics: a work-item owns rows of the table and walks all
// ids.
//
// ids [count], g [count, width] -> y [rows, width]: row v is the sum of g over the places of v, in their
// order; an id outside the table adds to none. A work-item owns ROWS rows of LANES * VW channels and looks at
// VW ids at a time; global size [ceil(width / (LANES * VW)), ceil(rows / ROWS)].

__kernel void embedding_gradient(
    __global const int* ids, const ulong ids0, __global const T_t* g, const ulong g0, __global T_t* y,
    const ulong y0, const int count, const int rows, const int width) {
  const int c = get_global_id(0) * LANES * VW, left = width - c;
  const int first = get_global_id(1) * ROWS, height = min(ROWS, rows - first);
  if (left <= 0 || height <= 0) return;
  const int lanes = min(LANES, (left + VW - 1) / VW);
  floatV sum[ROWS * LANES];
  for (int i = 0; i < ROWS * LANES; ++i) sum[i] = (floatV)(0.0f);
  ids += ids0;
  g += g0 + c;
  for (int i = 0; i < count; i += VW) {
    const int some = min(VW, count - i);
    if (some == VW && !any(as_uintV(vloadV(ids + i) - first) < (uintV)(height))) continue;
    for (int j = 0; j < some; ++j) {
      const uint row = ids[i + j] - first;
      if (row >= (uint)height) continue;
      for (int l = 0; l < lanes; ++l)
        sum[row * LANES + l] += load_part(g, (ulong)(i + j) * width + l * VW, left - l * VW);
    }
  }
  y += y0 + (ulong)first * width + c;
  for (int r = 0; r < height; ++r)
    for (int l = 0; l < lanes; ++l)
      store_part(sum[r * LANES + l], y, (ulong)r * width + l * VW, left - l * VW);
}
