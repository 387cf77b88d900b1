// Sums of products of bytes, four at a time, where a processor has an instruction for it (AVX512_VNNI).
//
// BYTES: 0 none; 1 the instruction itself, in assembly; 2 the compiler's function for it, by the name that LLVM has for
// it since its types hold bytes. byte_probe.cl says which a driver takes.
//
// dot_bytes: sum + the four products of a's bytes, which have no sign, and b's, which have one, in each lane.

#if BYTES == 1
int16 dot_bytes(int16 sum, uint16 unsigned_bytes, uint16 bytes) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(bytes));
  return sum;
}
#elif BYTES == 2
#if __clang_major__ < 23
#error "the compiler's own function has other types"
#endif
typedef char byte_quads __attribute__((ext_vector_type(64)));
int16 llvm_dot_bytes(int16, byte_quads, byte_quads) __asm("llvm.x86.avx512.vpdpbusd.512");
int16 dot_bytes(int16 sum, uint16 unsigned_bytes, uint16 bytes) {
  return llvm_dot_bytes(
      sum, __builtin_bit_cast(byte_quads, unsigned_bytes), __builtin_bit_cast(byte_quads, bytes));
}
#endif
