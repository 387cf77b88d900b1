#define _GNU_SOURCE
#include <sched.h>

#include "CVectorMath.h"

#if defined(__x86_64__)
int vm_has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
int vm_has_avx512(void) { return __builtin_cpu_supports("x86-64-v4"); }
#else
int vm_has_avx2(void) { return 0; }
int vm_has_avx512(void) { return 0; }
#endif

int vm_core_count(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return CPU_COUNT(&set);
}
