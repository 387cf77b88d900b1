// What a device can do at most: multiply-adds in registers, and bytes to and from memory.
//
// TYPE: a vector of VW lanes. CHAINS: independent accumulators, enough to hide the latency.
//
// `fma_peak`: every work-item does `count` times CHAINS multiply-adds of VW lanes, acc = acc * a + b; with
// |a| < 1 they stay finite. The sum is stored so that none can be left out. 2 * VW * CHAINS * count * items FLOP.
// `copy_peak` copies and `read_peak` sums x; SPAN vectors of TYPE a work-item. On CPUs (BLOCKED 1) they are
// neighbours; on GPUs neighbouring items read neighbouring vectors. `read_peak` stores one vector an item.

#define ACC_0(OP) OP(0) OP(1) OP(2) OP(3)
#define ACC_1(OP) OP(4) OP(5) OP(6) OP(7)
#define ACC_2(OP) OP(8) OP(9) OP(10) OP(11)
#if CHAINS == 4
#define EACH(OP) ACC_0(OP)
#elif CHAINS == 8
#define EACH(OP) ACC_0(OP) ACC_1(OP)
#else
#define EACH(OP) ACC_0(OP) ACC_1(OP) ACC_2(OP)
#endif
#define START(i) TYPE acc##i = (TYPE)(b + i);
#define STEP(i) acc##i = acc##i * scale + shift;
#define ADD(i) +acc##i

__kernel void fma_peak(__global TYPE* y, const float a, const float b, const int count) {
  const TYPE scale = (TYPE)(a), shift = (TYPE)(b);
  EACH(START)
  for (int i = 0; i < count; ++i) { EACH(STEP) }
  y[get_global_id(0)] = (TYPE)(0.0f) EACH(ADD);
}

#if BLOCKED
#define AT(i) (get_global_id(0) * (ulong)SPAN + (i))
#else
#define AT(i) ((i) * (ulong)get_global_size(0) + get_global_id(0))
#endif

__kernel void copy_peak(__global const TYPE* x, __global TYPE* y) {
  for (int i = 0; i < SPAN; ++i) y[AT(i)] = x[AT(i)];
}

__kernel void read_peak(__global const TYPE* x, __global TYPE* y) {
  TYPE s0 = (TYPE)(0.0f), s1 = s0, s2 = s0, s3 = s0;
  for (int i = 0; i < SPAN; i += 4) {
    s0 += x[AT(i)];
    s1 += x[AT(i + 1)];
    s2 += x[AT(i + 2)];
    s3 += x[AT(i + 3)];
  }
  y[get_global_id(0)] = s0 + s1 + s2 + s3;
}
