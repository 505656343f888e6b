/* Which of the levels this processor has. */

#include <stdint.h>

/* 0: what every processor of this kind has. On x86-64 also 1: AVX2, and 2: AVX-512, as far as the system keeps their
 * registers. The numbers are places in build.LEVELS. */
int64_t highest_level(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2"))
        return 1;
#endif
    return 0;
}
