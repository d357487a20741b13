#include "core/train/feed.h"

#include "core/base/mem.h"

static int bucket_of(const sample_source *s, uint64_t i) {
    return s->n_buckets > 1 ? s->bucket(s->self, i) : 0;
}

// Lists the samples of each bucket.
static status sort_samples(feed *f, uint64_t total, error *err) {
    int n = f->order.n_buckets;
    f->count = mem_calloc((size_t)n, sizeof *f->count);
    f->order.count = f->count;
    if (!f->count) return fail(err, ERR_TEMP, "out of memory");
    if (n == 1) return f->count[0] = total, OK;
    f->of = mem_calloc((size_t)n, sizeof *f->of);
    if (!f->of) return fail(err, ERR_TEMP, "out of memory");
    for (uint64_t i = 0; i < total; i++) f->count[bucket_of(&f->source, i)]++;
    for (int b = 0; b < n; b++) {
        if (!(f->of[b] = mem_calloc(f->count[b] + 1, sizeof **f->of)))
            return fail(err, ERR_TEMP, "out of memory");
        f->count[b] = 0;
    }
    for (uint64_t i = 0; i < total; i++) {
        int b = bucket_of(&f->source, i);
        f->of[b][f->count[b]++] = i;
    }
    return OK;
}

status feed_open(feed *f, const train_context *context, bool captions, uint64_t limit, error *err) {
    *f = (feed){.context = context, .stage = &context->config->stage[context->stage]};
    status s = recipe_source(context, captions, &f->source, err);
    uint64_t total = f->source.count ? f->source.count : limit;
    f->order = (order){.seed = (uint64_t)context->config->seed + (uint64_t)context->stage,
                       .batch = (int)f->stage->batch,
                       .n_buckets = f->source.count && f->source.n_buckets > 1 ? f->source.n_buckets : 1};
    if (!s && total) s = sort_samples(f, total, err);
    if (s) feed_close(f);
    return s;
}

void feed_close(feed *f) {
    for (int b = 0; f->of && b < f->order.n_buckets; b++) mem_free(f->of[b]);
    mem_free(f->of);
    mem_free(f->count);
    source_free(&f->source);
    *f = (feed){0};
}

int feed_bucket(const feed *f, int64_t pass) {
    return f->count ? order_batch_at(&f->order, (uint64_t)pass).bucket : 0;
}

source_size feed_size(const feed *f, int bucket) { return f->stage->sizes[bucket]; }

uint64_t feed_place(const feed *f, int64_t pass, int k) {
    if (!f->count) return (uint64_t)pass * (uint64_t)f->stage->batch + (uint64_t)k;
    order_batch b = order_batch_at(&f->order, (uint64_t)pass);
    return order_sample(&f->order, &b, k);
}

uint64_t feed_at(const feed *f, int bucket, uint64_t place) { return f->of ? f->of[bucket][place] : place; }

// ---- pictures

typedef struct {
    const feed *f;
    const uint64_t *sample;
    source_size size;
    uint8_t *rgb;
    source_spots *spots;
    error *errors; // by sample; the first one is told
} drawing;

static void draw_some(void *arg, int64_t begin, int64_t end) {
    const drawing *d = arg;
    size_t bytes = (size_t)d->size.W * (size_t)d->size.H * 3;
    for (int64_t i = begin; i < end; i++)
        d->f->source.picture(d->f->source.self, d->sample[i], d->size.W, d->size.H,
                             d->rgb + (size_t)i * bytes, d->spots ? &d->spots[i] : NULL, &d->errors[i]);
}

status feed_pictures(const feed *f, const uint64_t *sample, int B, source_size size, uint8_t *rgb,
                     source_spots *spots, error *err) {
    drawing d = {f, sample, size, rgb, spots, mem_calloc((size_t)B, sizeof(error))};
    if (!d.errors) return fail(err, ERR_TEMP, "out of memory");
    parallel_for(f->context->team, B, 1, draw_some, &d);
    status s = OK;
    for (int i = 0; i < B && !s; i++)
        if ((s = d.errors[i].code) && err) *err = d.errors[i];
    mem_free(d.errors);
    return s;
}
