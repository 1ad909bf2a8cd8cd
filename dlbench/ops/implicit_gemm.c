// Convolutions of any stride, dilation, padding and groups, and their gradients, as handlers that XLA calls.
//
// Forward, and for the gradient of the images, a convolution is a matrix product whose left factor, the patches, is
// never written down (an implicit GEMM): a tile of the result, some pixels by some output channels, stays in registers
// while the taps of the kernel are added to it. Images are copied with their padding, a few rows at a time, so that no
// tile needs to know about edges; the kernel is copied so that a tile reads it in order. With a stride, the gradient of
// the images is one such convolution for each remainder of a position divided by the stride, with the taps that reach
// it. The gradient of the kernel is a matrix product with the pixels as the inner dimension: a tile of it stays in
// registers while the pixels of some rows are added.
//
// Every sum is computed in one fixed order, independent of the compiler, the width of the registers and the number of
// cores: what is summed at a time depends on the sizes alone.

#include <stdatomic.h>
#include <stdlib.h>

#include "cores.h"
#include "operands.h"
#include "vectors.h"

enum {
  PANEL = 32,         // output channels that are computed together
  DEPTH = 256,        // products that are summed at a time: a panel of so many rows fits the first-level cache
  PIXELS = 1024,      // pixels, at least, for which a panel of the kernel is copied
  FEW_PIXELS = 256,   // pixels, at least, that are summed at a time for the gradient of the kernel
  MANY_IMAGES = 8,  // from so many images on, pixels of one position are computed together
  MAX_TAPS = 256,
  CHANNEL_FLOATS = 32 * 1024,  // of the images of a block, about, for a depthwise convolution
  GROUP = 9,  // taps of a depthwise convolution whose gradients are computed together
};

// A tap of the kernel.
typedef struct {
  int64_t row, column;  // where it reads, relative to the first pixel of a window
  int64_t place;        // its number in the kernel
} Tap;

// What is computed: for each image, row, column and output channel of a result,
//
//     result = sum of source[row * step_y + first_row + tap.row, column * step_x + first_column + tap.column] * kernel
//
// over the taps and channels of the source. What lies outside of the source is zero.
typedef struct {
  const float *source;
  int64_t images, height, width, channels;  // of the source
  int64_t step_y, step_x, first_row, first_column, last_row, last_column;  // the last two: of the taps
  int64_t rows, columns;  // of the result
  float *result;
  int64_t image_floats, row_floats, pixel_floats;  // distances in the result
  const float *kernel;  // [taps, inputs of a group, outputs]
  int64_t groups, inputs, outputs;  // channels of a group, of source and result
  int64_t kernel_inputs, kernel_outputs;  // the last two sizes of the kernel
  int transposed;  // whether the source's channels are the kernel's outputs
  int taps_count;
  Tap taps[MAX_TAPS];
  atomic_int failed;
} Plan;

// Some images or some rows of one image, with zeros around them where a window reaches over the edge.
typedef struct {
  int64_t images, rows;   // of the result
  int64_t image, row;     // the first
  const float *pixels;    // the first pixel of the first window
  int64_t image_floats, row_floats;
} Block;

// Memory of this thread, which grows and is never returned: a few MB at most, and one thread per core.
static float *scratch(int64_t floats) {
  static _Thread_local float *memory;
  static _Thread_local int64_t size;
  if (floats > size) {
    free(memory);
    memory = NULL, size = 0;
    void *found;
    if (posix_memalign(&found, 64, floats * sizeof(float))) return NULL;
    memory = found, size = floats;
  }
  return memory;
}

// Blocks ------------------------------------------------------------------------------------------------------------

INLINE int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t at_least(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The size of blocks of at least so many pixels: several images, or some rows of one.
static void size_blocks(const Plan *p, int64_t pixels, int64_t *images, int64_t *rows) {
  const int64_t area = p->rows * p->columns;
  *images = at_most(p->images, divided_up(pixels, area));
  *rows = *images > 1 ? p->rows : at_most(p->rows, divided_up(pixels, p->columns));
}

static int64_t count_blocks(const Plan *p, int64_t images, int64_t rows) {
  return divided_up(p->images, images) * divided_up(p->rows, rows);
}

INLINE int64_t block_rows(const Plan *p, int64_t rows) { return (rows - 1) * p->step_y + p->last_row + 1; }
INLINE int64_t block_columns(const Plan *p) { return (p->columns - 1) * p->step_x + p->last_column + 1; }
static int64_t block_floats(const Plan *p, int64_t images, int64_t rows) {
  return images * block_rows(p, rows) * block_columns(p) * p->channels;
}

static Block take_block(const Plan *p, int64_t number, int64_t images, int64_t rows, float *memory) {
  const int64_t bands = divided_up(p->rows, rows);
  Block b = {.image = number / bands * images, .row = number % bands * rows};
  b.images = at_most(images, p->images - b.image), b.rows = at_most(rows, p->rows - b.row);
  const int64_t row = b.row * p->step_y + p->first_row, height = block_rows(p, b.rows), width = block_columns(p);
  const int64_t column = p->first_column, line = p->width * p->channels;
  const float *source = p->source + b.image * p->height * line;
  if (row >= 0 && row + height <= p->height && column >= 0 && column + width <= p->width) {
    b.pixels = source + row * line + column * p->channels;
    b.image_floats = p->height * line, b.row_floats = line;
    return b;
  }
  b.pixels = memory, b.row_floats = width * p->channels, b.image_floats = height * b.row_floats;
  const int64_t left = at_most(at_least(-column, 0), width), right = at_least(at_most(p->width - column, width), left);
  for (int64_t i = 0; i < b.images; i++)
    for (int64_t y = 0; y < height; y++, memory += b.row_floats) {
      if (row + y < 0 || row + y >= p->height) {
        memset(memory, 0, b.row_floats * sizeof(float));
        continue;
      }
      memset(memory, 0, left * p->channels * sizeof(float));
      memcpy(memory + left * p->channels, source + (i * p->height + row + y) * line + (column + left) * p->channels,
             (right - left) * p->channels * sizeof(float));
      memset(memory + right * p->channels, 0, (width - right) * p->channels * sizeof(float));
    }
  return b;
}

// The matrix product --------------------------------------------------------------------------------------------------

// Values of the source that lie side by side, and belong to consecutive rows of a panel.
typedef struct {
  int64_t offset, length, row;
} Run;

// Find the runs of the rows `first` to `last` - 1 of a panel, which are numbered by tap and channel, for the pixels of
// one row and column of the result. Taps that read nothing but padding are left out; with column -1, for the pixels of a
// whole row, these are only those of rows.
static int find_runs(const Plan *p, const Block *b, int64_t row, int64_t column, int64_t first, int64_t last,
                     Run *runs) {
  int count = 0;
  const int64_t top = row * p->step_y + p->first_row, left = column * p->step_x + p->first_column;
  for (int64_t k = first, length; k < last; k += length) {
    const Tap tap = p->taps[k / p->inputs];
    const int64_t from = k % p->inputs;
    length = at_most(p->inputs - from, last - k);
    if (top + tap.row < 0 || top + tap.row >= p->height) continue;
    if (column >= 0 && (left + tap.column < 0 || left + tap.column >= p->width)) continue;
    const int64_t offset = tap.row * b->row_floats + tap.column * p->channels + from;
    Run *before = runs + count - 1;
    if (count && before->offset + before->length == offset && before->row + before->length == k - first)
      before->length += length;
    else
      runs[count++] = (Run){offset, length, k - first};
  }
  return count;
}

// Copy the rows `first` to `last` - 1 of a panel: `width` floats each, of which `outputs` are output channels, from
// number `output` on, and the others zero.
static void copy_panel(const Plan *p, int64_t first, int64_t last, int64_t group, int64_t output, int64_t outputs,
                       int64_t width, float *to) {
  if (outputs < width) memset(to, 0, (last - first) * width * sizeof(float));
  for (int64_t k = first; k < last;) {
    const int64_t from = k % p->inputs, length = at_most(p->inputs - from, last - k);
    const float *tap = p->kernel + p->taps[k / p->inputs].place * p->kernel_inputs * p->kernel_outputs;
    if (p->transposed) {
      const float *row = tap + output * p->kernel_outputs + group * p->inputs + from;
      for (int64_t n = 0; n < outputs; n++, row += p->kernel_outputs)
        for (int64_t i = 0; i < length; i++) to[i * width + n] = row[i];
    } else {
      const float *row = tap + from * p->kernel_outputs + group * p->outputs + output;
      for (int64_t i = 0; i < length; i++, row += p->kernel_outputs)
        memcpy(to + i * width, row, outputs * sizeof(float));
    }
    to += length * width;
    k += length;
  }
}

// Where a pixel of a block is: its window in the source, and itself in the result.
typedef struct {
  int64_t source, result;
} Place;

// Find the places of all pixels of a block, one row after the other; in a row, column by column if `by_column`, or image
// by image.
static void find_places(const Plan *p, const Block *b, int by_column, Place *places) {
  const int64_t outer = by_column ? p->columns : b->images, inner = by_column ? b->images : p->columns;
  for (int64_t y = 0; y < b->rows; y++)
    for (int64_t n = 0; n < outer; n++)
      for (int64_t m = 0; m < inner; m++) {
        const int64_t image = by_column ? m : n, x = by_column ? n : m;
        *places++ = (Place){image * b->image_floats + y * p->step_y * b->row_floats + x * p->step_x * p->channels,
                            image * p->image_floats + y * p->row_floats + x * p->pixel_floats};
      }
}

// Add products to some pixels of the result, or begin with them, for some vectors of output channels.
INLINE void tile(const float *source, const Place *places, const Run *runs, int runs_count, const float *panel,
                 int64_t width, float *result, int64_t outputs, int begins, int count, int vectors) {
  vec sums[16];
  const float *pixels[8];
  UNROLL for (int n = 0; n < count; n++) pixels[n] = source + places[n].source;
  UNROLL for (int n = 0; n < count; n++)
    UNROLL for (int v = 0; v < vectors; v++)
      sums[n * vectors + v] =
          begins ? (vec){0} : load_some(result + places[n].result + v * LANES, outputs - v * LANES);
  for (int r = 0; r < runs_count; r++) {
    const float *row = panel + runs[r].row * width;
    for (int64_t i = runs[r].offset, end = i + runs[r].length; i < end; i++, row += width) {
      vec weights[2];
      UNROLL for (int v = 0; v < vectors; v++) weights[v] = load(row + v * LANES);
      UNROLL for (int n = 0; n < count; n++) {
        const vec value = broadcast(pixels[n][i]);
        UNROLL for (int v = 0; v < vectors; v++) {
          vec *sum = sums + n * vectors + v;
          *sum = multiply_add(value, weights[v], *sum);
        }
      }
    }
  }
  UNROLL for (int n = 0; n < count; n++)
    UNROLL for (int v = 0; v < vectors; v++)
      store_some(result + places[n].result + v * LANES, sums[n * vectors + v], outputs - v * LANES);
}

// Compute some pixels for some vectors of output channels.
INLINE void tiles(const float *source, const Place *places, int64_t pixels, const Run *runs, int runs_count,
                  const float *panel, int64_t width, float *result, int64_t outputs, int begins, int vectors) {
  int64_t n = 0;
#define TILES(count)                       \
  for (; n + (count) <= pixels; n += (count)) \
  tile(source, places + n, runs, runs_count, panel, width, result, outputs, begins, count, vectors)
  if (MANY_REGISTERS) TILES(MANY_REGISTERS ? 8 : 4);
  TILES(4);
  TILES(1);
}

static void multiply_block(const Plan *p, const Block *b, Place *places, float *panel) {
  const int64_t rows = p->taps_count * p->inputs, sums = at_least(divided_up(rows, DEPTH), 1);
  const int64_t depth = divided_up(rows, sums), by_column = b->images >= MANY_IMAGES;
  const int64_t together = by_column ? b->images : b->images * p->columns, pixels = b->images * b->rows * p->columns;
  find_places(p, b, by_column, places);
  Run runs[MAX_TAPS];
  for (int64_t group = 0; group < p->groups; group++)
    for (int64_t output = 0; output < p->outputs; output += PANEL) {
      const int64_t outputs = at_most(PANEL, p->outputs - output), width = outputs > PANEL / 2 ? PANEL : PANEL / 2;
      const float *from = b->pixels + group * p->inputs;
      float *to = p->result + b->image * p->image_floats + b->row * p->row_floats + group * p->outputs + output;
      for (int64_t sum = 0; sum < sums; sum++) {
        const int64_t first = sum * depth, last = at_most(rows, first + depth);
        copy_panel(p, first, last, group, output, outputs, width, panel);
        for (int64_t at = 0; at < pixels; at += together) {
          const int64_t row = b->row + (by_column ? at / together / p->columns : at / together);
          const int64_t column = by_column ? at / together % p->columns : -1;
          const int count = find_runs(p, b, row, column, first, last, runs);
          int64_t n = 0;
          for (; n + LANES < outputs; n += 2 * LANES)
            tiles(from, places + at, together, runs, count, panel + n, width, to + n, outputs - n, !sum, 2);
          for (; n < outputs; n += LANES)
            tiles(from, places + at, together, runs, count, panel + n, width, to + n, outputs - n, !sum, 1);
        }
      }
    }
}

static void multiply(void *context, int64_t part) {
  Plan *p = context;
  int64_t images, rows;
  size_blocks(p, PIXELS, &images, &rows);
  const int64_t places = images * rows * p->columns * (sizeof(Place) / sizeof(float));
  float *memory = scratch(DEPTH * PANEL + places + block_floats(p, images, rows));
  if (!memory) {
    p->failed = 1;
    return;
  }
  const Block b = take_block(p, part, images, rows, memory + DEPTH * PANEL + places);
  multiply_block(p, &b, (Place *)(memory + DEPTH * PANEL), memory);
}

// The gradient of the kernel ------------------------------------------------------------------------------------------

typedef struct {
  Plan *plan;  // of the forward convolution, whose result is the gradient and not written
  const float *gradient;
  float *kernel;  // the gradient of the kernel [taps, inputs of a group, outputs]
  int64_t parts;
} KernelGradient;

// Add to some rows of the kernel's gradient, for some vectors of output channels, what the pixels of a block contribute.
INLINE void kernel_tile(const Plan *p, const Block *b, const float *source, const float *gradient, int64_t image_floats,
                        int64_t row_floats, int64_t pixel_floats, float *kernel, int64_t row, int64_t outputs, int count,
                        int vectors) {
  const int64_t step = p->step_x * p->channels;
  vec sums[16];
  UNROLL for (int n = 0; n < count * vectors; n++) sums[n] = (vec){0};
  for (int64_t i = 0; i < b->images; i++)
    for (int64_t y = 0; y < b->rows; y++) {
      const float *from = source + i * b->image_floats + y * p->step_y * b->row_floats;
      const float *g = gradient + i * image_floats + y * row_floats;
      for (int64_t x = 0; x < p->columns; x++, from += step, g += pixel_floats) {
        vec values[2];
        UNROLL for (int v = 0; v < vectors; v++) values[v] = load(g + v * LANES);
        UNROLL for (int n = 0; n < count; n++) {
          const vec value = broadcast(from[n]);
          UNROLL for (int v = 0; v < vectors; v++) {
            vec *sum = sums + n * vectors + v;
            *sum = multiply_add(value, values[v], *sum);
          }
        }
      }
    }
  UNROLL for (int n = 0; n < count; n++)
    UNROLL for (int v = 0; v < vectors; v++) {
      float *to = kernel + n * row + v * LANES;
      const int64_t left = outputs - v * LANES;
      store_some(to, load_some(to, left) + sums[n * vectors + v], left);
    }
}

INLINE void kernel_tiles(const Plan *p, const Block *b, const float *source, int64_t length, const float *gradient,
                         int64_t image_floats, int64_t row_floats, int64_t pixel_floats, float *kernel, int64_t outputs,
                         int vectors) {
  int64_t n = 0;
#define KERNEL_TILES(count)                                                                                       \
  for (; n + (count) <= length; n += (count))                                                                     \
  kernel_tile(p, b, source + n, gradient, image_floats, row_floats, pixel_floats, kernel + n * p->kernel_outputs, \
              p->kernel_outputs, outputs, count, vectors)
  if (MANY_REGISTERS && vectors == 1) KERNEL_TILES(MANY_REGISTERS ? 16 : 4);
  if (MANY_REGISTERS) KERNEL_TILES(MANY_REGISTERS ? 8 : 4);
  KERNEL_TILES(4);
  KERNEL_TILES(2);
  KERNEL_TILES(1);
}

// Copy the gradients of a block panel by panel, so that a tile reads them in order, with zeros where a panel is not full.
static void copy_gradients(const Plan *p, const Block *b, const float *gradient, float *to) {
  const int64_t pixels = b->rows * p->columns, all = b->images * pixels, channels = p->groups * p->outputs;
  for (int64_t i = 0; i < b->images; i++)
    for (int64_t x = 0; x < pixels; x++) {
      const float *from = gradient + (i * p->rows * p->columns + x) * channels;
      float *panel = to + (i * pixels + x) * PANEL;
      for (int64_t group = 0; group < p->groups; group++)
        for (int64_t output = 0; output < p->outputs; output += PANEL, panel += all * PANEL) {
          const int64_t outputs = at_most(PANEL, p->outputs - output);
          if (outputs == PANEL) {
            memcpy(panel, from, PANEL * sizeof(float));
          } else {
            memcpy(panel, from, outputs * sizeof(float));
            memset(panel + outputs, 0, (PANEL - outputs) * sizeof(float));
          }
          from += outputs;
        }
    }
}

// One part of the panels and taps, for all pixels.
static void add_kernel_gradient(void *context, int64_t part) {
  const KernelGradient *k = context;
  Plan *p = k->plan;
  int64_t images, rows;
  size_blocks(p, FEW_PIXELS, &images, &rows);
  const int64_t panels = divided_up(p->outputs, PANEL), channels = p->groups * p->outputs;
  const int in_order = p->groups == 1 && (channels == PANEL || channels == PANEL / 2);  // as they are
  const int64_t copied = in_order ? 0 : images * rows * p->columns * p->groups * panels * PANEL;
  float *memory = scratch(copied + block_floats(p, images, rows));
  if (!memory) {
    p->failed = 1;
    return;
  }
  const int64_t units = p->groups * panels * p->taps_count;
  const int64_t first = part * units / k->parts, last = (part + 1) * units / k->parts;
  for (int64_t number = 0; number < count_blocks(p, images, rows); number++) {
    const Block b = take_block(p, number, images, rows, memory + copied);
    const float *gradients = k->gradient + (b.image * p->rows + b.row) * p->columns * channels;
    const int64_t pixel_floats = in_order ? channels : PANEL, row_floats = p->columns * pixel_floats;
    const int64_t image_floats = (in_order ? p->rows : b.rows) * row_floats;
    if (!in_order) copy_gradients(p, &b, gradients, memory), gradients = memory;
    for (int64_t unit = first, taken; unit < last; unit += taken) {
      const int64_t panel = unit / p->taps_count, group = panel / panels, output = panel % panels * PANEL;
      const int64_t outputs = at_most(PANEL, p->outputs - output);
      const float *gradient = gradients + panel * b.images * image_floats;
      // Taps that are neighbours are computed together.
      const Tap tap = p->taps[unit % p->taps_count];
      for (taken = 1; p->groups == 1 && unit + taken < last && (unit + taken) % p->taps_count; taken++) {
        const Tap next = p->taps[(unit + taken) % p->taps_count];
        if (next.row != tap.row || next.column != tap.column + taken) break;
      }
      const float *source = b.pixels + tap.row * b.row_floats + tap.column * p->channels + group * p->inputs;
      float *to = k->kernel + tap.place * p->inputs * channels + group * p->outputs + output;
      const int64_t length = taken * p->inputs;
      int64_t n = 0;
#define ALL_TILES(vectors)                                                                                           \
  kernel_tiles(p, &b, source, length, gradient + n, image_floats, row_floats, pixel_floats, to + n, outputs - n, vectors)
      for (; n + LANES < outputs; n += 2 * LANES) ALL_TILES(2);
      for (; n < outputs; n += LANES) ALL_TILES(1);
    }
  }
}

// Depthwise: each channel has a kernel of its own ---------------------------------------------------------------------

INLINE void depthwise_tile(const Plan *p, const Block *b, const float *source, float *result, int64_t channel,
                           int64_t channels, int count) {
  vec sums[4];
  UNROLL for (int n = 0; n < count; n++) sums[n] = (vec){0};
  const int64_t step = p->step_x * p->channels;
  for (int t = 0; t < p->taps_count; t++) {
    const Tap tap = p->taps[t];
    const float *from = source + tap.row * b->row_floats + tap.column * p->channels;
    const vec weights = load_some(p->kernel + tap.place * p->channels + channel, channels);
    UNROLL for (int n = 0; n < count; n++) sums[n] = multiply_add(weights, load_some(from + n * step, channels), sums[n]);
  }
  UNROLL for (int n = 0; n < count; n++) store_some(result + n * p->pixel_floats, sums[n], channels);
}

INLINE int64_t depthwise_pixels(const Plan *p) { return at_least(CHANNEL_FLOATS / p->channels, 1); }

static void depthwise(void *context, int64_t part) {
  Plan *p = context;
  int64_t images, rows;
  size_blocks(p, depthwise_pixels(p), &images, &rows);
  float *memory = scratch(block_floats(p, images, rows));
  if (!memory) {
    p->failed = 1;
    return;
  }
  const Block b = take_block(p, part, images, rows, memory);
  for (int64_t i = 0; i < b.images; i++)
    for (int64_t y = 0; y < b.rows; y++)
      for (int64_t c = 0; c < p->channels; c += LANES) {
        const float *from = b.pixels + i * b.image_floats + y * p->step_y * b.row_floats + c;
        float *to = p->result + (b.image + i) * p->image_floats + (b.row + y) * p->row_floats + c;
        const int64_t step = p->step_x * p->channels, channels = p->channels - c;
        int64_t x = 0;
        for (; x + 4 <= p->columns; x += 4)
          depthwise_tile(p, &b, from + x * step, to + x * p->pixel_floats, c, channels, 4);
        for (; x < p->columns; x++) depthwise_tile(p, &b, from + x * step, to + x * p->pixel_floats, c, channels, 1);
      }
}

// The channels of some vectors, for all pixels.
static void depthwise_kernel_gradient(void *context, int64_t part) {
  const KernelGradient *k = context;
  Plan *p = k->plan;
  int64_t images, rows;
  size_blocks(p, depthwise_pixels(p), &images, &rows);
  float *memory = scratch(block_floats(p, images, rows));
  if (!memory) {
    p->failed = 1;
    return;
  }
  const int64_t vectors = divided_up(p->channels, LANES), step = p->step_x * p->channels;
  const int64_t first = part * vectors / k->parts * LANES, last = (part + 1) * vectors / k->parts * LANES;
  for (int64_t number = 0; number < count_blocks(p, images, rows); number++) {
    const Block b = take_block(p, number, images, rows, memory);
    for (int64_t c = first; c < last; c += LANES)
      for (int t = 0; t < p->taps_count; t += GROUP) {
        const int taps = at_most(GROUP, p->taps_count - t);
        const int64_t channels = p->channels - c;
        int64_t offsets[GROUP] = {0};
        for (int n = 0; n < taps; n++)
          offsets[n] = p->taps[t + n].row * b.row_floats + p->taps[t + n].column * p->channels;
        vec sums[GROUP];
        UNROLL for (int n = 0; n < GROUP; n++) sums[n] = (vec){0};
        for (int64_t i = 0; i < b.images; i++)
          for (int64_t y = 0; y < b.rows; y++) {
            const float *from = b.pixels + i * b.image_floats + y * p->step_y * b.row_floats + c;
            const float *g = k->gradient + (((b.image + i) * p->rows + b.row + y) * p->columns) * p->channels + c;
            for (int64_t x = 0; x < p->columns; x++, from += step, g += p->channels) {
              const vec gradient = load_some(g, channels);
              UNROLL for (int n = 0; n < GROUP; n++) 
                sums[n] = multiply_add(gradient, load_some(from + offsets[n], channels), sums[n]);
            }
          }
        for (int n = 0; n < taps; n++) {
          float *to = k->kernel + p->taps[t + n].place * p->channels + c;
          store_some(to, load_some(to, channels) + sums[n], channels);
        }
      }
  }
}

// What XLA calls ------------------------------------------------------------------------------------------------------

enum { STRIDE_Y, STRIDE_X, DILATION_Y, DILATION_X, TOP, LEFT, GROUPS, GEOMETRY };

typedef struct {
  int64_t images, height, width, inputs, rows, columns, outputs, side_y, side_x;
  int64_t stride_y, stride_x, dilation_y, dilation_x, top, left, groups;
} Shape;

// Check the sizes of images [N, H, W, C_in], results of the convolution [N, H', W', C_out] and kernel
// [kh, kw, C_in / groups, C_out] against each other and the geometry, and that no offset overflows.
static XLA_FFI_Error *check_shape(const XLA_FFI_CallFrame *call, const char *handler, const int64_t *x,
                                  const int64_t *y, const int64_t *kernel, const int32_t *geometry, Shape *shape) {
  const Shape s = {x[0],
                   x[1],
                   x[2],
                   x[3],
                   y[1],
                   y[2],
                   y[3],
                   kernel[0],
                   kernel[1],
                   geometry[STRIDE_Y],
                   geometry[STRIDE_X],
                   geometry[DILATION_Y],
                   geometry[DILATION_X],
                   geometry[TOP],
                   geometry[LEFT],
                   geometry[GROUPS]};
  const int64_t all[] = {s.images, s.height, s.width,    s.inputs,   s.rows,       s.columns,    s.outputs,
                         s.side_y, s.side_x, s.stride_y, s.stride_x, s.dilation_y, s.dilation_x, s.groups};
  for (int n = 0; n < (int)(sizeof all / sizeof *all); n++)
    if (all[n] < 1 || all[n] > 1 << 24)
      return invalid_argument(call, handler, "sizes, strides and dilations must be from 1 to %d, found %lld", 1 << 24,
                              (long long)all[n]);
  if (s.side_y * s.side_x > MAX_TAPS)
    return invalid_argument(call, handler, "no code for a kernel of %lld x %lld", (long long)s.side_y,
                            (long long)s.side_x);
  if (s.top < 0 || s.left < 0 || s.top > 1 << 24 || s.left > 1 << 24)
    return invalid_argument(call, handler, "padding must be from 0 to %d, found %lld and %lld", 1 << 24,
                            (long long)s.top, (long long)s.left);
  if (y[0] != s.images || s.inputs % s.groups || s.outputs % s.groups || kernel[2] != s.inputs / s.groups ||
      kernel[3] != s.outputs)
    return invalid_argument(call, handler, "images, kernel and groups do not belong together");
  const int64_t height = (s.rows - 1) * s.stride_y + (s.side_y - 1) * s.dilation_y + 1;
  const int64_t width = (s.columns - 1) * s.stride_x + (s.side_x - 1) * s.dilation_x + 1;
  if (!product_within(INT64_MAX / 64, s.images, s.height, s.width, s.inputs) ||
      !product_within(INT64_MAX / 64, s.images, s.rows, s.columns, s.outputs) ||
      !product_within(INT64_MAX / 64, s.images, height, width, s.inputs) ||
      !product_within(INT64_MAX / 64, s.side_y * s.side_x, kernel[2], s.outputs, 1))
    return invalid_argument(call, handler, "the images are too large");
  *shape = s;
  return NULL;
}

static void plan_forward(Plan *p, const float *x, const float *kernel, float *y, Shape s) {
  p->source = x, p->images = s.images, p->height = s.height, p->width = s.width, p->channels = s.inputs;
  p->step_y = s.stride_y, p->step_x = s.stride_x, p->first_row = -s.top, p->first_column = -s.left;
  p->rows = s.rows, p->columns = s.columns;
  p->last_row = (s.side_y - 1) * s.dilation_y, p->last_column = (s.side_x - 1) * s.dilation_x;
  p->result = y, p->pixel_floats = s.outputs, p->row_floats = s.columns * s.outputs;
  p->image_floats = s.rows * p->row_floats;
  p->kernel = kernel, p->groups = s.groups, p->inputs = s.inputs / s.groups, p->outputs = s.outputs / s.groups;
  p->kernel_inputs = p->inputs, p->kernel_outputs = s.outputs, p->transposed = 0;
  p->taps_count = 0;
  for (int64_t i = 0; i < s.side_y; i++)
    for (int64_t j = 0; j < s.side_x; j++)
      p->taps[p->taps_count++] = (Tap){i * s.dilation_y, j * s.dilation_x, i * s.side_x + j};
  p->failed = 0;
}

INLINE int is_depthwise(Shape s) { return s.inputs == s.groups && s.outputs == s.groups && s.groups > 1; }

static XLA_FFI_Error *out_of_memory(const XLA_FFI_CallFrame *call, const char *handler) {
  return invalid_argument(call, handler, "there is not enough memory");
}

static int run_plan(Plan *p, int is_depthwise) {
  int64_t images, rows;
  size_blocks(p, is_depthwise ? depthwise_pixels(p) : PIXELS, &images, &rows);
  run_parts(is_depthwise ? depthwise : multiply, p, count_blocks(p, images, rows));
  return p->failed;
}

// Along one axis, the taps that reach positions with a remainder, and where they read. A position of the padded images
// is remainder + stride * n; tap t reads the gradient at n - (t * dilation - remainder) / stride.
typedef struct {
  int64_t first, count;  // the first n that is no padding, and how many there are
  int64_t offset;        // where the last tap reads, relative to n
  int64_t span;          // how much further the first tap reads
} Phase;

static Phase phase_of(int64_t remainder, int64_t stride, int64_t dilation, int64_t taps, int64_t before, int64_t size) {
  Phase f = {.first = before > remainder ? divided_up(before - remainder, stride) : 0};
  const int64_t end = before + size - 1 - remainder;
  f.count = end < 0 ? 0 : at_least(end / stride - f.first + 1, 0);
  int64_t least = 0, most = 0, found = 0;
  for (int64_t t = 0; t < taps; t++)
    if ((t * dilation - remainder) % stride == 0) {
      most = (t * dilation - remainder) / stride;
      if (!found++) least = most;
    }
  f.offset = -most, f.span = most - least;
  return f;
}

#define DIMS(kind, number) (operand(call, kind, number)->dims)
#define DATA(kind, number) (operand(call, kind, number)->data)
#define REQUIRE_OPERANDS(first, second)                                 \
  REQUIRE(check_counts(call, __func__, 3, 1));                          \
  REQUIRE_ARRAY(ARGUMENT, 0, first, F32, ANY, ANY, ANY, ANY);           \
  REQUIRE_ARRAY(ARGUMENT, 1, second, F32, ANY, ANY, ANY, ANY);          \
  REQUIRE_ARRAY(ARGUMENT, 2, "geometry", S32, GEOMETRY);                \
  REQUIRE_ARRAY(RESULT, 0, "result", F32, ANY, ANY, ANY, ANY)

// Arguments: images [N, H, W, C_in]; kernel [kh, kw, C_in / groups, C_out]; geometry int32 [7]: strides, dilations,
// padding above and on the left, groups. Result: [N, H', W', C_out].
XLA_FFI_Error *dlbench_convolution(XLA_FFI_CallFrame *call) {
  if (asks_for_version(call)) return NULL;
  REQUIRE_OPERANDS("images", "kernel");
  Shape s;
  REQUIRE(check_shape(call, __func__, DIMS(ARGUMENT, 0), DIMS(RESULT, 0), DIMS(ARGUMENT, 1), DATA(ARGUMENT, 2), &s));
  Plan plan;
  plan_forward(&plan, DATA(ARGUMENT, 0), DATA(ARGUMENT, 1), DATA(RESULT, 0), s);
  return run_plan(&plan, is_depthwise(s)) ? out_of_memory(call, __func__) : NULL;
}

// Arguments: gradient of the result [N, H', W', C_out]; kernel and geometry as above. Result: gradient of the images.
XLA_FFI_Error *dlbench_convolution_images_gradient(XLA_FFI_CallFrame *call) {
  if (asks_for_version(call)) return NULL;
  REQUIRE_OPERANDS("gradient", "kernel");
  Shape s;
  REQUIRE(check_shape(call, __func__, DIMS(RESULT, 0), DIMS(ARGUMENT, 0), DIMS(ARGUMENT, 1), DATA(ARGUMENT, 2), &s));
  for (int64_t a = 0; a < s.stride_y; a++)
    for (int64_t b = 0; b < s.stride_x; b++) {
      const Phase y = phase_of(a, s.stride_y, s.dilation_y, s.side_y, s.top, s.height);
      const Phase x = phase_of(b, s.stride_x, s.dilation_x, s.side_x, s.left, s.width);
      if (!y.count || !x.count) continue;
      Plan p;
      plan_forward(&p, DATA(ARGUMENT, 0), DATA(ARGUMENT, 1), DATA(RESULT, 0), s);
      p.height = s.rows, p.width = s.columns, p.channels = s.outputs, p.step_y = p.step_x = 1;
      p.first_row = y.first + y.offset, p.first_column = x.first + x.offset;
      p.last_row = y.span, p.last_column = x.span, p.rows = y.count, p.columns = x.count;
      p.pixel_floats = s.stride_x * s.inputs, p.row_floats = s.stride_y * s.width * s.inputs;
      p.image_floats = s.height * s.width * s.inputs;
      p.result += ((a + s.stride_y * y.first - s.top) * s.width + b + s.stride_x * x.first - s.left) * s.inputs;
      p.inputs = s.outputs / s.groups, p.outputs = s.inputs / s.groups, p.transposed = 1;
      p.taps_count = 0;
      for (int64_t i = s.side_y - 1; i >= 0; i--)
        for (int64_t j = s.side_x - 1; j >= 0; j--) {
          const int64_t row = i * s.dilation_y - a, column = j * s.dilation_x - b;
          if (row % s.stride_y == 0 && column % s.stride_x == 0)
            p.taps[p.taps_count++] =
                (Tap){-row / s.stride_y - y.offset, -column / s.stride_x - x.offset, i * s.side_x + j};
        }
      if (run_plan(&p, is_depthwise(s))) return out_of_memory(call, __func__);
    }
  return NULL;
}

// Arguments: images; gradient of the result; geometry as above. Result: gradient of the kernel.
XLA_FFI_Error *dlbench_convolution_kernel_gradient(XLA_FFI_CallFrame *call) {
  if (asks_for_version(call)) return NULL;
  REQUIRE_OPERANDS("images", "gradient");
  Shape s;
  REQUIRE(check_shape(call, __func__, DIMS(ARGUMENT, 0), DIMS(ARGUMENT, 1), DIMS(RESULT, 0), DATA(ARGUMENT, 2), &s));
  Plan plan;
  plan_forward(&plan, DATA(ARGUMENT, 0), NULL, NULL, s);
  KernelGradient k = {.plan = &plan, .gradient = DATA(ARGUMENT, 1), .kernel = DATA(RESULT, 0)};
  k.parts = helper_threads() ? 2 * (helper_threads() + 1) : 1;
  memset(k.kernel, 0, s.side_y * s.side_x * s.inputs / s.groups * s.outputs * sizeof(float));
  run_parts(is_depthwise(s) ? depthwise_kernel_gradient : add_kernel_gradient, &k, k.parts);
  return plan.failed ? out_of_memory(call, __func__) : NULL;
}
