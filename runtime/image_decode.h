/* ImageDecoder: finds out the format of an encoded image and decodes it. See image.h for what is promised. */
#ifndef LATHE_RUNTIME_IMAGE_DECODE_H
#define LATHE_RUNTIME_IMAGE_DECODE_H
#include "image.h"
#include "jpeg.h"
#include "jpeg2000.h"
#include "png.h"

/* Decodes n bytes into out. The scratch has `room` bytes. height, width: what the image has. */
static inline int lathe_image_decode(const uint8_t *data, int64_t n, uint8_t *out, int64_t format, int64_t max_h, int64_t max_w, int64_t fixed_h, int64_t fixed_w,
                                     uint8_t *scratch, int64_t room, int64_t *height, int64_t *width) {
    const lathe_bytes b = {data, n};
    lathe_image im = {out, scratch, room, max_h, max_w, fixed_h, fixed_w, 0, 0, format};
    const uint32_t a = lathe_number(&b, 0, 4, 1);
    int error = 6;
    if (a >> 16 == 0x424Du) error = lathe_image_bmp(&b, &im);
    else if (a >> 24 == 'P' && (a >> 16 & 255) >= '1' && (a >> 16 & 255) <= '6') error = lathe_image_pnm(&b, &im);
    else if (a == 0x49492A00u || a == 0x4D4D002Au) error = lathe_image_tiff(&b, &im);
    else if (a == 0x89504E47u) error = lathe_image_png(&b, &im);
    else if (a >> 8 == 0xFFD8FFu) error = lathe_image_jpeg(&b, &im);
    else if (a == 0x0000000Cu || a == 0xFF4FFF51u) error = lathe_image_jpeg2000(&b, &im);
    *height = error == 0 ? im.h : 0;
    *width = error == 0 ? im.w : 0;
    return error;
}

#endif
