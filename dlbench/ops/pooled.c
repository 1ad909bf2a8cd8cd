// Convolution fused with 2x2 max pooling, and its gradients, as handlers that XLA calls.
//
// Forward, two rows of the convolution are accumulated in registers and pooled while they are in the cache. Rows of the
// kernel that lie entirely on padding are skipped.
//
// Backward, only one of the four positions of a window has a gradient, that of the maximum, and after a ReLU many of
// those are zero. A dense convolution would multiply all the zeros. Here the nonzero gradients of each output channel
// are put into a list, and each is multiplied by the one patch that it belongs to:
//
//     dk[c] += g * patch         dx patch += g * k[c]
//
// Vectors run along the output channels forward, along the input channels backward (along the output channels if there
// are few input channels). Every sum is computed in one fixed order, independent of the compiler, the width of the
// registers and the number of cores.

#include "cores.h"
#include "operands.h"
#include "vectors.h"
#include "xla/ffi/api/c_api.h"

enum {
  CHANNELS = 16,  // the number of output channels is a multiple of it, that of input channels too unless they are few
  VECTORS = 2,  // vectors of output channels in a tile, forward
  MAX_PIXELS = MANY_REGISTERS ? 14 : 6,  // pixels in a tile
  BLOCK_FLOATS = 8 * 1024,  // backward, a block is as many rows of an image as fit the first-level cache
  MAX_IMAGES = 16,  // images whose lists are stored at a time if other cores help
};

typedef struct {
  int64_t images, height, width, inputs;  // of the padded images
  int64_t outputs, pooled_height, pooled_width, side;  // of pooled images and kernel
} Shape;

// Tell the compiler the number of input channels (0: unknown). Without it, a quarter of the time goes into addresses.
INLINE Shape with_inputs(Shape s, int inputs) {
  if (inputs) s.inputs = inputs;
  return s;
}

INLINE vec blend(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }
INLINE ivec blend_int(ivec mask, ivec yes, ivec no) { return (mask & yes) | (~mask & no); }

// Forward -------------------------------------------------------------------------------------------------------------

// Compute some pixels of a row of the convolution, for some vectors of output channels, with the rows first to last - 1
// of the kernel.
INLINE void tile(const float *x, const float *kernel, float *y, int64_t first, int64_t last, int pixels, int vectors,
                 Shape s) {
  vec sums[MAX_PIXELS * VECTORS];
  UNROLL for (int n = 0; n < pixels * vectors; n++) sums[n] = (vec){0};
  for (int64_t i = first; i < last; i++) {
    const float *in = x + i * s.width * s.inputs, *weights = kernel + i * s.side * s.inputs * s.outputs;
    for (int64_t j = 0; j < s.side * s.inputs; j++, in++, weights += s.outputs) {
      vec w[VECTORS];
      UNROLL for (int v = 0; v < vectors; v++) w[v] = load(weights + v * LANES);
      UNROLL for (int p = 0; p < pixels; p++) {
        const vec value = broadcast(in[p * s.inputs]);
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
  if (MANY_REGISTERS && width % 14 == 0) TILES(MAX_PIXELS);
  if (MANY_REGISTERS && width % 12 == 0) TILES(MANY_REGISTERS ? 12 : 6);
  TILES(MANY_REGISTERS ? 8 : 6);
  TILES(2);
}

INLINE ivec exceeds(vec a, vec b, int sign) { return (sign > 0 ? a > b : a < b) | (a != a); }

// Compute the largest of a window's four values and its position, 0 to 3: the first if several are equal, a NaN if
// there is one. With sign -1, compute the smallest.
INLINE void pool(const float *upper, const float *lower, int64_t next, int sign, vec *value, ivec *position) {
  const vec a = load(upper), b = load(upper + next), c = load(lower), d = load(lower + next);
  const ivec right = exceeds(b, a, sign), right_below = exceeds(d, c, sign);
  const vec above = blend(right, b, a), below = blend(right_below, d, c);
  const ivec down = exceeds(below, above, sign);
  *value = blend(down, below, above);
  *position = blend_int(down, 2 - right_below, -right);
}

typedef struct {
  const float *x, *kernel, *bias;
  int64_t top, bottom;  // the first row of an image that is not padding, and the first of the padding below
  float *values[2];     // the largest values, and the smallest if there are two extremes
  int8_t *positions[2];
  int extremes;
  float *workspace;  // two rows of the convolution for each image
  Shape s;
} Forward;

INLINE void convolve(const Forward *f, int64_t image, int inputs, int vectors) {
  const Shape s = with_inputs(f->s, inputs);
  const int64_t block = vectors * LANES, row = 2 * s.pooled_width * block;
  const float *x = f->x + image * s.height * s.width * s.inputs;
  float *rows = f->workspace + image * 2 * row;
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
            ivec position;
            pool(upper, upper + row, block, e ? -1 : 1, &value, &position);
            store(f->values[e] + to, value + load(f->bias + c + v));
            const bytes small = __builtin_convertvector(position, bytes);
            memcpy(f->positions[e] + to, &small, sizeof small);
          }
    }
}

static void convolve_wide(void *context, int64_t image) { convolve(context, image, 0, VECTORS); }
static void convolve_narrow(void *context, int64_t image) { convolve(context, image, 0, 1); }
static void convolve_narrow_1(void *context, int64_t image) { convolve(context, image, 1, 1); }

// Backward, many input channels ---------------------------------------------------------------------------------------

typedef struct {  // the nonzero gradients of one output channel in one block
  int32_t *start;  // offset of the patch in the image
  float *gradient;
  int count;
} List;

// Do something for each vector of a patch, or of the same part of a kernel: `at` points to it, `tap` numbers it. The
// patch starts at `line` and has so many lines, which are so many floats apart.
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
      const vec g = broadcast(list.gradient[n]);
      line = (float *)x + list.start[n] + top * row;
      EACH(lines, row, sums[tap] += g * load(at))
    }
    line = dk + top * side * s.inputs;
    EACH(lines, side * s.inputs, store(at, sums[tap]))
  }
}

// All lines at once on every processor: line by line, the sums would be computed in another order.
INLINE void add_to_images(float *dx, const float *kernel, List list, int side, int vectors, Shape s) {
  vec weights[50];
  float *line = (float *)kernel;
  EACH(side, side * s.inputs, weights[tap] = load(at))
  for (int n = 0; n < list.count; n++) {
    const vec g = broadcast(list.gradient[n]);
    line = dx + list.start[n];
    EACH(side, s.width * s.inputs, store(at, load(at) + g * weights[tap]))
  }
}

// Distance between consecutive windows of a list: at least a row and three columns, so that their patches do not
// overlap (adding to a value that was just stored waits for the store), and coprime to the number of windows, which is
// positive.
INLINE int64_t stride(int64_t windows, int64_t width) {
  for (int64_t step = width + 3;; step++) {
    int64_t a = step, b = windows;
    for (int64_t rest; b; a = b, b = rest) rest = a % b;
    if (a == 1) return step % windows;
  }
}

// List the nonzero gradients of one output channel in one block; return how many there are.
INLINE int fill(List list, const int8_t *argmax, const float *g, const int32_t *corners, int64_t windows, int64_t step,
                Shape s) {
  const int32_t shifts[4] = {0, s.inputs, s.width * s.inputs, (s.width + 1) * s.inputs};
  int count = 0;
  for (int64_t n = 0, at = 0; n < windows; n++, at += at + step < windows ? step : step - windows) {
    uint32_t bits;
    memcpy(&bits, g + at * s.outputs, 4);
    list.start[count] = corners[at] + shifts[argmax[at * s.outputs] & 3];
    list.gradient[count] = g[at * s.outputs];
    count += bits << 1 != 0;  // without a branch: half of them would be mispredicted
  }
  return count;
}

typedef struct {
  const float *x, *kernel, *g;
  const int8_t *argmax;
  float *dx, *dk;
  int64_t first, images;  // the images in progress
  int64_t groups;         // of output channels, each of which is a part of the kernel gradient's task
  int32_t *corners;       // offsets of the windows in an image
  int32_t *counts, *starts;
  float *values;
  Shape s;
} Backward;

INLINE int64_t rows_of_block(int64_t y, int side, Shape s) {
  const int64_t fitting = (BLOCK_FLOATS / (s.width * s.inputs) - side + 1) / 2, most = fitting > 0 ? fitting : 1;
  return y + most < s.pooled_height ? most : s.pooled_height - y;
}

// The list of an output channel, for the block of an image (counted from the first in progress) that begins at row y.
INLINE List list_of(const Backward *b, int64_t image, int64_t y, int64_t windows, int64_t c) {
  const Shape s = b->s;
  const int64_t at = (image * s.pooled_height + y) * s.pooled_width * s.outputs + c * windows;
  return (List){b->starts + at, b->values + at, b->counts[(image * s.pooled_height + y) * s.outputs + c]};
}

// List the gradients of an image's windows, and compute the gradient of the image.
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
          fill(list_of(b, image, y, windows, c), b->argmax + at + c, b->g + at + c, b->corners + y * s.pooled_width,
               windows, step, s);
    for (int64_t c = 0; c < s.outputs; c++)
      for (int64_t from = 0; from < s.inputs; from += LANES * vectors)
        add_to_images(dx + from, b->kernel + c * taps + from, list_of(b, image, y, windows, c), side, vectors, s);
  }
}

// Add the contribution of the images in progress to the gradient of one group of the kernel's output channels.
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
  static void kernel_##name(void *context, int64_t part) {                                                             \
    kernel_gradients(context, part, side, inputs, vectors, rows);                                                      \
  }
BACKWARD(five, 5, 0, MANY_REGISTERS ? 1 : 2, MANY_REGISTERS ? 5 : 1)
BACKWARD(five_16, 5, 16, MANY_REGISTERS ? 1 : 2, MANY_REGISTERS ? 5 : 1)
BACKWARD(three, 3, 0, 1, 3)
BACKWARD(three_16, 3, 16, 1, 3)
BACKWARD(three_32, 3, 32, MANY_REGISTERS ? 2 : 1, 3)

// Compute both gradients for a few images at a time, so that their lists stay in the cache: for one if no core helps.
static void gradients(Backward *b, Task *image, Task *kernel) {
  const int64_t helpers = helper_threads(), at_once = helpers ? MAX_IMAGES : 1;
  b->groups = helpers ? 2 * (helpers + 1) : 1;
  for (int64_t at = 0; at < b->s.pooled_height * b->s.pooled_width; at++)
    b->corners[at] = 2 * (at / b->s.pooled_width * b->s.width + at % b->s.pooled_width) * b->s.inputs;
  for (b->first = 0; b->first < b->s.images; b->first += at_once) {
    b->images = b->first + at_once < b->s.images ? at_once : b->s.images - b->first;
    run_parts(image, b, b->images);
    run_parts(kernel, b, b->groups);
  }
}

// Backward, few input channels: the kernel's gradient -----------------------------------------------------------------

INLINE void kernel_gradient(const float *x, const int8_t *argmax, const float *g, float *dk, int side, int inputs,
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
        memcpy(&small, argmax + n * s.outputs + c, sizeof small);
        const ivec won = __builtin_convertvector(small, ivec);
        const vec gradient = load(g + n * s.outputs + c);
        for (int place = 0; place < 4; place++) {
          const float *patch = x + ((line + place / 2) * s.width + 2 * window + place % 2) * inputs;
          const vec here = blend(won == place, gradient, (vec){0});
          UNROLL for (int i = 0; i < rows; i++, patch += s.width * inputs)
            UNROLL for (int j = 0; j < side * inputs; j++) sums[i * side * inputs + j] += here * broadcast(patch[j]);
        }
      }
      UNROLL for (int n = 0; n < taps; n++) store(dk + (top * side * inputs + n) * s.outputs + c, sums[n]);
    }
}

// Sizes ---------------------------------------------------------------------------------------------------------------

// Whether images with so many channels have a gradient handler of their own, dlbench_conv_pool_kernel_gradient.
int dlbench_conv_pool_few_channels(int64_t inputs) { return inputs == 1 || inputs == 3; }

// Whether there is code for a kernel of these sizes.
int dlbench_conv_pool_supports(int64_t height, int64_t width, int64_t inputs, int64_t outputs) {
  return height == width && (height == 3 || height == 5) && outputs > 0 && outputs % CHANNELS == 0 &&
         (dlbench_conv_pool_few_channels(inputs) || (inputs > 0 && inputs % CHANNELS == 0));
}

// Floats that dlbench_conv_pool needs as a workspace: two rows of the convolution for each image.
int64_t dlbench_conv_pool_workspace(int64_t images, int64_t pooled_width, int64_t outputs) {
  return images * 4 * pooled_width * outputs;
}

// 32-bit words that dlbench_conv_pool_gradients needs as a workspace: the windows' offsets and the images' lists.
int64_t dlbench_conv_pool_gradients_workspace(int64_t images, int64_t pooled_height, int64_t pooled_width,
                                              int64_t outputs) {
  const int64_t windows = pooled_height * pooled_width, stored = images < MAX_IMAGES ? images : MAX_IMAGES;
  return windows + stored * (pooled_height + 2 * windows) * outputs;
}

// Check the sizes of images and kernel, and that no offset overflows; return them, with those of the pooled images.
static XLA_FFI_Error *check_shape(const XLA_FFI_CallFrame *call, const char *handler, const int64_t *images,
                                  int64_t side, int64_t side_2, int64_t inputs, int64_t outputs, Shape *shape) {
  typedef long long ll;
  if (!dlbench_conv_pool_supports(side, side_2, inputs, outputs))
    return invalid_argument(call, handler,
                            "no code for a kernel of %lld x %lld with %lld input and %lld output channels: it must be "
                            "3 x 3 or 5 x 5, have 1, 3 or a multiple of %d input channels, and a multiple of %d output "
                            "channels",
                            (ll)side, (ll)side_2, (ll)inputs, (ll)outputs, CHANNELS, CHANNELS);
  const int64_t count = images[0], height = images[1], width = images[2];
  if (height < side || width < side)
    return invalid_argument(call, handler, "images of %lld x %lld are smaller than the kernel of %lld x %lld",
                            (ll)height, (ll)width, (ll)side, (ll)side);
  const int64_t pooled_height = (height - side + 1) / 2, pooled_width = (width - side + 1) / 2;
  // Offsets in an image are 32-bit. With its pooled size rounded up, this bounds the workspaces too.
  if (!product_within(INT32_MAX, height, width, inputs, 1) || !product_within(INT32_MAX, side, side, inputs, outputs) ||
      !product_within(INT32_MAX, pooled_height + 1, pooled_width + 1, outputs, 1) ||
      !product_within(INT64_MAX / 64, height, width, inputs, count) ||
      !product_within(INT64_MAX / 64, pooled_height + 1, pooled_width + 1, outputs, count))
    return invalid_argument(call, handler, "%lld images of %lld x %lld x %lld with %lld output channels are too large",
                            (ll)count, (ll)height, (ll)width, (ll)inputs, (ll)outputs);
  *shape = (Shape){count, height, width, inputs, outputs, pooled_height, pooled_width, side};
  return NULL;
}

// What XLA calls ------------------------------------------------------------------------------------------------------

#define DIMS(kind, number) (operand(call, kind, number)->dims)
#define DATA(kind, number) (operand(call, kind, number)->data)
#define REQUIRE_POOLED(kind, number, name, dtype) \
  REQUIRE_ARRAY(kind, number, name, dtype, s.images, s.pooled_height, s.pooled_width, s.outputs)

// Arguments: padded images [N, H, W, C_in]; kernel [side, side, C_in, C_out]; bias [C_out]; int32 [2], the first row of
// an image that is not padding and the first row of the padding below. Results: the largest value of each window
// [N, h, w, C_out] and its position int8; the same for the smallest if there are five results; the workspace.
XLA_FFI_Error *dlbench_conv_pool(XLA_FFI_CallFrame *call) {
  if (asks_for_version(call)) return NULL;
  REQUIRE(check_counts(call, __func__, 4, call->rets.size == 5 ? 5 : 3));
  const int extremes = call->rets.size == 5 ? 2 : 1, smallest = 2 * (extremes - 1);
  Shape s;
  REQUIRE_ARRAY(ARGUMENT, 0, "images", F32, ANY, ANY, ANY, ANY);
  REQUIRE_ARRAY(ARGUMENT, 1, "kernel", F32, ANY, ANY, DIMS(ARGUMENT, 0)[3], ANY);
  const int64_t *kernel = DIMS(ARGUMENT, 1);
  REQUIRE(check_shape(call, __func__, DIMS(ARGUMENT, 0), kernel[0], kernel[1], kernel[2], kernel[3], &s));
  REQUIRE_ARRAY(ARGUMENT, 2, "bias", F32, s.outputs);
  REQUIRE_ARRAY(ARGUMENT, 3, "rows", S32, 2);
  REQUIRE_POOLED(RESULT, 0, "largest values", F32);
  REQUIRE_POOLED(RESULT, 1, "their positions", S8);
  REQUIRE_POOLED(RESULT, smallest, "smallest values", F32);
  REQUIRE_POOLED(RESULT, smallest + 1, "their positions", S8);
  REQUIRE_ARRAY(RESULT, 2 * extremes, "workspace", F32,
                dlbench_conv_pool_workspace(s.images, s.pooled_width, s.outputs));
  const int32_t *rows = DATA(ARGUMENT, 3);
  if (rows[0] < 0 || rows[0] > rows[1] || rows[1] > s.height)
    return invalid_argument(call, __func__, "argument 3 (rows) must be ordered and within 0 and %lld, found %d and %d",
                            (long long)s.height, rows[0], rows[1]);
  Forward f = {.x = DATA(ARGUMENT, 0), .kernel = DATA(ARGUMENT, 1), .bias = DATA(ARGUMENT, 2), .s = s};
  f.top = rows[0], f.bottom = rows[1], f.extremes = extremes, f.workspace = DATA(RESULT, 2 * extremes);
  f.values[0] = DATA(RESULT, 0), f.positions[0] = DATA(RESULT, 1);
  f.values[1] = DATA(RESULT, smallest), f.positions[1] = DATA(RESULT, smallest + 1);
  Task *narrow = s.inputs == 1 ? convolve_narrow_1 : convolve_narrow;
  run_parts(s.outputs % (VECTORS * LANES) ? narrow : convolve_wide, &f, s.images);
  return NULL;
}

// Arguments: padded images [N, H, W, C_in]; kernel [C_out, side, side, C_in]; positions of the largest values, int8,
// and gradients, [N, h, w, C_out] each. Results: the gradients of images and kernel; the workspace. Not for few
// channels.
XLA_FFI_Error *dlbench_conv_pool_gradients(XLA_FFI_CallFrame *call) {
  if (asks_for_version(call)) return NULL;
  REQUIRE(check_counts(call, __func__, 4, 3));
  Shape s;
  REQUIRE_ARRAY(ARGUMENT, 0, "images", F32, ANY, ANY, ANY, ANY);
  REQUIRE_ARRAY(ARGUMENT, 1, "kernel", F32, ANY, ANY, ANY, DIMS(ARGUMENT, 0)[3]);
  const int64_t *kernel = DIMS(ARGUMENT, 1);
  REQUIRE(check_shape(call, __func__, DIMS(ARGUMENT, 0), kernel[1], kernel[2], kernel[3], kernel[0], &s));
  if (dlbench_conv_pool_few_channels(s.inputs))
    return invalid_argument(call, __func__, "argument 0 (images) must have a multiple of %d channels, found %lld",
                            CHANNELS, (long long)s.inputs);
  REQUIRE_POOLED(ARGUMENT, 2, "positions", S8);
  REQUIRE_POOLED(ARGUMENT, 3, "gradients", F32);
  REQUIRE_ARRAY(RESULT, 0, "gradient of the images", F32, s.images, s.height, s.width, s.inputs);
  REQUIRE_ARRAY(RESULT, 1, "gradient of the kernel", F32, s.outputs, s.side, s.side, s.inputs);
  REQUIRE_ARRAY(RESULT, 2, "workspace", S32,
                dlbench_conv_pool_gradients_workspace(s.images, s.pooled_height, s.pooled_width, s.outputs));
  Backward b = {.x = DATA(ARGUMENT, 0), .kernel = DATA(ARGUMENT, 1), .argmax = DATA(ARGUMENT, 2), .s = s};
  b.g = DATA(ARGUMENT, 3), b.dx = DATA(RESULT, 0), b.dk = DATA(RESULT, 1);
  const int64_t windows = s.pooled_height * s.pooled_width, stored = s.images < MAX_IMAGES ? s.images : MAX_IMAGES;
  memset(b.dx, 0, s.images * s.height * s.width * s.inputs * sizeof(float));
  memset(b.dk, 0, s.outputs * s.side * s.side * s.inputs * sizeof(float));
  if (!windows) return NULL;
  b.corners = DATA(RESULT, 2);
  b.counts = b.corners + windows;
  b.starts = b.counts + stored * s.pooled_height * s.outputs;
  b.values = (float *)(b.starts + stored * windows * s.outputs);
#define GRADIENTS(name) gradients(&b, images_##name, kernel_##name)
  if (s.side == 5)
    s.inputs == 16 ? GRADIENTS(five_16) : GRADIENTS(five);
  else
    s.inputs == 16 ? GRADIENTS(three_16) : s.inputs == 32 ? GRADIENTS(three_32) : GRADIENTS(three);
  return NULL;
}

// Arguments: padded images [N, H, W, C_in]; positions of the largest values, int8, and gradients, [N, h, w, C_out]
// each. Result: the gradient of the kernel [side, side, C_in, C_out]. Only for few channels.
XLA_FFI_Error *dlbench_conv_pool_kernel_gradient(XLA_FFI_CallFrame *call) {
  if (asks_for_version(call)) return NULL;
  REQUIRE(check_counts(call, __func__, 3, 1));
  Shape s;
  REQUIRE_ARRAY(ARGUMENT, 0, "images", F32, ANY, ANY, ANY, ANY);
  REQUIRE_ARRAY(RESULT, 0, "gradient of the kernel", F32, ANY, ANY, DIMS(ARGUMENT, 0)[3], ANY);
  const int64_t *kernel = DIMS(RESULT, 0);
  REQUIRE(check_shape(call, __func__, DIMS(ARGUMENT, 0), kernel[0], kernel[1], kernel[2], kernel[3], &s));
  if (!dlbench_conv_pool_few_channels(s.inputs))
    return invalid_argument(call, __func__, "argument 0 (images) must have 1 or 3 channels, found %lld",
                            (long long)s.inputs);
  REQUIRE_POOLED(ARGUMENT, 1, "positions", S8);
  REQUIRE_POOLED(ARGUMENT, 2, "gradients", F32);
#define KERNEL_GRADIENT(side, inputs, rows) \
  kernel_gradient(DATA(ARGUMENT, 0), DATA(ARGUMENT, 1), DATA(ARGUMENT, 2), DATA(RESULT, 0), side, inputs, rows, s)
  if (s.side == 5 && s.inputs == 1)
    MANY_REGISTERS ? KERNEL_GRADIENT(5, 1, 5) : KERNEL_GRADIENT(5, 1, 1);
  else if (s.side == 5)
    KERNEL_GRADIENT(5, 3, 1);
  else if (s.inputs == 1)
    KERNEL_GRADIENT(3, 1, 3);
  else
    MANY_REGISTERS ? KERNEL_GRADIENT(3, 3, 3) : KERNEL_GRADIENT(3, 3, 1);
  return NULL;
}
