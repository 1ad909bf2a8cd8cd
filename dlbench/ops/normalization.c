// Sums over all but the last axis of an array, for batch normalisation, as handlers that XLA calls.
//
// XLA reads the array once for each sum. Here a block of rows that fits the cache gives its mean and its squared
// deviations from it, or both sums of a gradient, in one pass over memory. Blocks are combined in order (Chan, Golub and
// LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).

#include "cores.h"
#include "operands.h"
#include "vectors.h"

enum {
  BLOCK_FLOATS = 16 * 1024,
  TOGETHER = 4,   // vectors of channels that are summed together
  CHANNELS = 64,  // of a part of the task: so many floats of a row
};

typedef struct {
  const float *x, *g, *mean;
  float *result;  // [2, channels]
  int64_t rows, channels;
} Sums;

// Mean and variance of some vectors of channels, of which `left` channels exist.
INLINE void moments(const Sums *s, int64_t channel, int64_t left, int vectors) {
  const int64_t block = BLOCK_FLOATS / s->channels > 0 ? BLOCK_FLOATS / s->channels : 1;
  vec mean[TOGETHER], squares[TOGETHER];
  UNROLL for (int v = 0; v < vectors; v++) mean[v] = squares[v] = (vec){0};
  for (int64_t first = 0; first < s->rows; first += block) {
    const int64_t count = first + block < s->rows ? block : s->rows - first;
    const float *from = s->x + first * s->channels + channel;
    vec own[TOGETHER], deviations[TOGETHER];
    UNROLL for (int v = 0; v < vectors; v++) own[v] = deviations[v] = (vec){0};
    for (int64_t n = 0; n < count; n++)
      UNROLL for (int v = 0; v < vectors; v++)
        own[v] += load_some(from + n * s->channels + v * LANES, left - v * LANES);
    UNROLL for (int v = 0; v < vectors; v++) own[v] = own[v] / broadcast((float)count);
    for (int64_t n = 0; n < count; n++)
      UNROLL for (int v = 0; v < vectors; v++) {
        const vec d = load_some(from + n * s->channels + v * LANES, left - v * LANES) - own[v];
        deviations[v] = multiply_add(d, d, deviations[v]);
      }
    const float share = (float)count / (float)(first + count), weight = (float)first * share;
    UNROLL for (int v = 0; v < vectors; v++) {
      const vec d = own[v] - mean[v];
      mean[v] = multiply_add(d, broadcast(share), mean[v]);
      squares[v] = multiply_add(d * d, broadcast(weight), squares[v] + deviations[v]);
    }
  }
  UNROLL for (int v = 0; v < vectors; v++) {
    float *to = s->result + channel + v * LANES;
    store_some(to, mean[v], left - v * LANES);
    store_some(to + s->channels, squares[v] / broadcast((float)s->rows), left - v * LANES);
  }
}

// The sum of a gradient, and that of its products with the deviations of x from the mean.
INLINE void gradient_sums(const Sums *s, int64_t channel, int64_t left, int vectors) {
  const int64_t block = BLOCK_FLOATS / s->channels > 0 ? BLOCK_FLOATS / s->channels : 1;
  vec mean[TOGETHER], total[TOGETHER], products[TOGETHER];
  UNROLL for (int v = 0; v < vectors; v++) {
    mean[v] = load_some(s->mean + channel + v * LANES, left - v * LANES);
    total[v] = products[v] = (vec){0};
  }
  for (int64_t first = 0; first < s->rows; first += block) {
    const int64_t last = first + block < s->rows ? first + block : s->rows;
    vec sum[TOGETHER], product[TOGETHER];
    UNROLL for (int v = 0; v < vectors; v++) sum[v] = product[v] = (vec){0};
    for (int64_t n = first; n < last; n++)
      UNROLL for (int v = 0; v < vectors; v++) {
        const int64_t at = n * s->channels + channel + v * LANES;
        const vec g = load_some(s->g + at, left - v * LANES), x = load_some(s->x + at, left - v * LANES);
        sum[v] += g;
        product[v] = multiply_add(g, x - mean[v], product[v]);
      }
    UNROLL for (int v = 0; v < vectors; v++) total[v] += sum[v], products[v] += product[v];
  }
  UNROLL for (int v = 0; v < vectors; v++) {
    float *to = s->result + channel + v * LANES;
    store_some(to, total[v], left - v * LANES);
    store_some(to + s->channels, products[v], left - v * LANES);
  }
}

#define TASK(name)                                                                                     \
  static void all_##name(void *context, int64_t part) {                                                \
    const Sums *s = context;                                                                           \
    const int64_t end = (part + 1) * CHANNELS < s->channels ? (part + 1) * CHANNELS : s->channels;     \
    int64_t c = part * CHANNELS;                                                                       \
    for (; c + TOGETHER * LANES <= end; c += TOGETHER * LANES) name(s, c, TOGETHER * LANES, TOGETHER); \
    for (; c < end; c += LANES) name(s, c, end - c, 1);                                                \
  }
TASK(moments)
TASK(gradient_sums)

#define DIMS(kind, number) (operand(call, kind, number)->dims)
#define DATA(kind, number) (operand(call, kind, number)->data)

static XLA_FFI_Error *check_rows(const XLA_FFI_CallFrame *call, const char *handler, int64_t rows, int64_t channels) {
  if (rows > 0 && channels > 0 && product_within(INT64_MAX / 64, rows, channels, 1, 1)) return NULL;
  return invalid_argument(call, handler, "no code for %lld rows of %lld channels", (long long)rows,
                          (long long)channels);
}

// Argument: [rows, C]. Result: mean and (biased) variance [2, C].
XLA_FFI_Error *dlbench_moments(XLA_FFI_CallFrame *call) {
  if (asks_for_version(call)) return NULL;
  REQUIRE(check_counts(call, __func__, 1, 1));
  REQUIRE_ARRAY(ARGUMENT, 0, "array", F32, ANY, ANY);
  Sums s = {.x = DATA(ARGUMENT, 0), .rows = DIMS(ARGUMENT, 0)[0], .channels = DIMS(ARGUMENT, 0)[1]};
  REQUIRE(check_rows(call, __func__, s.rows, s.channels));
  REQUIRE_ARRAY(RESULT, 0, "mean and variance", F32, 2, s.channels);
  s.result = DATA(RESULT, 0);
  run_parts(all_moments, &s, (s.channels + CHANNELS - 1) / CHANNELS);
  return NULL;
}

// Arguments: gradient and array [rows, C]; mean [C]. Result: the sums of the gradient, and of its products with the
// deviations of the array from the mean [2, C].
XLA_FFI_Error *dlbench_gradient_sums(XLA_FFI_CallFrame *call) {
  if (asks_for_version(call)) return NULL;
  REQUIRE(check_counts(call, __func__, 3, 1));
  REQUIRE_ARRAY(ARGUMENT, 0, "gradient", F32, ANY, ANY);
  Sums s = {.g = DATA(ARGUMENT, 0), .rows = DIMS(ARGUMENT, 0)[0], .channels = DIMS(ARGUMENT, 0)[1]};
  REQUIRE(check_rows(call, __func__, s.rows, s.channels));
  REQUIRE_ARRAY(ARGUMENT, 1, "array", F32, s.rows, s.channels);
  REQUIRE_ARRAY(ARGUMENT, 2, "mean", F32, s.channels);
  REQUIRE_ARRAY(RESULT, 0, "sums", F32, 2, s.channels);
  s.x = DATA(ARGUMENT, 1), s.mean = DATA(ARGUMENT, 2), s.result = DATA(RESULT, 0);
  run_parts(all_gradient_sums, &s, (s.channels + CHANNELS - 1) / CHANNELS);
  return NULL;
}
