/* A memory plan as a picture: time to the right, offsets upwards, a rectangle for every tensor in the arena, and the bytes alive
 * over time as a line in front of them. A pointer on a rectangle shows its tensor. */
#ifndef LATHE_DRIVER_PLAN_PICTURE_H
#define LATHE_DRIVER_PLAN_PICTURE_H
#include "driver/driver.h"

void plan_picture(Driver *d, Writer *w, LatheModel *m); /* an <svg> element; a sentence when the arena is empty */

#endif
