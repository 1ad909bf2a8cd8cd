// Checks of the operands that XLA passes to a handler, and the errors that the handler returns when one fails.

#ifndef DLBENCH_OPERANDS_H_
#define DLBENCH_OPERANDS_H_

#include <stdint.h>

#include "xla/ffi/api/c_api.h"

enum { ANY = -1 };  // size that is not checked
typedef enum { ARGUMENT, RESULT } OperandKind;

// Return from a handler with the error of a check, if there is one.
#define REQUIRE(check)                  \
  do {                                  \
    XLA_FFI_Error *error_ = (check);    \
    if (error_) return error_;          \
  } while (0)

// Require that an operand is an array of this type and these sizes. Uses the variable `call` of the handler.
#define REQUIRE_ARRAY(kind, number, name, dtype, ...)                                                           \
  REQUIRE(check_array(call, __func__, kind, number, name, XLA_FFI_DataType_##dtype, (int64_t[]){__VA_ARGS__}, \
                      sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))

#pragma GCC visibility push(hidden)

// Answer XLA when it asks for the version of the interface that a handler was compiled for; returns whether it does.
int asks_for_version(XLA_FFI_CallFrame *call);

// The operand of this number, which has been checked.
const XLA_FFI_Buffer *operand(const XLA_FFI_CallFrame *call, OperandKind kind, int64_t number);

// Error INVALID_ARGUMENT with a message that begins with the name of the handler.
__attribute__((format(printf, 3, 4))) XLA_FFI_Error *invalid_argument(const XLA_FFI_CallFrame *call,
                                                                      const char *handler, const char *format, ...);

// Check the number of arguments and results, and that there are no attributes.
XLA_FFI_Error *check_counts(const XLA_FFI_CallFrame *call, const char *handler, int64_t arguments, int64_t results);

// Check the data type, the rank and the sizes of an operand.
XLA_FFI_Error *check_array(const XLA_FFI_CallFrame *call, const char *handler, OperandKind kind, int64_t number,
                           const char *name, XLA_FFI_DataType dtype, const int64_t *sizes, int64_t rank);

// Whether a product of four sizes is at most the limit; never overflows.
int product_within(int64_t limit, int64_t a, int64_t b, int64_t c, int64_t d);

#pragma GCC visibility pop

#endif
