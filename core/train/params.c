#include "core/train/params.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/train/init.h"

// A tensor as each provider gives it out.
typedef struct {
    param p;
    weight average, fixed;
} entry;

struct params {
    weights training, average, fixed;
    entry **at; // graphs keep pointers into an entry, so it never moves
    size_t n, capacity;
    uint64_t seed;
    bool sealed;
};

static void entry_free(entry *e) {
    if (!e) return;
    mem_free((void *)(uintptr_t)e->p.w.name);
    mem_free(e->p.w.value);
    mem_free(e->p.m);
    mem_free(e->p.v);
    mem_free(e->p.ema);
    mem_free(e);
}

static entry *entry_new(const char *name, shape s) {
    entry *e = mem_calloc(1, sizeof *e);
    if (!e) return NULL;
    e->p.n = (size_t)shape_count(s);
    e->p.w = (weight){.name = mem_strdup(name), .shape = s, .trainable = true, .id = weight_new_id()};
    e->p.w.value = mem_calloc(e->p.n, sizeof(float));
    e->p.m = mem_calloc(e->p.n, sizeof(float));
    e->p.v = mem_calloc(e->p.n, sizeof(float));
    e->p.ema = mem_calloc(e->p.n, sizeof(float));
    e->fixed = e->p.w;
    e->fixed.trainable = false;
    e->fixed.id = weight_new_id();
    if (e->p.w.name && e->p.w.value && e->p.m && e->p.v && e->p.ema) return e;
    entry_free(e);
    return NULL;
}

static entry *entry_find(const params *p, const char *name) {
    for (size_t i = 0; i < p->n; i++)
        if (!strcmp(p->at[i]->p.w.name, name)) return p->at[i];
    return NULL;
}

static bool make_room(params *p) {
    if (p->n < p->capacity) return true;
    size_t capacity = p->capacity ? 2 * p->capacity : 64;
    entry **at = mem_realloc(p->at, capacity, sizeof *at);
    if (!at) return false;
    p->at = at;
    p->capacity = capacity;
    return true;
}

static entry *entry_make(params *p, const char *name, shape s) {
    entry *e = entry_find(p, name);
    if (e || p->sealed) return e;
    if (!make_room(p) || !(e = entry_new(name, s))) return NULL;
    init_tensor(p->seed, name, s, e->p.w.value);
    return p->at[p->n++] = e;
}

// The set that a provider belongs to.
#define SET_OF(self, member) ((params *)((uintptr_t)(self)-offsetof(params, member)))

static const weight *create_training(const weights *self, const char *name, shape s) {
    entry *e = entry_make(SET_OF(self, training), name, s);
    return e ? &e->p.w : NULL;
}

static const weight *find_training(const weights *self, const char *name) {
    entry *e = entry_find(SET_OF(self, training), name);
    return e ? &e->p.w : NULL;
}

static const weight *find_average(const weights *self, const char *name) {
    entry *e = entry_find(SET_OF(self, average), name);
    return e ? &e->average : NULL;
}

static const weight *create_fixed(const weights *self, const char *name, shape s) {
    entry *e = entry_make(SET_OF(self, fixed), name, s);
    return e ? &e->fixed : NULL;
}

static const weight *find_fixed(const weights *self, const char *name) {
    entry *e = entry_find(SET_OF(self, fixed), name);
    return e ? &e->fixed : NULL;
}

params *params_new(uint64_t seed) {
    params *p = mem_calloc(1, sizeof *p);
    if (!p) return NULL;
    p->seed = seed;
    p->training =
        (weights){.find = find_training, .create = create_training, .origin = "the trained network"};
    p->fixed = (weights){.find = find_fixed, .create = create_fixed, .origin = "the trained network"};
    p->average = (weights){.find = find_average, .origin = "the trained network's average"};
    return p;
}

void params_free(params *p) {
    if (!p) return;
    for (size_t i = 0; i < p->n; i++) entry_free(p->at[i]);
    mem_free(p->at);
    mem_free(p);
}

const weights *params_training(params *p) { return &p->training; }

const weights *params_fixed(params *p) { return &p->fixed; }

const weights *params_average(params *p) {
    for (size_t i = 0; i < p->n; i++) {
        param *q = &p->at[i]->p;
        p->at[i]->average =
            (weight){.name = q->w.name, .shape = q->w.shape, .value = q->ema, .id = weight_new_id()};
    }
    return &p->average;
}

void params_seal(params *p) {
    p->sealed = true;
    for (size_t i = 0; i < p->n; i++)
        memcpy(p->at[i]->p.ema, p->at[i]->p.w.value, p->at[i]->p.n * sizeof(float));
}

size_t params_count(const params *p) { return p->n; }
param *params_at(const params *p, size_t i) { return &p->at[i]->p; }

param *params_find(const params *p, const char *name) {
    entry *e = entry_find(p, name);
    return e ? &e->p : NULL;
}

const char *param_below(const param *p, const char *component) {
    size_t n = strlen(component);
    return !strncmp(p->w.name, component, n) && p->w.name[n] == '.' ? p->w.name + n + 1 : NULL;
}

size_t params_elements(const params *p) {
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) n += p->at[i]->p.n;
    return n;
}
