/* Files as bytes, and protobuf messages out of untrusted bytes. */
#ifndef LATHE_FRONTEND_ONNX_FILE_H
#define LATHE_FRONTEND_ONNX_FILE_H
#include <protobuf-c/protobuf-c.h>

#include "base/context.h"

typedef struct FileBytes { const uint8_t *data; size_t size; } FileBytes;

/* The whole file, read-only, until context_free: mapped when it is a regular file, else read. False after diag(). */
bool file_load(Context *cx, const char *path, FileBytes *out);

/* Parses one message whose memory is cx's arena. what names it in diagnostics ("an ONNX model"). Nesting deeper than
 * 100 messages, truncated and foreign data are reported before protobuf-c sees them. NULL after diag(). */
void *message_parse(Context *cx, Loc loc, const ProtobufCMessageDescriptor *type, const char *what, FileBytes bytes);
/* The same without a diagnostic, for trying several message types. */
void *message_try(Context *cx, const ProtobufCMessageDescriptor *type, FileBytes bytes);

#endif
