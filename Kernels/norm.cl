// Group norm (arXiv:1803.08494), layer norm (arXiv:1607.06450), RMS norm (arXiv:1910.07467) and softmax.
//
// Group norm in three launches, channels last, x [N, pixels, C]:
//   group_partial   per chunk of pixels and channel: mean and sum of squared deviations
//   group_combine   per image and group: mean and variance of all chunks, folded to mean, scale and shift
//   group_apply     y = act((x - mean) * scale + shift)
// Never E[x^2] - mean^2, which cancels where the mean is large. A mean is a float and the rest that its rounding
// lost, the mean of the deviations from it: where the variance is small beside the mean, the rest is seen.
// Row norms: one work-group of LOCAL items per row; LOCAL 1 on CPUs. Reductions are those of team.cl and
// statistics.cl.
// VW vector width, LOCAL work-group size (a power of two).

// Global size [ceil(C / VW), chunks, N].
__kernel void group_partial(
    __global const T_t* x, const ulong x0, __global float* partial, const int pixels, const int channels,
    const int chunk_size) {
  const int c = get_global_id(0) * VW, chunk = get_global_id(1), image = get_global_id(2);
  const int chunks = get_global_size(1);
  const int first = chunk * chunk_size, count = min(chunk_size, pixels - first);
  x += x0 + ((ulong)image * pixels + first) * channels + c;
  __global float* means = partial + ((ulong)image * chunks + chunk) * 3 * channels + c;
  __global float* rests = means + channels;
  __global float* squares = rests + channels;
  if (c + VW <= channels) {
    floatV sum = (floatV)(0.0f);
    for (int p = 0; p < count; ++p) sum += LOADV(x, (ulong)p * channels);
    const floatV mean = sum / (float)count;
    floatV rest = (floatV)(0.0f), square = (floatV)(0.0f);
    for (int p = 0; p < count; ++p) {
      const floatV d = LOADV(x, (ulong)p * channels) - mean;
      rest += d;
      square += d * d;
    }
    rest /= (float)count;
    vstoreV(mean, means);
    vstoreV(rest, rests);
    vstoreV(square - rest * rest * (float)count, squares);
  } else {
    for (int j = 0; j < channels - c; ++j) {
      float sum = 0.0f, rest = 0.0f, square = 0.0f;
      for (int p = 0; p < count; ++p) sum += LOAD(x, (ulong)p * channels + j);
      const float mean = sum / (float)count;
      for (int p = 0; p < count; ++p) {
        const float d = LOAD(x, (ulong)p * channels + j) - mean;
        rest += d;
        square += d * d;
      }
      rest /= (float)count;
      means[j] = mean;
      rests[j] = rest;
      squares[j] = square - rest * rest * (float)count;
    }
  }
}

// One work-group per group and image; global size [groups * LOCAL, N]; coefficients [N, 3, C].
__kernel __attribute__((reqd_work_group_size(LOCAL, 1, 1))) void group_combine(
    __global const float* partial, __global const T_t* gamma, const ulong gamma0, __global const T_t* beta,
    const ulong beta0, __global float* coefficients, const int pixels, const int channels, const int chunks,
    const int chunk_size, const float epsilon) {
  __local float scratch[LOCAL];
  const int image = get_group_id(1), width = channels / (int)get_num_groups(0);
  const int c0 = (int)get_group_id(0) * width;
  const float3 statistics = group_statistics(
      partial + (ulong)image * chunks * 3 * channels + c0, pixels, channels, width, chunks, chunk_size,
      epsilon, scratch);
  coefficients += (ulong)image * 3 * channels;
  for (int c = c0 + get_local_id(0); c < c0 + width; c += LOCAL) {
    const float scale = LOAD(gamma, gamma0 + c) * statistics.z;
    coefficients[c] = statistics.x;
    coefficients[channels + c] = scale;
    coefficients[2 * channels + c] = LOAD(beta, beta0 + c) - statistics.y * scale;
  }
}

// Global size [ceil(C / VW), chunks, N].
__kernel void group_apply(
    __global const T_t* x, const ulong x0, __global const float* coefficients, __global T_t* y,
    const ulong y0, const int pixels, const int channels, const int chunk_size, const int activation) {
  const int c = get_global_id(0) * VW, image = get_global_id(2);
  const int first = get_global_id(1) * chunk_size, last = min(first + chunk_size, pixels);
  const ulong at = ((ulong)image * pixels) * channels + c;
  coefficients += (ulong)image * 3 * channels + c;
  x += x0 + at;
  y += y0 + at;
  if (c + VW <= channels) {
    const floatV mean = vloadV(coefficients);
    const floatV scale = vloadV(coefficients + channels), shift = vloadV(coefficients + 2 * channels);
    for (int p = first; p < last; ++p) {
      const floatV v = (LOADV(x, (ulong)p * channels) - mean) * scale + shift;
      STOREV(activate(activation, v), y, (ulong)p * channels);
    }
  } else {
    for (int p = first; p < last; ++p)
      for (int j = 0; j < channels - c; ++j) {
        const ulong i = (ulong)p * channels + j;
        const floatV v =
            (floatV)((LOAD(x, i) - coefficients[j]) * coefficients[channels + j] + coefficients[2 * channels + j]);
        STORE(activate(activation, v).s0, y, i);
      }
  }
}

float lanes_max(floatV v) {
  float t[VW];
  vstoreV(v, t);
  float s = t[0];
  for (int j = 1; j < VW; ++j) s = s >= t[j] ? s : t[j];
  return s;
}

// Layer norm where `centred`, else RMS norm; gamma and, where centred, beta where `affine`.
// Global size [rows * LOCAL].
__kernel __attribute__((reqd_work_group_size(LOCAL, 1, 1))) void row_norm(
    __global const T_t* x, const ulong x0, __global const T_t* gamma, const ulong gamma0,
    __global const T_t* beta, const ulong beta0, __global T_t* y, const ulong y0, const int width,
    const float epsilon, const int centred, const int affine) {
  __local float scratch[LOCAL];
  const ulong at = get_group_id(0) * (ulong)width;
  x += x0 + at;
  y += y0 + at;
  gamma += gamma0;
  beta += beta0;
  floatV s = (floatV)(0.0f);
  float tail = 0.0f, mean = 0.0f, rest = 0.0f;
  if (centred) {
    FOR_VECTORS(i) s += LOADV(x, i);
    FOR_TAIL(i) tail += LOAD(x, i);
    mean = group_sum(lanes_sum(s) + tail, scratch) / (float)width;
    s = (floatV)(0.0f);
    tail = 0.0f;
  }
  floatV t = (floatV)(0.0f);
  FOR_VECTORS(i) {
    const floatV d = LOADV(x, i) - mean;
    t += d;
    s += d * d;
  }
  FOR_TAIL(i) {
    const float d = LOAD(x, i) - mean;
    rest += d;
    tail += d * d;
  }
  rest = centred ? group_sum(lanes_sum(t) + rest, scratch) / (float)width : 0.0f;
  const float variance = group_sum(lanes_sum(s) + tail, scratch) / (float)width - rest * rest;
  const float inverse = 1.0f / sqrt(variance + epsilon), shift = -rest * inverse;
  FOR_VECTORS(i) {
    floatV v = (LOADV(x, i) - mean) * inverse + shift;
    if (affine) v *= LOADV(gamma, i);
    if (affine && centred) v += LOADV(beta, i);
    STOREV(v, y, i);
  }
  FOR_TAIL(i) {
    float v = (LOAD(x, i) - mean) * inverse + shift;
    if (affine) v *= LOAD(gamma, i);
    if (affine && centred) v += LOAD(beta, i);
    STORE(v, y, i);
  }
}

// Global size [rows * LOCAL]. The exponentials are computed twice rather than stored rounded.
__kernel __attribute__((reqd_work_group_size(LOCAL, 1, 1))) void softmax(
    __global const T_t* x, const ulong x0, __global T_t* y, const ulong y0, const int width) {
  __local float scratch[LOCAL];
  const ulong at = get_group_id(0) * (ulong)width;
  x += x0 + at;
  y += y0 + at;
  floatV m = (floatV)(-3.0e38f);
  float tail = -3.0e38f;
  FOR_VECTORS(i) {
    const floatV v = LOADV(x, i);
    m = select(m, v, v > m);
  }
  FOR_TAIL(i) tail = max(tail, LOAD(x, i));
  const float maximum = group_max(max(lanes_max(m), tail), scratch);
  floatV s = (floatV)(0.0f);
  tail = 0.0f;
  FOR_VECTORS(i) s += exp2_falling_v((LOADV(x, i) - maximum) * LOG2E);
  FOR_TAIL(i) tail += exp2_falling_v((floatV)((LOAD(x, i) - maximum) * LOG2E)).s0;
  const float inverse = 1.0f / group_sum(lanes_sum(s) + tail, scratch);
  FOR_VECTORS(i) STOREV(exp2_falling_v((LOADV(x, i) - maximum) * LOG2E) * inverse, y, i);
  FOR_TAIL(i) STORE(exp2_falling_v((floatV)((LOAD(x, i) - maximum) * LOG2E)).s0 * inverse, y, i);
}
