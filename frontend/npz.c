/* NumPy's .npz: a zip archive of .npy files. Members are read by the central directory, stored or (with zlib) deflated,
 * also in the 64-bit form; they are written stored. */
#include <stdio.h>
#ifdef LATHE_HAVE_ZLIB
#include <zlib.h>
#endif

#include "frontend/onnx_file.h"
#include "frontend/tensor_file.h"

#define FAIL(...) (diag(cx, SEV_ERROR, loc, __VA_ARGS__), false)

enum { STORED = 0, DEFLATED = 8 };
enum { LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22 };

static uint64_t little(const uint8_t *p, uint32_t bytes) {
    uint64_t x = 0;
    for (uint32_t i = bytes; i-- > 0;) x = x << 8 | p[i];
    return x;
}

typedef struct Member { const char *name; size_t name_size; uint32_t method; uint64_t packed, size, at; } Member;

/* The 64-bit sizes of an extra field, for those that do not fit the 32-bit fields. */
static void read_zip64(const uint8_t *extra, size_t n, Member *m) {
    while (n >= 4) {
        size_t size = (size_t)little(extra + 2, 2);
        if (size > n - 4) return;
        const uint8_t *p = extra + 4, *end = p + size;
        if (little(extra, 2) == 1) {
            uint64_t *field[] = {&m->size, &m->packed, &m->at};
            for (int i = 0; i < 3; i++) {
                if (*field[i] != 0xFFFFFFFF || end - p < 8) continue;
                *field[i] = little(p, 8);
                p += 8;
            }
        }
        extra += 4 + size;
        n -= 4 + size;
    }
}

/* The bytes of a member, unpacked. */
static bool unpack_member(Context *cx, Loc loc, FileBytes b, const Member *m, FileBytes *out) {
    if (m->at > b.size || b.size - m->at < LOCAL_BYTES || little(b.data + m->at, 4) != 0x04034B50) return FAIL("the archive is damaged");
    size_t start = (size_t)m->at + LOCAL_BYTES + (size_t)little(b.data + m->at + 26, 2) + (size_t)little(b.data + m->at + 28, 2);
    if (start > b.size || m->packed > b.size - start) return FAIL("truncated: a member ends past the end of the archive");
    if (m->method == STORED) {
        *out = (FileBytes){b.data + start, (size_t)m->packed};
        return true;
    }
    if (m->method != DEFLATED) return FAIL("compression method %u is not supported", m->method);
#ifdef LATHE_HAVE_ZLIB
    if (m->size / 1100 > m->packed) return FAIL("the archive is damaged: more bytes than deflate can hold"); /* 1032 at most */
    uint8_t *data = arena_alloc(&cx->arena, (size_t)m->size);
    z_stream z = {.next_in = (Bytef *)(uintptr_t)(b.data + start), .next_out = data};
    if (m->packed > UINT32_MAX || m->size > UINT32_MAX) return FAIL("compressed members over 4 GB are not supported");
    z.avail_in = (uInt)m->packed;
    z.avail_out = (uInt)m->size;
    bool ok = inflateInit2(&z, -MAX_WBITS) == Z_OK && inflate(&z, Z_FINISH) == Z_STREAM_END && z.avail_out == 0;
    inflateEnd(&z);
    *out = (FileBytes){data, (size_t)m->size};
    return ok ? true : FAIL("the archive is damaged: a member does not unpack");
#else
    return FAIL("the archive is compressed and this build has no zlib; numpy.savez writes it uncompressed");
#endif
}

/* The end record stands in the last 64 KiB. */
static const uint8_t *find_end(FileBytes b) {
    for (size_t back = END_BYTES; back <= b.size && back <= END_BYTES + 65535; back++)
        if (little(b.data + b.size - back, 4) == 0x06054B50) return b.data + b.size - back;
    return NULL;
}

static bool read_central(Context *cx, Loc loc, FileBytes b, uint64_t *at, Member *m) {
    if (*at > b.size || b.size - *at < CENTRAL_BYTES || little(b.data + *at, 4) != 0x02014B50) return FAIL("the archive's directory is damaged");
    const uint8_t *p = b.data + *at;
    size_t name = (size_t)little(p + 28, 2), extra = (size_t)little(p + 30, 2), comment = (size_t)little(p + 32, 2);
    if (b.size - *at - CENTRAL_BYTES < name + extra + comment) return FAIL("the archive's directory is damaged");
    *m = (Member){(const char *)p + CENTRAL_BYTES, name, (uint32_t)little(p + 10, 2), little(p + 20, 4), little(p + 24, 4), little(p + 42, 4)};
    read_zip64(p + CENTRAL_BYTES + name, extra, m);
    *at += CENTRAL_BYTES + name + extra + comment;
    return true;
}

bool npz_load(Context *cx, const char *path, uint32_t *n, HostTensor **out) {
    Loc loc = {.file = str_intern(cx, path)};
    FileBytes b, member;
    if (!file_load(cx, path, &b)) return false;
    const uint8_t *end = find_end(b);
    if (end == NULL) return FAIL("not a .npz file: it is no zip archive");
    *n = (uint32_t)little(end + 10, 2);
    *out = ARENA_ARRAY(&cx->arena, HostTensor, *n);
    uint64_t at = little(end + 16, 4);
    for (uint32_t i = 0; i < *n; i++) {
        Member m;
        if (!read_central(cx, loc, b, &at, &m) || !unpack_member(cx, loc, b, &m, &member)) return false;
        size_t size = m.name_size;
        if (size >= 4 && memcmp(m.name + size - 4, ".npy", 4) == 0) size -= 4;
        if (!npy_decode(cx, loc, member.data, member.size, &(*out)[i])) return false;
        (*out)[i].name = str_intern_n(cx, m.name, size);
    }
    return true;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */
static uint32_t crc32_of(const uint8_t *p, size_t n) {
    uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320u : 0);
    }
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < n; i++) crc = crc >> 8 ^ table[(crc ^ p[i]) & 0xFF];
    return ~crc;
}

static void put(Writer *w, uint64_t x, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; i++) {
        char c = (char)(x >> (8 * i));
        cw_text(w, &c, 1);
    }
}

/* The fields that the local and the central header share. */
static void put_member(Writer *w, uint32_t crc, size_t size, size_t name) {
    put(w, 20, 2);      /* version needed */
    put(w, 0x800, 2);   /* names are UTF-8 */
    put(w, STORED, 2);
    put(w, 0x00210000, 4); /* 1980-01-01: equal input gives equal files */
    put(w, crc, 4);
    put(w, size, 4);
    put(w, size, 4);
    put(w, name, 2);
    put(w, 0, 2);
}

bool npz_save(Context *cx, const char *path, uint32_t n, const HostTensor *t) {
    Loc loc = {.file = str_intern(cx, path)};
    const void **part = ARENA_ARRAY(&cx->scratch, const void *, 2 * n + 1);
    size_t *size = ARENA_ARRAY(&cx->scratch, size_t, 2 * n + 1);
    Writer central = {.arena = &cx->scratch};
    uint64_t at = 0;
    if (n > 65535) return FAIL("%u arrays; a .npz file holds at most 65535", n);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *data;
        size_t bytes;
        if (!npy_encode(cx, loc, &t[i], &data, &bytes)) return false;
        Writer name = {.arena = &cx->scratch}, local = {.arena = &cx->scratch};
        cw_printf(&name, "%s.npy", str_text(cx, t[i].name));
        uint32_t crc = crc32_of(data, bytes);
        if (at + bytes > UINT32_MAX - 65536) return FAIL("more than 4 GB");
        put(&local, 0x04034B50, 4);
        put_member(&local, crc, bytes, name.n);
        cw_text(&local, name.text, name.n);
        put(&central, 0x02014B50, 4);
        put(&central, 20, 2);
        put_member(&central, crc, bytes, name.n);
        put(&central, 0, 6); /* comment, disk, internal attributes */
        put(&central, 0, 4); /* external attributes */
        put(&central, at, 4);
        cw_text(&central, name.text, name.n);
        part[2 * i] = local.text, size[2 * i] = local.n;
        part[2 * i + 1] = data, size[2 * i + 1] = bytes;
        at += local.n + bytes;
    }
    size_t directory = central.n;
    put(&central, 0x06054B50, 4);
    put(&central, 0, 4);
    put(&central, n, 2);
    put(&central, n, 2);
    put(&central, directory, 4);
    put(&central, at, 4);
    put(&central, 0, 2);
    part[2 * n] = central.text, size[2 * n] = central.n;
    return file_save(cx, path, 2 * n + 1, part, size);
}
