#include "tests/golden_case.h"

#include "core/base/mem.h"
#include "core/files/tensor_file.h"
#include "tests/tools/genweights.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WHOLE_OUTPUT = 4096, OUTPUT_SAMPLES = 64 };

struct golden {
    weights provider;
    json_t *json;
    tensor_file *numbers;
    weight *weights;
    int n_weights;
    const weight **trained; // in the order of the rows
    int n_trained, samples;
};

static shape shape_of(const json_t *list) {
    shape s = {.rank = (int)json_array_size(list)};
    for (int i = 0; i < s.rank; i++) s.d[i] = json_integer_value(json_array_get(list, (size_t)i));
    return s;
}

static const char *text_of(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

// ---- weights

// Names without "text_model." are how transformers 5 stores a text encoder.
static const weight *find(const weights *self, const char *name) {
    const golden *c = (const golden *)self;
    const char *prefix = "text_model.",
               *bare = strncmp(name, prefix, strlen(prefix)) ? name : name + strlen(prefix);
    for (int i = 0; i < c->n_weights; i++) {
        weight *w = &c->weights[i];
        if (strcmp(w->name, name) && strcmp(w->name, bare)) continue;
        if (!w->value) {
            w->value = mem_alloc((size_t)shape_count(w->shape) * sizeof(float));
            cr_assert_not_null(w->value);
            gen_weight(w->name, w->shape.rank, w->shape.d, w->value);
        }
        return w;
    }
    return NULL;
}

static int add_weights(golden *c, const json_t *list, int at) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *pair = json_array_get(list, i);
        c->weights[at++] = (weight){.name = json_string_value(json_array_get(pair, 0)),
                                    .shape = shape_of(json_array_get(pair, 1)),
                                    .id = weight_new_id()};
    }
    return at;
}

const weights *golden_weights(golden *c, bool trainable) {
    for (int i = 0; i < c->n_trained; i++) ((weight *)(uintptr_t)c->trained[i])->trainable = trainable;
    return &c->provider;
}

// ---- files

golden *golden_open(const char *path) {
    golden *c = mem_calloc(1, sizeof *c);
    char file[256];
    error err = {0};
    snprintf(file, sizeof file, "tests/golden/%s.json", path);
    c->json = js_load(file, 1 << 24, &err);
    cr_assert_not_null(c->json, "%s", err.text);
    snprintf(file, sizeof file, "tests/golden/%s.safetensors", path);
    c->numbers = tensor_file_open(file, &err);
    cr_assert_not_null(c->numbers, "%s", err.text);
    const json_t *tensors = json_object_get(c->json, "tensors"),
                 *trained = json_object_get(c->json, "trained");
    int n = (int)json_array_size(tensors), m = (int)json_array_size(trained);
    c->weights = mem_calloc((size_t)(n + m), sizeof *c->weights);
    c->trained = mem_calloc((size_t)(n + m), sizeof *c->trained);
    add_weights(c, tensors, 0);
    c->n_weights = add_weights(c, trained, n);
    for (int i = m ? n : 0; i < c->n_weights; i++) c->trained[c->n_trained++] = &c->weights[i];
    c->samples = (int)json_integer_value(json_object_get(c->json, "samples"));
    c->provider = (weights){find, "the golden case"};
    return c;
}

void golden_close(golden *c) {
    for (int i = 0; i < c->n_weights; i++) mem_free(c->weights[i].value);
    mem_free(c->weights);
    mem_free(c->trained);
    tensor_file_close(c->numbers);
    json_decref(c->json);
    mem_free(c);
}

const json_t *golden_config(const golden *c) { return json_object_get(c->json, "config"); }

// ---- runs

static const json_t *run_of(const golden *c, int run) {
    return json_array_get(json_object_get(c->json, "runs"), (size_t)run);
}

static const json_t *tensor_of(const golden *c, int run, const char *list, int i) {
    return json_array_get(json_object_get(run_of(c, run), list), (size_t)i);
}

int golden_runs(const golden *c) { return (int)json_array_size(json_object_get(c->json, "runs")); }

golden_run golden_run_at(const golden *c, int run) {
    const json_t *r = run_of(c, run);
    return (golden_run){text_of(r, "network"), json_is_true(json_object_get(r, "gradients")),
                        (int)json_array_size(json_object_get(r, "inputs")),
                        (int)json_array_size(json_object_get(r, "outputs"))};
}

static golden_tensor describe(const json_t *t) {
    const char *type = text_of(t, "dtype");
    return (golden_tensor){text_of(t, "name"), shape_of(json_object_get(t, "shape")),
                           type && !strcmp(type, "I64"), !json_object_get(t, "values")};
}

golden_tensor golden_input(const golden *c, int run, int i) {
    return describe(tensor_of(c, run, "inputs", i));
}
golden_tensor golden_output(const golden *c, int run, int i) {
    return describe(tensor_of(c, run, "outputs", i));
}

static double *room(int64_t n) {
    double *p = mem_alloc((size_t)n * sizeof *p);
    cr_assert_not_null(p);
    return p;
}

static void uniform(const char *kind, const char *name, int64_t n, double *dst) {
    char full[256];
    snprintf(full, sizeof full, "%s:%s", kind, name);
    float *u = mem_alloc((size_t)n * sizeof *u);
    cr_assert_not_null(u);
    gen_uniform(full, n, u);
    for (int64_t i = 0; i < n; i++) dst[i] = (double)u[i];
    mem_free(u);
}

void golden_input_values(const golden *c, int run, int i, double *dst) {
    golden_tensor t = golden_input(c, run, i);
    const json_t *values = json_object_get(tensor_of(c, run, "inputs", i), "values");
    if (t.generated) uniform("input", t.name, shape_count(t.shape), dst);
    for (size_t k = 0; k < json_array_size(values); k++)
        dst[k] = json_number_value(json_array_get(values, k));
}

void golden_loss_values(const golden *c, int run, int i, double *dst) {
    golden_tensor t = golden_output(c, run, i);
    uniform("dout", t.name, shape_count(t.shape), dst);
}

// ---- rows

static int generated_inputs(const golden *c, int run) {
    int n = 0;
    for (int i = 0; i < golden_run_at(c, run).n_inputs; i++) n += golden_input(c, run, i).generated;
    return n;
}

int golden_rows(const golden *c, int run) { return c->n_trained + generated_inputs(c, run); }

static golden_tensor input_row(const golden *c, int run, int k) {
    golden_tensor t = {0};
    for (int i = 0; k >= 0; i++) {
        t = golden_input(c, run, i);
        k -= t.generated;
    }
    return t;
}

const weight *golden_row(golden *c, int run, int row, const char **input) {
    *input = NULL;
    if (row < c->n_trained) return c->trained[row];
    *input = input_row(c, run, row - c->n_trained).name;
    return NULL;
}

static int64_t row_size(const golden *c, int run, int row) {
    return shape_count(row < c->n_trained ? c->trained[row]->shape
                                          : input_row(c, run, row - c->n_trained).shape);
}

// ---- comparison

static float *numbers(const golden *c, int run, const char *what) {
    char name[128];
    snprintf(name, sizeof name, "%d.%s", run, what);
    const tensor_entry *t = tensor_file_find(c->numbers, name);
    cr_assert_not_null(t, "no golden numbers '%s'", name);
    float *p = mem_alloc((size_t)t->count * sizeof *p);
    error err = {0};
    cr_assert_eq(tensor_file_read_f32(c->numbers, t, 0, t->count, p, &err), OK, "%s", err.text);
    return p;
}

typedef struct {
    const char *name; // as in "index:NAME" and "dot:NAME"
    double norm, dot;
    const float *kept;
    int64_t n_kept;
} known;

static int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

static double distance(const double *a, int64_t n, const known *b) {
    double *u = room(n), norm = 0, dot = 0, kept = 0;
    uniform("dot", b->name, n, u);
    for (int64_t i = 0; i < n; i++) {
        norm += a[i] * a[i];
        dot += a[i] * u[i];
    }
    for (int64_t j = 0; j < b->n_kept; j++)
        kept += pow(a[gen_index(b->name, j, b->n_kept, n)] - (double)b->kept[j], 2);
    mem_free(u);
    double of_entries = sqrt((double)n / (double)b->n_kept * kept) / b->norm;
    double of_norm = fabs(sqrt(norm) - b->norm) / b->norm;
    double of_dot = sqrt(3) * fabs(dot - b->dot) / b->norm / 3; // allowed three times the tolerance
    return fmax(of_entries, fmax(of_norm, of_dot));
}

double golden_output_distance(const golden *c, int run, int i, const double *a) {
    golden_tensor t = golden_output(c, run, i);
    int64_t n = shape_count(t.shape);
    char what[128], name[128];
    snprintf(what, sizeof what, "out.%s", t.name);
    snprintf(name, sizeof name, "out:%s", t.name);
    float *norm = numbers(c, run, "out.norm"), *dot = numbers(c, run, "out.dot"),
          *kept = numbers(c, run, what);
    known b = {name, (double)norm[i], (double)dot[i], kept, n <= WHOLE_OUTPUT ? n : OUTPUT_SAMPLES};
    double d = distance(a, n, &b);
    mem_free(norm);
    mem_free(dot);
    mem_free(kept);
    return d;
}

// A vanishing gradient may be as large as rounding makes it: 1e-5 of the run's largest counts as the whole
// tolerance of 1e-4.
static double vanishing(const double *a, int64_t n, const float *norm, int rows) {
    double largest = 0, sum = 0;
    for (int i = 0; i < rows; i++) largest = fmax(largest, (double)norm[i]);
    for (int64_t i = 0; a && i < n; i++) sum += a[i] * a[i];
    return 10 * sqrt(sum) / largest;
}

double golden_row_distance(golden *c, int run, int row, const double *a) {
    int64_t n = row_size(c, run, row), first = 0;
    for (int i = 0; i < row; i++) first += at_most(row_size(c, run, i), c->samples);
    float *norm = numbers(c, run, "grad.norm"), *dot = numbers(c, run, "grad.dot"),
          *samples = numbers(c, run, "grad.samples");
    const char *input;
    const weight *w = golden_row(c, run, row, &input);
    char name[256];
    snprintf(name, sizeof name, "%s%s", w ? "" : "input:", w ? w->name : input);
    known b = {name, (double)norm[row], (double)dot[row], samples + first, at_most(n, c->samples)};
    double d = norm[row] == 0 ? vanishing(a, n, norm, golden_rows(c, run))
               : a            ? distance(a, n, &b)
                              : INFINITY;
    mem_free(norm);
    mem_free(dot);
    mem_free(samples);
    return d;
}
