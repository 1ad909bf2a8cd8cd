// See operands.h.

#include "operands.h"

#include <stdarg.h>
#include <stdio.h>

enum { MESSAGE_BYTES = 512, ARRAY_BYTES = 160 };

int asks_for_version(XLA_FFI_CallFrame *call) {
  // Every extension begins with an extension_base; the name of its type differs between versions of jaxlib.
  XLA_FFI_Metadata_Extension *extension = (XLA_FFI_Metadata_Extension *)call->extension_start;
  if (!extension || extension->extension_base.type != XLA_FFI_Extension_Metadata) return 0;
  extension->metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  extension->metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  return 1;
}

const XLA_FFI_Buffer *operand(const XLA_FFI_CallFrame *call, OperandKind kind, int64_t number) {
  return kind == ARGUMENT ? call->args.args[number] : call->rets.rets[number];
}

XLA_FFI_Error *invalid_argument(const XLA_FFI_CallFrame *call, const char *handler, const char *format, ...) {
  char message[MESSAGE_BYTES];
  const int length = snprintf(message, sizeof message, "%s: ", handler);
  va_list values;
  va_start(values, format);
  vsnprintf(message + length, sizeof message - length, format, values);
  va_end(values);
  XLA_FFI_Error_Create_Args error = {.struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE,
                                     .message = message,
                                     .errc = XLA_FFI_Error_Code_INVALID_ARGUMENT};
  return call->api->XLA_FFI_Error_Create(&error);
}

XLA_FFI_Error *check_counts(const XLA_FFI_CallFrame *call, const char *handler, int64_t arguments, int64_t results) {
  if (call->args.size == arguments && call->rets.size == results && call->attrs.size == 0) return NULL;
  return invalid_argument(call, handler,
                          "expected %lld arguments, %lld results and no attributes, found %lld, %lld and %lld",
                          (long long)arguments, (long long)results, (long long)call->args.size,
                          (long long)call->rets.size, (long long)call->attrs.size);
}

static const char *name_of(XLA_FFI_DataType dtype) {
  switch (dtype) {
    case XLA_FFI_DataType_PRED: return "bool";
    case XLA_FFI_DataType_S8: return "int8";
    case XLA_FFI_DataType_S16: return "int16";
    case XLA_FFI_DataType_S32: return "int32";
    case XLA_FFI_DataType_S64: return "int64";
    case XLA_FFI_DataType_U8: return "uint8";
    case XLA_FFI_DataType_U16: return "uint16";
    case XLA_FFI_DataType_U32: return "uint32";
    case XLA_FFI_DataType_U64: return "uint64";
    case XLA_FFI_DataType_F16: return "float16";
    case XLA_FFI_DataType_BF16: return "bfloat16";
    case XLA_FFI_DataType_F32: return "float32";
    case XLA_FFI_DataType_F64: return "float64";
    default: return "another type";
  }
}

// Write a type and sizes as jax does, float32[2,28,28,1]; what does not fit is cut off.
static void write_array(char *text, XLA_FFI_DataType dtype, const int64_t *sizes, int64_t rank) {
  int length = snprintf(text, ARRAY_BYTES, "%s[", name_of(dtype));
  for (int64_t n = 0; n < rank && length < ARRAY_BYTES; n++) {
    const char *comma = n ? "," : "";
    length += sizes[n] == ANY
                  ? snprintf(text + length, ARRAY_BYTES - length, "%s?", comma)
                  : snprintf(text + length, ARRAY_BYTES - length, "%s%lld", comma, (long long)sizes[n]);
  }
  if (length < ARRAY_BYTES) snprintf(text + length, ARRAY_BYTES - length, "]");
}

XLA_FFI_Error *check_array(const XLA_FFI_CallFrame *call, const char *handler, OperandKind kind, int64_t number,
                           const char *name, XLA_FFI_DataType dtype, const int64_t *sizes, int64_t rank) {
  const int is_array = kind == ARGUMENT ? call->args.types[number] == XLA_FFI_ArgType_BUFFER
                                        : call->rets.types[number] == XLA_FFI_RetType_BUFFER;
  const char *kind_name = kind == ARGUMENT ? "argument" : "result";
  if (!is_array) return invalid_argument(call, handler, "%s %lld (%s) is no array", kind_name, (long long)number, name);
  const XLA_FFI_Buffer *array = operand(call, kind, number);
  int same = array->dtype == dtype && array->rank == rank;
  for (int64_t n = 0; same && n < rank; n++) same = sizes[n] == ANY || sizes[n] == array->dims[n];
  if (same) return NULL;
  char expected[ARRAY_BYTES], found[ARRAY_BYTES];
  write_array(expected, dtype, sizes, rank);
  write_array(found, array->dtype, array->dims, array->rank);
  return invalid_argument(call, handler, "%s %lld (%s) must be %s, found %s", kind_name, (long long)number, name,
                          expected, found);
}

int product_within(int64_t limit, int64_t a, int64_t b, int64_t c, int64_t d) {
  int64_t product;
  return !__builtin_mul_overflow(a, b, &product) && !__builtin_mul_overflow(product, c, &product) &&
         !__builtin_mul_overflow(product, d, &product) && product <= limit;
}
