// What norms and their gradients share: loops over a row that a work-group of LOCAL items owns, VW elements
// at a time, sums within a vector, and the statistics of a group.

#define FOR_VECTORS(i) for (int i = get_local_id(0) * VW; i + VW <= width; i += LOCAL * VW)
#define FOR_TAIL(i) for (int i = width / VW * VW + get_local_id(0); i < width; i += LOCAL)

float lanes_sum(floatV v) {
  float t[VW];
  vstoreV(v, t);
  float s = 0.0f;
  for (int j = 0; j < VW; ++j) s += t[j];
  return s;
}

// Of the chunks of one group of `width` channels: the mean, the rest that it leaves, and 1 / deviation. Means
// are taken relative to the first, so that nothing cancels. Called by a whole work-group.
float3 group_statistics(
    __global const float* partial, const int pixels, const int channels, const int width, const int chunks,
    const int chunk_size, const float epsilon, __local float* scratch) {
  const int parts = chunks * width;
  const float n = (float)pixels * (float)width, first = partial[0];
  float sum = 0.0f;
  for (int i = get_local_id(0); i < parts; i += LOCAL) {
    const int chunk = i / width, count = min(chunk_size, pixels - chunk * chunk_size);
    sum += (partial[(ulong)chunk * 3 * channels + i % width] - first) * (float)count;
  }
  const float offset = group_sum(sum, scratch) / n;
  float rest = 0.0f, square = 0.0f;
  for (int i = get_local_id(0); i < parts; i += LOCAL) {
    const int chunk = i / width, count = min(chunk_size, pixels - chunk * chunk_size);
    __global const float* means = partial + (ulong)chunk * 3 * channels + i % width;
    const float d = ((means[0] - first) - offset) + means[channels];
    rest += d * (float)count;
    square += means[2 * channels] + d * d * (float)count;
  }
  rest = group_sum(rest, scratch) / n;
  const float variance = group_sum(square, scratch) / n - rest * rest;
  // What the sum of both rounds away joins the rest (Knuth's two-sum).
  const float mean = first + offset, back = mean - first;
  rest += (first - (mean - back)) + (offset - back);
  return (float3)(mean, rest, 1.0f / sqrt(variance + epsilon));
}
