// Gradients of operations over contiguous elements, and AdamW: each work-item takes CHUNK elements (a
// multiple of
// VW); global size [ceil(count / CHUNK)].

// e / (1 + e)^2 with e = exp(-|x|): the slope of the sigmoid, which 1 - s would lose for large x.
floatV sigmoid_slope_v(floatV x) {
  const floatV e = exp_v(-fabs(x));
  return e / ((1.0f + e) * (1.0f + e));
}

// d/dx x s(k x) = s (1 + k x (1 - s)).
floatV gated_slope_v(floatV x, float k) {
  const floatV s = sigmoid_v(k * x);
  return s * (1.0f + k * x * (1.0f - s));
}

// x phi(x), of the standard normal distribution: GELU's slope is Phi(x) + x phi(x).
floatV normal_moment_v(floatV x) { return x * exp_v(-0.5f * x * x) * 0.39894228040143268f; }
floatV gelu_slope_v(floatV x) { return normal_cdf_v(x) + normal_moment_v(x); }

// y = x s(u), u = k x (1 + a x^2): y' = s + x s (1 - s) u'. Beyond 16 it is 0 or 1 to the last bit, and x^2
// must stay finite.
floatV gelu_tanh_slope_v(floatV x) {
  x = select(x, (floatV)(-16.0f), x < -16.0f);
  x = select(x, (floatV)(16.0f), x > 16.0f);
  const float k = 2.0f * 0.7978845608028654f, a = 0.044715f;
  const floatV u = k * x * (1.0f + a * x * x);
  return sigmoid_v(u) + x * sigmoid_slope_v(u) * (k * (1.0f + 3.0f * a * x * x));
}

// f'(x) of LangevinTensor's Unary, in the order of its cases.
floatV unary_slope(int function, floatV x) {
  switch (function) {
    case 0: return gated_slope_v(x, 1.0f);
    case 1: return gelu_slope_v(x);
    case 2: return gelu_tanh_slope_v(x);
    case 3: return gated_slope_v(x, 1.702f);
    case 4: return sigmoid_slope_v(x);
    case 5: return 4.0f * sigmoid_slope_v(2.0f * x);
    case 6: return exp(x);
    case 7: return 1.0f / x;
    case 8: return 0.5f / sqrt(x);
    case 9: return -0.5f / (x * sqrt(x));
    case 10: return cosine_v(x);
    case 11: return -sine_v(x);
    case 12: return 2.0f * x;
    // 0 at 0, and NaN stays.
    case 13: return select(select((floatV)(1.0f), (floatV)(-1.0f), x < 0.0f), x, (x == 0.0f) | isnan(x));
    case 14: return (floatV)(-1.0f);
    default: {
      const floatV r = 1.0f / x;
      return -(r * r);
    }
  }
}

// y = g f'(x).
__kernel void unary_gradient(
    __global const T_t* x, const ulong x0, __global const T_t* g, const ulong g0, __global T_t* y,
    const ulong y0, const ulong count, const int function) {
  FOR_CHUNK(count)
  store_part(load_part(g, g0 + i, LEFT) * unary_slope(function, load_part(x, x0 + i, LEFT)), y, y0 + i, LEFT);
}

// x = [a, b] and y [rows, 2 * width], g [rows, width]: y = [g gelu(b), g a gelu'(b)].
// Global size [rows * chunks], with ceil(width / CHUNK) chunks a row.
__kernel void geglu_gradient(
    __global const T_t* x, const ulong x0, __global const T_t* g, const ulong g0, __global T_t* y,
    const ulong y0, const ulong rows, const ulong width, const ulong chunks) {
  const ulong row = get_global_id(0) / chunks, begin = get_global_id(0) % chunks * CHUNK;
  if (row >= rows) return;
  x += x0 + row * 2 * width;
  g += g0 + row * width;
  y += y0 + row * 2 * width;
  for (ulong i = begin, end_ = min(begin + CHUNK, width); i < end_; i += VW) {
    const floatV a = load_part(x, i, LEFT), b = load_part(x, width + i, LEFT), from = load_part(g, i, LEFT);
    const floatV share = normal_cdf_v(b);
    store_part(from * (b * share), y, i, LEFT);
    store_part(from * a * (share + normal_moment_v(b)), y, width + i, LEFT);
  }
}

// One step of AdamW (arXiv:1711.05101) and of the average of its values: state and y [4, count], in float32,
// hold value p, mean m, square v and average e; d = scale[0] * gradient:
//   m' = mean_kept m + mean_added d, v' = square_kept v + square_added d^2,
//   p' = p - shrink p - rate m' / (sqrt(v') root + epsilon), e' = average_kept e + average_added p'
// with rate = learning rate / (1 - beta1^t), root = 1 / sqrt(1 - beta2^t), shrink = learning rate * decay.
// What is added is no difference from 1 taken here, which would round: 1 - 0.999f is off by 1e-5 of itself.
__kernel void adam_w(
    __global const float* state, const ulong state0, __global const T_t* gradient, const ulong gradient0,
    __global const float* scale, const ulong scale0, __global float* y, const ulong y0, const ulong count,
    const float mean_kept, const float mean_added, const float square_kept, const float square_added,
    const float rate, const float root, const float epsilon, const float shrink, const float average_kept,
    const float average_added) {
  state += state0;
  y += y0;
  const float factor = scale[scale0];
  FOR_CHUNK(count) {
    const floatV d = load_part(gradient, gradient0 + i, LEFT) * factor;
    const floatV m = mean_kept * load_part_f32(state, count + i, LEFT) + mean_added * d;
    const floatV v = square_kept * load_part_f32(state, 2 * count + i, LEFT) + square_added * d * d;
    floatV p = load_part_f32(state, i, LEFT);
    p = p - shrink * p - rate * m / (sqrt(v) * root + epsilon);
    const floatV e = average_kept * load_part_f32(state, 3 * count + i, LEFT) + average_added * p;
    store_part_f32(p, y, i, LEFT);
    store_part_f32(m, y, count + i, LEFT);
    store_part_f32(v, y, 2 * count + i, LEFT);
    store_part_f32(e, y, 3 * count + i, LEFT);
  }
}
