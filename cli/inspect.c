// calotype inspect: what files hold, and what a network's plan costs.
#include "cli/commands.h"
#include "cli/drawing.h"
#include "cli/text.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    drawing drawing;
    const char *plan;
    bool memory;
    int batch;
} options;

static const option OPTIONS[] = {
    {0, "plan", OPTION_TEXT, offsetof(options, plan), "NETWORK",
     "every kernel of unet, vae_decoder, text_encoder, ... with its time"},
    {0, "memory", OPTION_FLAG, offsetof(options, memory), NULL,
     "what a picture takes of memory, as --max-memory would have it, by the options of txt2img below"},
    {'b', "batch", OPTION_INT, offsetof(options, batch), "N",
     "of --plan, rows of the network's batch (2 for the unet, else 1); of --memory, pictures (1)", 1, 64},
    {0}};

const command_line INSPECT_LINE = {
    "inspect",
    "[PATH] [--plan NETWORK | --memory]",
    "Shows what a model, a tensor file or a picture holds. Without a path: the model.",
    NULL,
    {OPTIONS, MODEL_OPTIONS, COMMON_OPTIONS},
    1,
    DRAWING_OPTIONS};

// ---- text for people

static void print_plain(const char *text) { text_print(stdout, text); }

static const char *string_of(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static double number_of(const json_t *j, const char *key) {
    return json_number_value(json_object_get(j, key));
}

static void print_size(double n, const char *unit) {
    static const char *const PREFIX[] = {"", "k", "M", "G", "T"};
    int i = 0;
    for (; n >= 1000 && i < 4; i++) n /= 1000;
    printf(i ? "%.3g %s%s" : "%.0f %s%s", n, PREFIX[i], unit);
}

static void print_component(const json_t *c) {
    const json_t *w = json_object_get(c, "weights");
    json_t *count;
    const char *type;
    printf("  %-18s ", string_of(c, "name"));
    print_plain(string_of(c, "class"));
    if (w) {
        fputs("  ", stdout);
        print_size(number_of(w, "parameters"), "parameters, ");
        print_size(number_of(w, "bytes"), "B");
        json_object_foreach(json_object_get(w, "types"), type, count) printf(" %s", type);
    }
    putchar('\n');
}

// What a checkpoint is, by what that is known, and what is wrong with it.
static void print_detected(const json_t *j) {
    size_t i;
    json_t *f;
    json_array_foreach(json_object_get(j, "detected"), i, f) {
        printf("  %-18s ", string_of(f, "what"));
        print_plain(string_of(f, "value"));
        fputs("  (", stdout);
        print_plain(string_of(f, "because"));
        puts(")");
    }
    json_array_foreach(json_object_get(j, "problems"), i, f) {
        fputs("  problem            ", stdout);
        print_plain(json_string_value(f));
        putchar('\n');
    }
}

static void print_model(const json_t *j) {
    size_t i;
    json_t *c;
    print_plain(string_of(j, "name"));
    printf("  ");
    print_plain(string_of(j, "class"));
    printf("  (%s)\n", string_of(j, "folder"));
    print_detected(j);
    json_array_foreach(json_object_get(j, "components"), i, c) print_component(c);
}

static void print_tensor(const json_t *t) {
    size_t k;
    json_t *d;
    printf("%-5s [", string_of(t, "type"));
    json_array_foreach(json_object_get(t, "shape"), k, d)
        printf("%s%" JSON_INTEGER_FORMAT, k ? "," : "", json_integer_value(d));
    printf("]  ");
    print_plain(string_of(t, "name"));
    putchar('\n');
}

// One screen: long values are cut and long lists too, unless -v asks for all.
static void print_tensors(const json_t *j, bool all) {
    enum { SHOWN = 12, VALUE = 100 };
    json_t *list = json_object_get(j, "tensors"), *v;
    const char *key;
    size_t i, shown = 0;
    char cut[VALUE + 1];
    if (json_object_get(j, "what")) printf("%s  ", string_of(j, "what"));
    if (json_object_get(j, "base")) printf("for %s  ", string_of(j, "base"));
    if (json_object_get(j, "rank")) printf("rank %.0f  ", number_of(j, "rank"));
    printf("%zu tensors, ", json_array_size(list));
    print_size(number_of(j, "values"), "values, ");
    print_size(number_of(j, "bytes"), "B\n");
    print_detected(j);
    json_object_foreach(json_object_get(j, "metadata"), key, v) {
        if (!all && shown++ == SHOWN) break;
        snprintf(cut, sizeof cut, "%s", json_string_value(v));
        print_plain(key);
        printf(": ");
        print_plain(all ? json_string_value(v) : cut);
        putchar('\n');
    }
    json_array_foreach(list, i, v) {
        if (!all && i == SHOWN) {
            printf("... and %zu more (-v lists them)\n", json_array_size(list) - i);
            break;
        }
        print_tensor(v);
    }
}

// Which program writes its settings under this keyword.
static const char *writer_of(const char *key, const char *text) {
    static const struct {
        const char *key, *part, *program;
    } WRITERS[] = {
        {"calotype", "", "calotype"},
        {"sdcpp", "", "stable-diffusion.cpp"},
        {"invokeai_metadata", "", "InvokeAI"},
        {"invokeai_graph", "", "InvokeAI"},
        {"invokeai_workflow", "", "InvokeAI"},
        {"prompt", "class_type", "ComfyUI"},
        {"workflow", "nodes", "ComfyUI"},
        {"", "sdcpp.image.params", "stable-diffusion.cpp"},
        {"", "Version: stable-diffusion.cpp", "stable-diffusion.cpp"},
        {"", "Version: calotype", "calotype, in the words of A1111"},
        {"", "sui_image_params", "SwarmUI"},
        {"parameters", "Steps: ", "A1111"},
        {"UserComment", "Steps: ", "A1111"},
    };
    for (size_t i = 0; i < sizeof WRITERS / sizeof *WRITERS; i++)
        if ((!*WRITERS[i].key || !strcmp(key, WRITERS[i].key)) && strstr(text, WRITERS[i].part))
            return WRITERS[i].program;
    return NULL;
}

static void print_picture(const json_t *j) {
    static const char *const KINDS[] = {"", "grey", "", "RGB", "RGBA"};
    const char *key;
    json_t *v;
    printf("%.0fx%.0f %s\n", number_of(j, "width"), number_of(j, "height"),
           KINDS[(int)number_of(j, "channels")]);
    json_object_foreach(json_object_get(j, "texts"), key, v) {
        putchar('\n');
        const char *program = writer_of(key, json_string_value(v));
        print_plain(key);
        printf(program ? " (%s):\n" : ":\n", program);
        print_plain(json_string_value(v));
        putchar('\n');
    }
}

static void print_bytes(const json_t *j, const char *key, const char *what) {
    if (number_of(j, key) <= 0) return;
    print_size(number_of(j, key), "B ");
    printf("%s", what);
}

static void print_memory(const json_t *j) {
    size_t i;
    json_t *n;
    printf("%.0fx%.0f in %s\n", number_of(j, "width"), number_of(j, "height"), string_of(j, "precision"));
    json_array_foreach(json_object_get(j, "networks"), i, n) {
        bool refines = json_is_true(json_object_get(n, "refiner"));
        printf("  %s%-*s ", refines ? "refiner's " : "", refines ? 14 : 24, string_of(n, "name"));
        if (number_of(n, "tile") > 0) printf("in tiles of %.0f pixels; ", number_of(n, "tile"));
        print_bytes(n, "weights", "of weights; ");
        print_bytes(n, "winograd", "of them by Winograd's method; ");
        print_bytes(n, "largest_layer", "for the largest layer; ");
        print_bytes(n, "activations", "of activations; ");
        if (json_is_true(json_object_get(n, "in_parts"))) printf("in parts; ");
        print_bytes(n, "streamed", "of weights read in every run; ");
        print_bytes(n, "peak", "at the peak");
        putchar('\n');
    }
    print_bytes(j, "together", "when all stays in memory; ");
    print_bytes(j, "limit", "allowed; ");
    print_bytes(j, "least", "at least (--max-memory)");
    putchar('\n');
}

static int print_description(session *s, char *text) {
    if (s->options->json) {
        puts(text);
        return 0;
    }
    json_t *j = json_loads(text, 0, NULL);
    const char *kind = string_of(j, "kind");
    if (!strcmp(kind, "model"))
        print_model(j);
    else if (!strcmp(kind, "memory"))
        print_memory(j);
    else if (!strcmp(kind, "tensors"))
        print_tensors(j, s->options->verbose);
    else
        print_picture(j);
    json_decref(j);
    return 0;
}

// ---- plans

static void print_plan_json(const calo_plan_line *l) {
    printf("{\"path\":");
    print_json_string(l->path);
    printf(",\"op\":\"%s\",\"kernel\":", l->op);
    print_json_string(l->kernel);
    printf(
        ",\"rate\":\"%s\",\"shape\":\"%s\",\"type\":\"%s\",\"flops\":%.0f,\"bytes\":%.0f,\"seconds\":%.9f}\n",
        l->rate, l->shape, l->type, l->flops, l->bytes, l->seconds);
}

static void print_plan_row(const calo_plan_line *l) {
    printf("%9.3f %8.3f %8.2f  %-6s %-5s %-16s %-28s %s\n", l->seconds * 1e3, l->flops * 1e-9,
           l->bytes * 1e-6, l->rate, l->type, l->shape, l->kernel, l->path);
}

static void print_plan(const session *s, const calo_plan *p) {
    double seconds = 0, flops = 0;
    if (!s->options->json)
        printf("%9s %8s %8s  %-6s %-5s %-16s %-28s %s\n", "ms", "GFLOP", "MB", "rate", "type", "shape",
               "kernel", "path");
    for (size_t i = 0; i < calo_plan_count(p); i++) {
        const calo_plan_line *l = calo_plan_at(p, i);
        seconds += l->seconds;
        flops += l->flops;
        if (s->options->json)
            print_plan_json(l);
        else
            print_plan_row(l);
    }
    if (s->options->json) return;
    printf("%9.3f %8.3f %8s  %zu kernels, ", seconds * 1e3, flops * 1e-9, "", calo_plan_count(p));
    print_size(seconds > 0 ? flops / seconds : 0, "FLOP/s, workspace ");
    print_size((double)calo_plan_workspace(p), "B\n");
}

static int inspect_plan(session *s, const options *o) {
    calo_model *m = NULL;
    calo_plan *p = NULL;
    int batch = o->batch ? o->batch : strcmp(o->plan, "unet") ? 1 : 2;
    int code = session_model(s, &m);
    if (!code)
        code = session_end(s, calo_plan_new(m, o->plan, batch, o->drawing.width, o->drawing.height, &p));
    if (!code) print_plan(s, p);
    calo_plan_free(p);
    calo_model_free(m);
    return code;
}

// ---- the command

// Of what txt2img would draw with these options.
static int inspect_memory(session *s, options *o) {
    calo_model *m = NULL, *refiner = NULL;
    drawing_pictures pictures = {0};
    char *text = NULL, why[1024];
    int code = session_model(s, &m);
    if (!code) drawing_settle(&o->drawing, m);
    if (!code) code = session_end(s, drawing_open_refiner(s->ctx, &o->drawing, &refiner));
    calo_txt2img_request r = drawing_request(&o->drawing);
    r.refiner = refiner;
    r.count = o->batch;
    if (!code && (code = drawing_load_pictures(s->ctx, &o->drawing, &r, &pictures, why, sizeof why)))
        session_fail(s, code, "%s", why);
    if (!code) code = session_end(s, calo_inspect_request(m, &r, &text));
    if (!code) code = print_description(s, text);
    calo_free(text);
    drawing_free_pictures(&pictures);
    calo_model_free(refiner);
    calo_model_free(m);
    return code;
}

static int inspect_model(session *s) {
    calo_model *m = NULL;
    char *text = NULL;
    int code = session_model(s, &m);
    if (!code) code = session_end(s, calo_inspect_model(m, &text));
    if (!code) code = print_description(s, text);
    calo_free(text);
    calo_model_free(m);
    return code;
}

static int inspect_path(session *s, const char *path) {
    char *text = NULL;
    int code = session_end(s, calo_inspect(s->ctx, path, &text));
    if (!code) code = print_description(s, text);
    calo_free(text);
    return code;
}

int cmd_inspect(int argc, char **argv) {
    options o = {.drawing = drawing_defaults()};
    common *c = &o.drawing.common;
    session s;
    drawing_leave_open(&o.drawing);
    int n = session_options(&INSPECT_LINE, c, argc, argv);
    if (n < 0) return options_code(n);
    bool names_model = o.plan || o.memory;
    if (n && names_model) c->model = argv[0];
    int code = session_open(&s, c, CALO_PRECISION_AUTO, CALO_LOG_WARN);
    if (!code)
        code = o.plan     ? inspect_plan(&s, &o)
               : o.memory ? inspect_memory(&s, &o)
               : n        ? inspect_path(&s, argv[0])
                          : inspect_model(&s);
    session_close(&s);
    return code;
}
