// Sums of products of bf16 numbers, two at a time, where a processor has an instruction for it (AVX512_BF16).
//
// PAIRS: 0 none; 1 the instruction itself, in assembly; 2 the compiler's function for it, by the name that LLVM has for
// it since its types hold bf16. pair_probe.cl says which a driver takes.
//
// dot_pairs: sum + a.low * b.low + a.high * b.high in each lane, in float, rounded after each product's addition.
// Subnormal numbers count as zeros.

#if PAIRS == 1
float16 dot_pairs(float16 sum, uint16 a, uint16 b) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}
#elif PAIRS == 2
#if __clang_major__ < 17
#error "bf16 is no type of this compiler's own"
#endif
typedef __bf16 bf16_pairs __attribute__((ext_vector_type(32)));
float16 llvm_dot_pairs(float16, bf16_pairs, bf16_pairs) __asm("llvm.x86.avx512bf16.dpbf16ps.512");
float16 dot_pairs(float16 sum, uint16 a, uint16 b) {
  return llvm_dot_pairs(sum, __builtin_bit_cast(bf16_pairs, a), __builtin_bit_cast(bf16_pairs, b));
}
#endif
