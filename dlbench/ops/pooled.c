// Convolution and 2x2 max pooling in one, and its gradients, as handlers that XLA calls.
//
// Forward, two rows of the convolution are summed in registers and pooled while they are in the cache; rows of the
// kernel that would meet nothing but padding are left out.
//
// Backward, only one of the four positions of a window, the one that won, has a gradient, and behind a ReLU that is
// zero for many. A dense convolution multiplies all the zeros. Here the gradients that are not zero are listed, channel
// by channel of the output, and each is multiplied by the one patch that it belongs to:
//
//     dk[c] += g * patch         dx patch += g * k[c]
//
// Vectors run along the channels of the output forward, of the input backward (of the output where the input has few).
// Every sum is taken in one fixed order, whatever the compiler, the width of the registers and the number of cores.

#include <stdint.h>
#include <string.h>

#include "cores.h"
#include "xla/ffi/api/c_api.h"

// Floats in a register, and whether there are 32 registers or 16.
#ifdef __AVX512F__
enum { LANES = 16, MANY = 1 };
#elif defined(__AVX__)
enum { LANES = 8, MANY = 0 };
#elif defined(__aarch64__)
enum { LANES = 4, MANY = 1 };
#else
enum { LANES = 4, MANY = 0 };
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

enum {
  VECTORS = 2,  // of output channels in a tile, forward
  WIDEST = MANY ? 14 : 6,  // its pixels
  BLOCK_FLOATS = 8 * 1024,  // backward, a block is as many rows of an image as stay in the first-level cache
  IMAGES = 16,  // whose lists are kept at a time if other cores help
};

typedef struct {
  int64_t images, height, width, inputs;  // of the padded images
  int64_t outputs, pooled_height, pooled_width, side;
} Shape;

// The number of input channels (0: any) where the compiler may know it: computing addresses takes a quarter of the time.
INLINE Shape with_inputs(Shape s, int inputs) {
  if (inputs) s.inputs = inputs;
  return s;
}

INLINE vec load(const float *from) {
  vec value;
  memcpy(&value, from, sizeof value);
  return value;
}
INLINE void store(float *to, vec value) { memcpy(to, &value, sizeof value); }
INLINE vec all(float value) { return value - (vec){0}; }
INLINE vec choose(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }
INLINE ivec choose_number(ivec mask, ivec yes, ivec no) { return (mask & yes) | (~mask & no); }

// Forward -------------------------------------------------------------------------------------------------------------

// So many pixels of a row of the convolution, for so many vectors of output channels, from some rows of the kernel.
INLINE void tile(const float *x, const float *kernel, float *y, int64_t first, int64_t last, int pixels, int vectors,
                 Shape s) {
  vec sums[WIDEST * VECTORS];
  UNROLL for (int n = 0; n < pixels * vectors; n++) sums[n] = (vec){0};
  for (int64_t i = first; i < last; i++) {
    const float *in = x + i * s.width * s.inputs, *weights = kernel + i * s.side * s.inputs * s.outputs;
    for (int64_t j = 0; j < s.side * s.inputs; j++, in++, weights += s.outputs) {
      vec w[VECTORS];
      UNROLL for (int v = 0; v < vectors; v++) w[v] = load(weights + v * LANES);
      UNROLL for (int p = 0; p < pixels; p++) {
        const vec value = all(in[p * s.inputs]);
        UNROLL for (int v = 0; v < vectors; v++) sums[p * vectors + v] += value * w[v];
      }
    }
  }
  UNROLL for (int n = 0; n < pixels * vectors; n++) store(y + n * LANES, sums[n]);
}

INLINE void convolve_row(const float *x, const float *kernel, float *y, int64_t first, int64_t last, int vectors,
                         Shape s) {
  const int64_t width = 2 * s.pooled_width;
  int64_t p = 0;
#define TILES(pixels)                          \
  for (; p + (pixels) <= width; p += (pixels)) \
  tile(x + p * s.inputs, kernel, y + p * vectors * LANES, first, last, pixels, vectors, s)
  if (MANY && width % 14 == 0) TILES(WIDEST);
  if (MANY && width % 12 == 0) TILES(MANY ? 12 : 6);
  TILES(MANY ? 8 : 6);
  TILES(2);
}

INLINE ivec beats(vec a, vec b, int sign) { return (sign > 0 ? a > b : a < b) | (a != a); }

// The largest of each window's four values, and its number; the first where several are, NaN before all. The smallest
// for sign -1.
INLINE void pool(const float *upper, const float *lower, int64_t next, int sign, vec *value, ivec *number) {
  const vec a = load(upper), b = load(upper + next), c = load(lower), d = load(lower + next);
  const ivec right = beats(b, a, sign), right_below = beats(d, c, sign);
  const vec above = choose(right, b, a), below = choose(right_below, d, c);
  const ivec down = beats(below, above, sign);
  *value = choose(down, below, above);
  *number = choose_number(down, 2 - right_below, -right);
}

typedef struct {
  const float *x, *kernel, *bias;
  int64_t top, bottom;  // the first row of an image that is not padding, and the first after them that is
  float *values[2];     // the largest, and the smallest if there are two extremes
  int8_t *numbers[2];
  int extremes;
  float *rows;  // two rows of the convolution for each image
  Shape s;
} Forward;

INLINE void convolve(const Forward *f, int64_t image, int inputs, int vectors) {
  const Shape s = with_inputs(f->s, inputs);
  const int64_t block = vectors * LANES, row = 2 * s.pooled_width * block;
  const float *x = f->x + image * s.height * s.width * s.inputs;
  float *rows = f->rows + image * 2 * row;
  for (int64_t y = 0; y < s.pooled_height; y++)
    for (int64_t c = 0; c < s.outputs; c += block) {
      for (int64_t r = 2 * y; r < 2 * y + 2; r++) {
        const int64_t first = r < f->top ? f->top - r : 0, last = r + s.side > f->bottom ? f->bottom - r : s.side;
        convolve_row(x + r * s.width * s.inputs, f->kernel + c, rows + (r & 1) * row, first, last, vectors, s);
      }
      for (int64_t w = 0; w < s.pooled_width; w++)
        for (int64_t v = 0; v < block; v += LANES)
          for (int e = 0; e < f->extremes; e++) {
            const int64_t to = ((image * s.pooled_height + y) * s.pooled_width + w) * s.outputs + c + v;
            const float *upper = rows + 2 * w * block + v;
            vec value;
            ivec number;
            pool(upper, upper + row, block, e ? -1 : 1, &value, &number);
            store(f->values[e] + to, value + load(f->bias + c + v));
            const bytes small = __builtin_convertvector(number, bytes);
            memcpy(f->numbers[e] + to, &small, sizeof small);
          }
    }
}

static void convolve_wide(void *context, int64_t image) { convolve(context, image, 0, VECTORS); }
static void convolve_narrow(void *context, int64_t image) { convolve(context, image, 0, 1); }
static void convolve_narrow_1(void *context, int64_t image) { convolve(context, image, 1, 1); }

// Backward, many input channels ---------------------------------------------------------------------------------------

typedef struct {  // the gradients that are not zero, of one output channel in one block
  int32_t *start;  // of the patch, from the start of the image
  float *gradient;
  int count;
} List;

// A patch of so many lines, or the same part of a kernel; from one line to the next it is so far.
#define EACH(lines, distance, ...)                                                \
  UNROLL for (int i = 0; i < (lines); i++, line += (distance))                    \
    UNROLL for (int j = 0; j < side * vectors; j++) {                             \
      const int tap = i * side * vectors + j;                                     \
      float *at = line + j / vectors * s.inputs + j % vectors * LANES;            \
      __VA_ARGS__;                                                                \
    }

INLINE void add_to_kernel(float *dk, const float *x, List list, int side, int vectors, int lines, Shape s) {
  const int64_t row = s.width * s.inputs;
  for (int top = 0; top < side; top += lines) {
    vec sums[32];
    float *line = dk + top * side * s.inputs;
    EACH(lines, side * s.inputs, sums[tap] = load(at))
    for (int n = 0; n < list.count; n++) {
      const vec g = all(list.gradient[n]);
      line = (float *)x + list.start[n] + top * row;
      EACH(lines, row, sums[tap] += g * load(at))
    }
    line = dk + top * side * s.inputs;
    EACH(lines, side * s.inputs, store(at, sums[tap]))
  }
}

// All lines at once, on any processor: line by line the sums would be taken in another order.
INLINE void add_to_images(float *dx, const float *kernel, List list, int side, int vectors, Shape s) {
  vec weights[50];
  float *line = (float *)kernel;
  EACH(side, side * s.inputs, weights[tap] = load(at))
  for (int n = 0; n < list.count; n++) {
    const vec g = all(list.gradient[n]);
    line = dx + list.start[n];
    EACH(side, s.width * s.inputs, store(at, load(at) + g * weights[tap]))
  }
}

// How far apart windows are that follow each other in a list: a row and three columns at least, so that their patches
// do not overlap (adding to what has just been stored waits for the store), and coprime with their number.
INLINE int64_t stride(int64_t windows, int64_t width) {
  for (int64_t step = width + 3;; step++) {
    int64_t a = step, b = windows;
    for (int64_t rest; b; a = b, b = rest) rest = a % b;
    if (a == 1) return step % windows;
  }
}

// List the gradients of one output channel in one block; returns how many are not zero.
INLINE int fill(List list, const int8_t *winner, const float *g, const int32_t *corners, int64_t windows, int64_t step,
                Shape s) {
  const int32_t shifts[4] = {0, s.inputs, s.width * s.inputs, (s.width + 1) * s.inputs};
  int count = 0;
  for (int64_t n = 0, at = 0; n < windows; n++, at += at + step < windows ? step : step - windows) {
    uint32_t bits;
    memcpy(&bits, g + at * s.outputs, 4);
    list.start[count] = corners[at] + shifts[winner[at * s.outputs]];
    list.gradient[count] = g[at * s.outputs];
    count += bits << 1 != 0;  // no branch: half of them would be mispredicted
  }
  return count;
}

typedef struct {
  const float *x, *kernel, *g;
  const int8_t *winner;
  float *dx, *dk;
  int64_t first, images, groups;  // of the images at work, and of the output channels of which each is a part of dk
  int32_t *corners, *counts, *starts;
  float *values;
  Shape s;
} Backward;

INLINE int64_t rows_of_block(int64_t y, int side, Shape s) {
  const int64_t fitting = (BLOCK_FLOATS / (s.width * s.inputs) - side + 1) / 2, most = fitting > 0 ? fitting : 1;
  return y + most < s.pooled_height ? most : s.pooled_height - y;
}

// Where the list of an output channel lies, of the block of an image (counted from the first at work) that begins at row y.
INLINE List list_of(const Backward *b, int64_t image, int64_t y, int64_t windows, int64_t c) {
  const Shape s = b->s;
  const int64_t at = (image * s.pooled_height + y) * s.pooled_width * s.outputs + c * windows;
  return (List){b->starts + at, b->values + at, b->counts[(image * s.pooled_height + y) * s.outputs + c]};
}

// List an image's gradients, and compute its own.
INLINE void image_gradient(const Backward *b, int64_t image, int side, int inputs, int vectors) {
  const Shape s = with_inputs(b->s, inputs);
  const int64_t taps = side * side * s.inputs;
  float *dx = b->dx + (b->first + image) * s.height * s.width * s.inputs;
  for (int64_t y = 0, rows; y < s.pooled_height; y += rows) {
    rows = rows_of_block(y, side, s);
    const int64_t windows = rows * s.pooled_width, step = stride(windows, s.pooled_width);
    const int64_t at = ((b->first + image) * s.pooled_height + y) * s.pooled_width * s.outputs;
    for (int64_t c = 0; c < s.outputs; c++)
      b->counts[(image * s.pooled_height + y) * s.outputs + c] =
          fill(list_of(b, image, y, windows, c), b->winner + at + c, b->g + at + c, b->corners + y * s.pooled_width,
               windows, step, s);
    for (int64_t c = 0; c < s.outputs; c++)
      for (int64_t from = 0; from < s.inputs; from += LANES * vectors)
        add_to_images(dx + from, b->kernel + c * taps + from, list_of(b, image, y, windows, c), side, vectors, s);
  }
}

// Add what the images at work give to the gradient of some output channels of the kernel.
INLINE void kernel_gradients(const Backward *b, int64_t group, int side, int inputs, int vectors, int rows_at_once) {
  const Shape s = with_inputs(b->s, inputs);
  const int64_t taps = side * side * s.inputs;
  const int64_t first = group * s.outputs / b->groups, last = (group + 1) * s.outputs / b->groups;
  for (int64_t image = 0; image < b->images; image++)
    for (int64_t y = 0, rows; y < s.pooled_height; y += rows) {
      rows = rows_of_block(y, side, s);
      for (int64_t c = first; c < last; c++)
        for (int64_t from = 0; from < s.inputs; from += LANES * vectors)
          add_to_kernel(b->dk + c * taps + from, b->x + (b->first + image) * s.height * s.width * s.inputs + from,
                        list_of(b, image, y, rows * s.pooled_width, c), side, vectors, rows_at_once, s);
    }
}

#define BACKWARD(name, side, inputs, vectors, rows)                                                                    \
  static void images_##name(void *context, int64_t part) { image_gradient(context, part, side, inputs, vectors); }     \
  static void kernel_##name(void *context, int64_t part) { kernel_gradients(context, part, side, inputs, vectors, rows); }
BACKWARD(five, 5, 0, MANY ? 1 : 2, MANY ? 5 : 1)
BACKWARD(five_16, 5, 16, MANY ? 1 : 2, MANY ? 5 : 1)
BACKWARD(three, 3, 0, 1, 3)
BACKWARD(three_16, 3, 16, 1, 3)
BACKWARD(three_32, 3, 32, MANY ? 2 : 1, 3)

// A few images after the other, so that their lists stay in the cache: one if there is no help.
static void gradients(Backward *b, Task *image, Task *kernel) {
  const int64_t helpers = atomic_load(&cores.helpers), at_once = helpers ? IMAGES : 1;
  b->groups = helpers ? 2 * (helpers + 1) : 1;
  for (int64_t at = 0; at < b->s.pooled_height * b->s.pooled_width; at++)
    b->corners[at] = 2 * (at / b->s.pooled_width * b->s.width + at % b->s.pooled_width) * b->s.inputs;
  for (b->first = 0; b->first < b->s.images; b->first += at_once) {
    b->images = b->first + at_once < b->s.images ? at_once : b->s.images - b->first;
    divide(image, b, b->images);
    divide(kernel, b, b->groups);
  }
}

// Backward, few input channels: the kernel's gradient -----------------------------------------------------------------

INLINE void kernel_gradient(const float *x, const int8_t *winner, const float *g, float *dk, int side, int inputs,
                            int rows, Shape s) {
  const int taps = rows * side * inputs;
  for (int64_t c = 0; c < s.outputs; c += LANES)
    for (int top = 0; top < side; top += rows) {
      vec sums[32];
      UNROLL for (int n = 0; n < taps; n++) sums[n] = (vec){0};
      for (int64_t n = 0; n < s.images * s.pooled_height * s.pooled_width; n++) {
        const int64_t window = n % s.pooled_width, y = n / s.pooled_width;
        const int64_t image = y / s.pooled_height, line = image * s.height + 2 * (y % s.pooled_height) + top;
        bytes small;
        memcpy(&small, winner + n * s.outputs + c, sizeof small);
        const ivec won = __builtin_convertvector(small, ivec);
        const vec gradient = load(g + n * s.outputs + c);
        for (int place = 0; place < 4; place++) {
          const float *patch = x + ((line + place / 2) * s.width + 2 * window + place % 2) * inputs;
          const vec here = choose(won == place, gradient, (vec){0});
          UNROLL for (int i = 0; i < rows; i++, patch += s.width * inputs)
            UNROLL for (int j = 0; j < side * inputs; j++) sums[i * side * inputs + j] += here * all(patch[j]);
        }
      }
      UNROLL for (int n = 0; n < taps; n++) store(dk + (top * side * inputs + n) * s.outputs + c, sums[n]);
    }
}

// What XLA calls ------------------------------------------------------------------------------------------------------

#define IN(n) (((XLA_FFI_Buffer *)call->args.args[n])->data)
#define OUT(n) (((XLA_FFI_Buffer *)call->rets.rets[n])->data)
#define DIMS(n) (((XLA_FFI_Buffer *)call->args.args[n])->dims)

// XLA asks a handler for the version of the interface that it was compiled for.
static int asked_for_version(XLA_FFI_CallFrame *call) {
  XLA_FFI_Extension_Base *extension = call->extension_start;
  if (!extension || extension->type != XLA_FFI_Extension_Metadata) return 0;
  XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)extension)->metadata;
  metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  return 1;
}

// Arguments: padded images [N, H, W, C_in], kernel [side, side, C_in, C_out], bias [C_out], the rows of an image that are
// not padding (first, last + 1) int32. Results: largest values [N, h, w, C_out] and their numbers int8, the same for the
// smallest if there are five results, and last N * 4 * w * C_out floats to work in. C_out is a multiple of 16.
XLA_FFI_Error *dlbench_conv_pool(XLA_FFI_CallFrame *call) {
  if (asked_for_version(call)) return NULL;
  const int64_t *x = DIMS(0), *kernel = DIMS(1), *pooled = ((XLA_FFI_Buffer *)call->rets.rets[0])->dims;
  const int32_t *rows = IN(3);
  const int extremes = call->rets.size / 2, smallest = 2 * (extremes - 1);
  Forward f = {.x = IN(0), .kernel = IN(1), .bias = IN(2), .top = rows[0], .bottom = rows[1]};
  f.values[0] = OUT(0), f.numbers[0] = OUT(1), f.values[1] = OUT(smallest), f.numbers[1] = OUT(smallest + 1);
  f.extremes = extremes, f.rows = OUT(2 * extremes);
  f.s = (Shape){x[0], x[1], x[2], x[3], kernel[3], pooled[1], pooled[2], kernel[0]};
  Task *narrow = f.s.inputs == 1 ? convolve_narrow_1 : convolve_narrow;
  divide(f.s.outputs % (VECTORS * LANES) ? narrow : convolve_wide, &f, f.s.images);
  return NULL;
}

// Arguments: padded images [N, H, W, C_in], kernel [C_out, side, side, C_in], winners int8 and gradients [N, h, w, C_out].
// Results: the gradients of the first two, and h * w + min(N, 16) * (h + 2 * h * w) * C_out int32 to work in. C_in is a
// multiple of 16, side is 3 or 5.
XLA_FFI_Error *dlbench_conv_pool_gradients(XLA_FFI_CallFrame *call) {
  if (asked_for_version(call)) return NULL;
  const int64_t *x = DIMS(0), *kernel = DIMS(1), *pooled = DIMS(2);
  const Shape s = {x[0], x[1], x[2], x[3], pooled[3], pooled[1], pooled[2], kernel[1]};
  const int64_t windows = s.pooled_height * s.pooled_width, images = s.images < IMAGES ? s.images : IMAGES;
  Backward b = {.x = IN(0), .kernel = IN(1), .winner = IN(2), .g = IN(3), .dx = OUT(0), .dk = OUT(1), .s = s};
  b.corners = OUT(2);
  b.counts = b.corners + windows;
  b.starts = b.counts + images * s.pooled_height * s.outputs;
  b.values = (float *)(b.starts + images * windows * s.outputs);
  memset(b.dx, 0, s.images * s.height * s.width * s.inputs * sizeof(float));
  memset(b.dk, 0, s.outputs * s.side * s.side * s.inputs * sizeof(float));
#define GRADIENTS(name) gradients(&b, images_##name, kernel_##name)
  if (s.side == 5)
    s.inputs == 16 ? GRADIENTS(five_16) : GRADIENTS(five);
  else
    s.inputs == 16 ? GRADIENTS(three_16) : s.inputs == 32 ? GRADIENTS(three_32) : GRADIENTS(three);
  return NULL;
}

// Arguments: padded images [N, H, W, C_in], winners int8 and gradients [N, h, w, C_out]. Result: the gradient of the
// kernel [side, side, C_in, C_out]. C_in is 1 or 3, side is 3 or 5.
XLA_FFI_Error *dlbench_conv_pool_kernel_gradient(XLA_FFI_CallFrame *call) {
  if (asked_for_version(call)) return NULL;
  const int64_t *x = DIMS(0), *pooled = DIMS(1), *kernel = ((XLA_FFI_Buffer *)call->rets.rets[0])->dims;
  const Shape s = {x[0], x[1], x[2], x[3], pooled[3], pooled[1], pooled[2], kernel[0]};
#define KERNEL_GRADIENT(side, inputs, rows) kernel_gradient(IN(0), IN(1), IN(2), OUT(0), side, inputs, rows, s)
  if (s.side == 5 && s.inputs == 1)
    MANY ? KERNEL_GRADIENT(5, 1, 5) : KERNEL_GRADIENT(5, 1, 1);
  else if (s.side == 5)
    KERNEL_GRADIENT(5, 3, 1);
  else if (s.inputs == 1)
    KERNEL_GRADIENT(3, 1, 3);
  else
    MANY ? KERNEL_GRADIENT(3, 3, 3) : KERNEL_GRADIENT(3, 3, 1);
  return NULL;
}
