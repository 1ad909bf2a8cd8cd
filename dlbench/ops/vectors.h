// Vectors of the widest registers that the processor has.

#ifndef DLBENCH_VECTORS_H_
#define DLBENCH_VECTORS_H_

#include <stdint.h>
#include <string.h>
#ifdef __FMA__
#include <immintrin.h>
#endif

// Floats in a register, and whether there are 32 registers or 16.
#ifdef __AVX512F__
enum { LANES = 16, MANY_REGISTERS = 1 };
#elif defined(__AVX__)
enum { LANES = 8, MANY_REGISTERS = 0 };
#elif defined(__aarch64__)
enum { LANES = 4, MANY_REGISTERS = 1 };
#else
enum { LANES = 4, MANY_REGISTERS = 0 };
#endif
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef int8_t bytes __attribute__((vector_size(LANES)));
#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

INLINE vec load(const float *from) {
  vec value;
  memcpy(&value, from, sizeof value);
  return value;
}
INLINE void store(float *to, vec value) { memcpy(to, &value, sizeof value); }

// Load or store the first floats of a vector; others are 0, or left alone.
INLINE vec load_some(const float *from, int64_t floats) {
  if (floats >= LANES) return load(from);
  vec value = {0};
  memcpy(&value, from, (floats & (LANES - 1)) * sizeof(float));
  return value;
}
INLINE void store_some(float *to, vec value, int64_t floats) {
  if (floats >= LANES)
    store(to, value);
  else
    memcpy(to, &value, (floats & (LANES - 1)) * sizeof(float));
}

INLINE vec broadcast(float value) { return value - (vec){0}; }

// Compute a * b + c, rounded once. Compilers do not always contract what is written with two operators.
INLINE vec multiply_add(vec a, vec b, vec c) {
#if defined(__AVX512F__)
  return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX__) && defined(__FMA__)
  return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

#endif
