/* Loading files and parsing protobuf messages nobody vouches for.
 *
 * protobuf-c recurses once per nested message and copies what it reads, so a scan goes first: it walks the wire format
 * by the message descriptors, bounds the nesting, and tells a cut-off file from one that never was ONNX:
 *
 *     model.onnx: error: truncated: field "graph" needs 102400 bytes, 4096 are left
 *     photo.png: error: not an ONNX model: byte 0 starts no known field */
#include "frontend/onnx_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* An open file and its mapping are given back by context_free when running out of memory cuts the loading short. */
typedef struct Mapping { void *address; size_t size; } Mapping;
typedef struct OpenFile { int fd; } OpenFile;

static void unmap(void *user) {
    const Mapping *m = user;
    if (m->address != NULL) munmap(m->address, m->size);
}

static bool map_file(Mapping *m, int fd, size_t size, FileBytes *out) {
    void *address = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) return false;
    *m = (Mapping){address, size};
    *out = (FileBytes){address, size};
    return true;
}

/* Pipes and other files without a size. */
static bool read_file(Context *cx, int fd, FileBytes *out) {
    size_t n = 0, capacity = 1 << 16;
    uint8_t *data = arena_alloc(&cx->arena, capacity);
    for (;;) {
        ssize_t got = read(fd, data + n, capacity - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return false;
        if (got == 0) break;
        n += (size_t)got;
        if (n == capacity) {
            uint8_t *grown = arena_array(&cx->arena, capacity, 2);
            memcpy(grown, data, n);
            data = grown;
            capacity *= 2;
        }
    }
    *out = (FileBytes){data, n};
    return true;
}

static void close_file(void *user) {
    OpenFile *f = user;
    if (f->fd >= 0) close(f->fd);
    f->fd = -1;
}

static bool load_open_file(Context *cx, Loc loc, int fd, Mapping *m, FileBytes *out) {
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) {
        diag(cx, SEV_ERROR, loc, "cannot open: %s", strerror(errno));
        return false;
    }
    if (S_ISDIR(info.st_mode)) {
        diag(cx, SEV_ERROR, loc, "cannot read: it is a directory");
        return false;
    }
    if (S_ISREG(info.st_mode) && info.st_size > 0 && map_file(m, fd, (size_t)info.st_size, out)) return true;
    if (read_file(cx, fd, out)) return true;
    diag(cx, SEV_ERROR, loc, "cannot read: %s", strerror(errno));
    return false;
}

bool file_load(Context *cx, const char *path, FileBytes *out) {
    Loc loc = {.file = str_intern(cx, path)};
    Mapping *m = ARENA_NEW(&cx->arena, Mapping);
    OpenFile *f = ARENA_NEW(&cx->arena, OpenFile);
    f->fd = -1;
    context_at_free(cx, unmap, m);
    context_at_free(cx, close_file, f);
    f->fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = load_open_file(cx, loc, f->fd, m, out);
    close_file(f);
    return ok;
}

/* ---- the scan --------------------------------------------------------------------------------------------------- */
enum { DEPTH_MAX = 100 };
enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

typedef enum ScanResult { SCAN_OK, SCAN_FOREIGN, SCAN_TRUNCATED, SCAN_DEEP } ScanResult;
typedef struct Scan {
    const uint8_t *start;
    size_t bad;                          /* where it stopped */
    const ProtobufCFieldDescriptor *cut; /* the top-level field that goes past the end */
    size_t need, left;
} Scan;

/* 0 bytes read: cut off or longer than ten bytes. */
static size_t read_varint(const uint8_t *p, size_t n, uint64_t *value) {
    *value = 0;
    for (size_t i = 0; i < n && i < 10; i++) {
        *value |= (uint64_t)(p[i] & 0x7F) << (7 * i);
        if ((p[i] & 0x80) == 0) return i + 1;
    }
    return 0;
}

static bool wire_fits(const ProtobufCFieldDescriptor *field, uint32_t wire) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE: case PROTOBUF_C_TYPE_STRING: case PROTOBUF_C_TYPE_BYTES: return wire == WIRE_BYTES;
    case PROTOBUF_C_TYPE_FLOAT: case PROTOBUF_C_TYPE_FIXED32: case PROTOBUF_C_TYPE_SFIXED32:
        return wire == WIRE_32 || (wire == WIRE_BYTES && field->label == PROTOBUF_C_LABEL_REPEATED);
    case PROTOBUF_C_TYPE_DOUBLE: case PROTOBUF_C_TYPE_FIXED64: case PROTOBUF_C_TYPE_SFIXED64:
        return wire == WIRE_64 || (wire == WIRE_BYTES && field->label == PROTOBUF_C_LABEL_REPEATED);
    case PROTOBUF_C_TYPE_INT32: case PROTOBUF_C_TYPE_SINT32: case PROTOBUF_C_TYPE_UINT32: case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64: case PROTOBUF_C_TYPE_UINT64: case PROTOBUF_C_TYPE_BOOL: case PROTOBUF_C_TYPE_ENUM:
        return wire == WIRE_VARINT || (wire == WIRE_BYTES && field->label == PROTOBUF_C_LABEL_REPEATED);
    }
    return false;
}

static ScanResult stop(Scan *s, const uint8_t *at, ScanResult why) {
    s->bad = (size_t)(at - s->start);
    return why;
}

static ScanResult scan_message(Scan *s, const ProtobufCMessageDescriptor *type, const uint8_t *p, size_t n, uint32_t depth) {
    if (depth > DEPTH_MAX) return stop(s, p, SCAN_DEEP);
    ScanResult cut = depth == 0 ? SCAN_TRUNCATED : SCAN_FOREIGN;
    bool first = depth == 0;
    for (const uint8_t *end = p + n; p < end; first = false) {
        uint64_t tag, size = 0;
        size_t used = read_varint(p, (size_t)(end - p), &tag);
        if (used == 0) return stop(s, p, first ? SCAN_FOREIGN : cut);
        uint32_t wire = tag & 7;
        const ProtobufCFieldDescriptor *field =
            tag >> 3 <= INT32_MAX ? protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3)) : NULL;
        if (tag >> 3 == 0 || tag >> 3 > 536870911 || (field != NULL && !wire_fits(field, wire))) return stop(s, p, SCAN_FOREIGN);
        if (first && field == NULL) return stop(s, p, SCAN_FOREIGN);
        const uint8_t *tag_at = p;
        p += used;
        switch (wire) {
        case WIRE_VARINT:
            used = read_varint(p, (size_t)(end - p), &size);
            if (used == 0) return stop(s, tag_at, cut);
            size = used;
            break;
        case WIRE_64: size = 8; break;
        case WIRE_32: size = 4; break;
        case WIRE_BYTES:
            used = read_varint(p, (size_t)(end - p), &size);
            if (used == 0) return stop(s, tag_at, cut);
            p += used;
            break;
        default: return stop(s, tag_at, SCAN_FOREIGN);
        }
        if (size > (uint64_t)(end - p)) {
            s->cut = field;
            s->need = (size_t)size;
            s->left = (size_t)(end - p);
            return stop(s, tag_at, cut);
        }
        if (wire == WIRE_BYTES && field != NULL && field->type == PROTOBUF_C_TYPE_MESSAGE) {
            ScanResult r = scan_message(s, field->descriptor, p, (size_t)size, depth + 1);
            if (r != SCAN_OK) return r;
        }
        p += size;
    }
    return SCAN_OK;
}

/* ---- parsing ---------------------------------------------------------------------------------------------------- */
static void *allocate(void *arena, size_t n) {
    return arena_alloc(arena, n);
}

static void release(void *arena, void *p) {
    (void)arena;
    (void)p;
}

static void *unpack(Context *cx, const ProtobufCMessageDescriptor *type, FileBytes b) {
    ProtobufCAllocator allocator = {allocate, release, &cx->arena};
    return protobuf_c_message_unpack(type, &allocator, b.size, b.data);
}

void *message_try(Context *cx, const ProtobufCMessageDescriptor *type, FileBytes bytes) {
    Scan s = {.start = bytes.data};
    if (scan_message(&s, type, bytes.data, bytes.size, 0) != SCAN_OK) return NULL;
    return unpack(cx, type, bytes);
}

void *message_parse(Context *cx, Loc loc, const ProtobufCMessageDescriptor *type, const char *what, FileBytes bytes) {
    if (bytes.size == 0) {
        diag(cx, SEV_ERROR, loc, "not %s: the file is empty", what);
        return NULL;
    }
    Scan s = {.start = bytes.data};
    switch (scan_message(&s, type, bytes.data, bytes.size, 0)) {
    case SCAN_OK: break;
    case SCAN_FOREIGN:
        diag(cx, SEV_ERROR, loc, "not %s: byte %zu starts no known field", what, s.bad);
        return NULL;
    case SCAN_TRUNCATED:
        if (s.cut == NULL) diag(cx, SEV_ERROR, loc, "truncated: the file ends inside a field, at byte %zu", s.bad);
        else diag(cx, SEV_ERROR, loc, "truncated: field \"%s\" needs %zu bytes, %zu are left", s.cut->name, s.need, s.left);
        return NULL;
    case SCAN_DEEP:
        diag(cx, SEV_ERROR, loc, "messages are nested more than %d deep at byte %zu", DEPTH_MAX, s.bad);
        return NULL;
    }
    void *message = unpack(cx, type, bytes);
    if (message == NULL) diag(cx, SEV_ERROR, loc, "not %s: malformed fields", what);
    return message;
}
