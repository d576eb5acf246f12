/* Where the time of a call goes: every kernel call timed by itself, by code that is compiled for it (LatheOptions.profile). All threads meet
 * before and behind each kernel then, so the whole takes a little longer than without. */
#ifndef LATHE_DRIVER_PROFILE_H
#define LATHE_DRIVER_PROFILE_H
#include "driver/data.h"
#include "driver/machine.h"
#include "driver/text.h"

typedef struct ProfileStep {
    const char *kernel, *what, *choice_key; /* as LathePlanStep has them */
    double flops, bytes;   /* of all its calls in one run */
    double seconds;        /* of all its calls in one run: the least of all runs */
    uint32_t calls;        /* in one run */
} ProfileStep;

typedef struct ProfileEvent { uint32_t step; double begin, end; } ProfileEvent; /* seconds from the start of the run */

typedef struct Profile {
    const char *name;
    int threads;
    ProfileStep *step;
    uint32_t n, runs;
    double seconds;        /* the fastest run */
    VEC(ProfileEvent) events; /* of that run */
    Machine machine;
} Profile;

/* Runs a program that was made with Variant.profile, as often as the request says, or for about `enough` seconds; p has name and threads. */
Exit profile_record(Driver *d, const Request *r, Program *program, const DataSet *set, double enough, Profile *p);
Exit profile_make(Driver *d, const Request *r, const Variant *v, const DataSet *set, const Sizes *sizes, int threads, Profile *p);
Table profile_table(Driver *d, const Profile *p);
const char *profile_summary(Driver *d, const Profile *p);
void profile_json(Writer *w, const Profile *p); /* an object */
/* The fastest run for chrome://tracing and Perfetto. */
bool profile_trace(Driver *d, const char *path, const Profile *p);

#endif
