/* Other runtimes as contenders of `lathe bench --against`: each is a Python process of its own that has loaded the model (driver/peer.py)
 * and is stopped while it is not its turn, so that nobody's waiting threads disturb another.
 *
 *     Peers p;
 *     Exit e = peers_start(d, r, &set, &threads, &p);     // says what is not installed
 *     … peer_contender(&p.peer[i]) goes to measure() with those of lathe …
 *     const char *far = peer_difference(d, &p.peer[i], want, n);
 *     peers_end(&p); */
#ifndef LATHE_DRIVER_PEERS_H
#define LATHE_DRIVER_PEERS_H
#include <sys/types.h>

#include "driver/data.h"
#include "driver/measure.h"

typedef struct Peer {
    Driver *d;
    const char *kind;       /* ort, openvino, openvino-bf16, torch */
    const char *dir;        /* where it reads inputs and writes outputs */
    int threads;
    pid_t pid;              /* 0: not running */
    FILE *to, *from;
    const char *error;      /* what it said; NULL: all is well */
} Peer;

typedef struct Peers { const char *dir; Peer *peer; uint32_t n; } Peers;

/* Are these runtimes we know? False after driver_error. */
bool peers_named(Driver *d, const Request *r);
/* One process per runtime of r->against and number of threads. */
Exit peers_start(Driver *d, const Request *r, const DataSet *set, const Threads *threads, Peers *p);
Contender peer_contender(Peer *p);
/* How far its outputs are from ours: the largest difference over the range of each, as text. */
const char *peer_difference(Peer *p, const Tensor *ours, uint32_t n);
void peers_end(Peers *p);

#endif
