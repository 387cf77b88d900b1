// The gradients of group norm with its activation, of layer norm and of RMS norm. Statistics are those of the
// norms (statistics.cl): means and squared deviations by chunk, never E[x^2] - mean^2.
//
// Group norm, channels last: with n = (x - mean) / deviation, z = gamma n + beta and h = g act'(z), over the
// m elements of a group
//   dx = (gamma h - (A + n B) / m) / deviation,  A = sum of gamma h,  B = sum of gamma h n
//   dgamma = sum of h n and dbeta = sum of h, over images and pixels
// in six launches: group_partial (norm.cl), group_moments, group_gradient_partial, group_gradient_combine,
// group_gradient_apply, and `combine_parts` (reduce.cl) over the images for dgamma and dbeta.
// Row norms: one work-group of LOCAL items takes ROWS rows, one after another; `combine_parts` adds the
// groups' sums.
// VW vector width, LOCAL work-group size; chunk_size and ROWS are constants of the operation, so that sums
// repeat.

// d silu(z) / dz = s (1 + z (1 - s)), s = sigmoid(z). Only group norm's two activations.
floatV activation_slope(int activation, floatV z) {
  if (!activation) return (floatV)(1.0f);
  const floatV s = sigmoid_v(z);
  return s * (1.0f + z * (1.0f - s));
}

// One work-group per group and image; global size [groups * LOCAL, N]; moments [N, 3, C]: mean, 1 / deviation
// and the rest, so that n = (x - mean) * inverse + shift.
__kernel __attribute__((reqd_work_group_size(LOCAL, 1, 1))) void group_moments(
    __global const float* partial, __global float* moments, const int pixels, const int channels,
    const int chunks, const int chunk_size, const float epsilon) {
  __local float scratch[LOCAL];
  const int image = get_group_id(1), width = channels / (int)get_num_groups(0);
  const int c0 = (int)get_group_id(0) * width;
  const float3 statistics = group_statistics(
      partial + (ulong)image * chunks * 3 * channels + c0, pixels, channels, width, chunks, chunk_size,
      epsilon, scratch);
  moments += (ulong)image * 3 * channels;
  for (int c = c0 + get_local_id(0); c < c0 + width; c += LOCAL) {
    moments[c] = statistics.x;
    moments[channels + c] = statistics.z;
    moments[2 * channels + c] = -statistics.y * statistics.z;
  }
}

// Sums of h n and of h over a chunk of pixels; sums [N, chunks, 2, C]. Global size [ceil(C / VW), chunks, N].
__kernel void group_gradient_partial(
    __global const T_t* x, const ulong x0, __global const T_t* gamma, const ulong gamma0,
    __global const T_t* beta, const ulong beta0, __global const T_t* g, const ulong g0,
    __global const float* moments, __global float* sums, const int pixels, const int channels,
    const int chunk_size, const int activation) {
  const int c = get_global_id(0) * VW, left = channels - c, image = get_global_id(2);
  const int first = get_global_id(1) * chunk_size, count = min(chunk_size, pixels - first);
  const ulong at = ((ulong)image * pixels + first) * channels + c;
  x += x0 + at;
  g += g0 + at;
  moments += (ulong)image * 3 * channels + c;
  sums += ((ulong)image * get_global_size(1) + get_global_id(1)) * 2 * channels + c;
  const floatV mean = load_part_f32(moments, 0, left);
  const floatV inverse = load_part_f32(moments, channels, left);
  const floatV shift = load_part_f32(moments, 2 * channels, left);
  const floatV scale = load_part(gamma, gamma0 + c, left), offset = load_part(beta, beta0 + c, left);
  floatV with_n = (floatV)(0.0f), alone = (floatV)(0.0f);
  for (int p = 0; p < count; ++p) {
    const floatV n = (load_part(x, (ulong)p * channels, left) - mean) * inverse + shift;
    const floatV act_slope = activation_slope(activation, n * scale + offset);
    const floatV h = load_part(g, (ulong)p * channels, left) * act_slope;
    with_n += h * n;
    alone += h;
  }
  store_part_f32(with_n, sums, 0, left);
  store_part_f32(alone, sums, channels, left);
}

// Adds the chunks in order: totals [N, 2, C]. One work-group per group and image, global size [groups *
// LOCAL, N]; means [N, 2, C]: B / m and A / m, the same for all channels of a group.
__kernel __attribute__((reqd_work_group_size(LOCAL, 1, 1))) void group_gradient_combine(
    __global const float* sums, __global const T_t* gamma, const ulong gamma0, __global float* totals,
    __global float* means, const int pixels, const int channels, const int chunks) {
  __local float scratch[LOCAL];
  const int image = get_group_id(1), width = channels / (int)get_num_groups(0);
  const int c0 = (int)get_group_id(0) * width;
  sums += (ulong)image * chunks * 2 * channels;
  totals += (ulong)image * 2 * channels;
  means += (ulong)image * 2 * channels;
  float weighted_with_n = 0.0f, weighted = 0.0f;
  for (int c = c0 + get_local_id(0); c < c0 + width; c += LOCAL) {
    float with_n = 0.0f, alone = 0.0f;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      with_n += sums[(ulong)chunk * 2 * channels + c];
      alone += sums[((ulong)chunk * 2 + 1) * channels + c];
    }
    totals[c] = with_n;
    totals[channels + c] = alone;
    weighted_with_n += LOAD(gamma, gamma0 + c) * with_n;
    weighted += LOAD(gamma, gamma0 + c) * alone;
  }
  const float m = (float)pixels * (float)width;
  weighted_with_n = group_sum(weighted_with_n, scratch) / m;
  weighted = group_sum(weighted, scratch) / m;
  for (int c = c0 + get_local_id(0); c < c0 + width; c += LOCAL) {
    means[c] = weighted_with_n;
    means[channels + c] = weighted;
  }
}

// dx, the first rows of y. Global size [ceil(C / VW), chunks, N].
__kernel void group_gradient_apply(
    __global const T_t* x, const ulong x0, __global const T_t* gamma, const ulong gamma0,
    __global const T_t* beta, const ulong beta0, __global const T_t* g, const ulong g0, __global T_t* y,
    const ulong y0, __global const float* moments, __global const float* means, const int pixels,
    const int channels, const int chunk_size, const int activation) {
  const int c = get_global_id(0) * VW, left = channels - c, image = get_global_id(2);
  const int first = get_global_id(1) * chunk_size, count = min(chunk_size, pixels - first);
  const ulong at = ((ulong)image * pixels + first) * channels + c;
  x += x0 + at;
  g += g0 + at;
  y += y0 + at;
  moments += (ulong)image * 3 * channels + c;
  means += (ulong)image * 2 * channels + c;
  const floatV mean = load_part_f32(moments, 0, left);
  const floatV inverse = load_part_f32(moments, channels, left);
  const floatV shift = load_part_f32(moments, 2 * channels, left);
  const floatV slope = load_part_f32(means, 0, left), level = load_part_f32(means, channels, left);
  const floatV scale = load_part(gamma, gamma0 + c, left), offset = load_part(beta, beta0 + c, left);
  for (int p = 0; p < count; ++p) {
    const floatV n = (load_part(x, (ulong)p * channels, left) - mean) * inverse + shift;
    const floatV act_slope = activation_slope(activation, n * scale + offset);
    const floatV h = load_part(g, (ulong)p * channels, left) * act_slope;
    store_part(inverse * (scale * h - (level + n * slope)), y, (ulong)p * channels, left);
  }
}

// Layer norm's where `centred`, else RMS norm's; gamma where `affine`, with sums [groups, 1 + centred,
// width]: of g n and, where centred, of g. y [rows, width]. With h = gamma g, dx = (h - mean(h) - n mean(h
// n)) / deviation, where RMS norm has no mean(h). Global size [ceil(rows / ROWS) * LOCAL].
__kernel __attribute__((reqd_work_group_size(LOCAL, 1, 1))) void row_norm_gradient(
    __global const T_t* x, const ulong x0, __global const T_t* gamma, const ulong gamma0,
    __global const T_t* g, const ulong g0, __global T_t* y, const ulong y0, __global float* sums,
    const int rows, const int width, const float epsilon, const int centred, const int affine) {
  __local float scratch[LOCAL];
  const int first = get_group_id(0) * ROWS, last = min(first + ROWS, rows);
  gamma += gamma0;
  sums += get_group_id(0) * (ulong)(1 + centred) * width;
  __global float* alone = sums + width;
  if (affine) {
    FOR_VECTORS(i) {
      vstoreV((floatV)(0.0f), sums + i);
      if (centred) vstoreV((floatV)(0.0f), alone + i);
    }
    FOR_TAIL(i) {
      sums[i] = 0.0f;
      if (centred) alone[i] = 0.0f;
    }
  }
  for (int row = first; row < last; ++row) {
    __global const T_t* in = x + x0 + row * (ulong)width;
    __global const T_t* gradient = g + g0 + row * (ulong)width;
    __global T_t* out = y + y0 + row * (ulong)width;
    float mean = 0.0f, rest = 0.0f;
    if (centred) {
      floatV s = (floatV)(0.0f);
      float tail = 0.0f;
      FOR_VECTORS(i) s += LOADV(in, i);
      FOR_TAIL(i) tail += LOAD(in, i);
      mean = group_sum(lanes_sum(s) + tail, scratch) / (float)width;
    }
    // d = x - mean: sums of d, d^2, h and h d.
    floatV sd = (floatV)(0.0f), sdd = sd, sh = sd, shd = sd;
    float td = 0.0f, tdd = 0.0f, th = 0.0f, thd = 0.0f;
    FOR_VECTORS(i) {
      const floatV d = LOADV(in, i) - mean;
      floatV h = LOADV(gradient, i);
      if (affine) h *= LOADV(gamma, i);
      sd += d;
      sdd += d * d;
      sh += h;
      shd += h * d;
    }
    FOR_TAIL(i) {
      const float d = LOAD(in, i) - mean;
      float h = LOAD(gradient, i);
      if (affine) h *= LOAD(gamma, i);
      td += d;
      tdd += d * d;
      th += h;
      thd += h * d;
    }
    float level = 0.0f;
    if (centred) {
      rest = group_sum(lanes_sum(sd) + td, scratch) / (float)width;
      level = group_sum(lanes_sum(sh) + th, scratch) / (float)width;
    }
    const float variance = group_sum(lanes_sum(sdd) + tdd, scratch) / (float)width - rest * rest;
    const float inverse = 1.0f / sqrt(variance + epsilon), shift = -rest * inverse;
    const float slope = (group_sum(lanes_sum(shd) + thd, scratch) / (float)width - rest * level) * inverse;
    FOR_VECTORS(i) {
      const floatV n = (LOADV(in, i) - mean) * inverse + shift;
      const floatV from = LOADV(gradient, i);
      floatV h = from;
      if (affine) {
        h *= LOADV(gamma, i);
        vstoreV(vloadV(sums + i) + from * n, sums + i);
        if (centred) vstoreV(vloadV(alone + i) + from, alone + i);
      }
      STOREV(inverse * (h - level - n * slope), out, i);
    }
    FOR_TAIL(i) {
      const float n = (LOAD(in, i) - mean) * inverse + shift;
      const float from = LOAD(gradient, i);
      float h = from;
      if (affine) {
        h *= LOAD(gamma, i);
        sums[i] += from * n;
        if (centred) alone[i] += from;
      }
      STORE(inverse * (h - level - n * slope), out, i);
    }
  }
}
