// Hot loops that plain x86-64 code leaves slow are compiled several times; the loader picks the widest that runs here.
#pragma once

#if defined(CRRL_SIMD_CLONES)  // by a test, for one instruction set alone
#elif defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define CRRL_SIMD_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#define CRRL_CPU_ISAS "x86-64;x86-64-v3 (AVX2);x86-64-v4 (AVX-512)"
#else
#define CRRL_SIMD_CLONES
#define CRRL_CPU_ISAS CRRL_PROCESSOR
#endif

// For what such loops call: only inlined is it compiled for the instruction set of the clone.
#define CRRL_SIMD_INLINE __attribute__((always_inline)) inline
