// What follows a product, before its only store: act(scale * acc + bias + per_image + residual).
//
// `extras` says which operands are there: 1 bias, 2 per_image, 4 residual. Choosing at run time costs nothing
// beside the product and saves a build per combination. All operands are indexed in elements; `left` is how
// many columns of the vector exist.

#define EPILOGUE_PARAMETERS                                                       \
  __global const T_t *bias, const ulong bias0, __global const T_t *per_image,     \
      const ulong per_image0, __global const T_t *residual, const ulong residual0, \
      const int extras, const int activation

#define EPILOGUE(acc, y, at, column, image, columns, left)                                        \
  {                                                                                               \
    floatV v_ = (acc);                                                                            \
    if (extras & 1) v_ += load_part(bias, bias0 + (column), left);                                      \
    if (extras & 2) v_ += load_part(per_image, per_image0 + (ulong)(image) * (columns) + (column), left); \
    if (extras & 4) v_ += load_part(residual, residual0 + (at), left);                              \
    store_part(activate(activation, v_), y, at, left);                                                      \
  }
