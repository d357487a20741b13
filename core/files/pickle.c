#include "core/files/pickle.h"

#include "core/base/mem.h"

#include <endian.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const char *name; // of the file
    const uint8_t *begin, *at, *end, *op;
    const pickle_global *globals;
    arena *mem;
    error *err;
    status code; // the first error; what follows it does nothing
    bool stopped;

    pickle_value nothing; // what is made, or popped, after an error
    pickle_value **stack, **memo;
    size_t *marks; // sizes of the stack where a MARK was pushed
    size_t n_stack, room_stack, n_marks, room_marks, n_memoized, room_memo;
} machine;

// Keeps the first error, with its place.
__attribute__((format(printf, 2, 3))) static void refuse(machine *m, const char *fmt, ...) {
    char why[400];
    if (m->code) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    m->code =
        fail(m->err, ERR_DATA, "%s: byte %zu of its pickle: %s", m->name, (size_t)(m->op - m->begin), why);
}

static void short_of_memory(machine *m) {
    if (!m->code) m->code = fail(m->err, ERR_TEMP, "%s: out of memory", m->name);
}

// ---------------------------------------------------------------- bytes

// The next n bytes, or NULL where the pickle ends before.
static const uint8_t *take(machine *m, uint64_t n) {
    if (n > (uint64_t)(m->end - m->at)) {
        refuse(m, "cut short");
        return NULL;
    }
    m->at += n;
    return m->at - n;
}

// A little-endian number of n bytes.
static uint64_t number(machine *m, int n) {
    uint64_t v = 0;
    const uint8_t *p = take(m, (uint64_t)n);
    if (p) memcpy(&v, p, (size_t)n);
    return le64toh(v);
}

// A line without its end, as GLOBAL has them.
static const char *line(machine *m, size_t *length) {
    const uint8_t *p = m->at, *end = memchr(p, '\n', (size_t)(m->end - p));
    *length = 0;
    if (!take(m, end ? (uint64_t)(end - p) + 1 : UINT64_MAX)) return "";
    *length = (size_t)(end - p);
    return (const char *)p;
}

// ---------------------------------------------------------------- stack and memo

static bool grow(machine *m, void *at, size_t *room, size_t needed, size_t size) {
    void *old, *grown;
    if (needed <= *room) return true;
    size_t more = needed < 32 ? 64 : 2 * needed;
    memcpy(&old, at, sizeof old);
    if (!(grown = mem_realloc(old, more, size))) {
        short_of_memory(m);
        return false;
    }
    memset((char *)grown + *room * size, 0, (more - *room) * size);
    memcpy(at, &grown, sizeof grown);
    *room = more;
    return true;
}

static void push_value(machine *m, pickle_value *v) {
    if (grow(m, &m->stack, &m->room_stack, m->n_stack + 1, sizeof *m->stack)) m->stack[m->n_stack++] = v;
}

static pickle_value *make(machine *m, pickle_kind kind) {
    pickle_value *v = m->code ? NULL : arena_alloc(m->mem, sizeof *v);
    if (!v) {
        short_of_memory(m);
        return &m->nothing;
    }
    v->kind = kind;
    return v;
}

static pickle_value *push(machine *m, pickle_kind kind) {
    pickle_value *v = make(m, kind);
    push_value(m, v);
    return v;
}

// The stack down to the last mark is what may be popped.
static size_t floor_of(const machine *m) { return m->n_marks ? m->marks[m->n_marks - 1] : 0; }

static pickle_value *top(machine *m) {
    if (m->n_stack > floor_of(m)) return m->stack[m->n_stack - 1];
    refuse(m, "takes from an empty stack");
    return &m->nothing;
}

static pickle_value *pop(machine *m) {
    pickle_value *v = top(m);
    if (!m->code) m->n_stack--;
    return v;
}

static void mark(machine *m) {
    if (grow(m, &m->marks, &m->room_marks, m->n_marks + 1, sizeof *m->marks))
        m->marks[m->n_marks++] = m->n_stack;
}

// Takes the mark away and returns where the values above it begin.
static size_t pop_mark(machine *m) {
    if (m->n_marks) return m->marks[--m->n_marks];
    refuse(m, "no mark on the stack");
    return m->n_stack;
}

// Picklers number the memo from 0 or 1 on, and each number costs them bytes.
static void put(machine *m, uint64_t index) {
    pickle_value *v = top(m);
    if (index > (uint64_t)(m->op - m->begin))
        refuse(m, "memo %llu, more than there can be", (unsigned long long)index);
    else if (!m->code && grow(m, &m->memo, &m->room_memo, index + 1, sizeof *m->memo))
        m->memo[index] = v;
}

static void get(machine *m, uint64_t index) {
    if (index < m->room_memo && m->memo[index])
        push_value(m, m->memo[index]);
    else
        refuse(m, "memo %llu is empty", (unsigned long long)index);
}

// ---------------------------------------------------------------- values

static void push_text(machine *m, uint64_t length, pickle_kind kind) {
    const char *text = (const char *)take(m, length);
    pickle_value *v = push(m, kind);
    if (kind != PICKLE_TEXT) return;
    v->text = text;
    v->length = length;
}

static void push_int(machine *m, int64_t i) { push(m, PICKLE_INT)->integer = i; }

// Two's complement of n bytes. What has more than 64 bits is of no interest.
static void push_long(machine *m, uint64_t n) {
    const uint8_t *p = take(m, n);
    if (p && n <= 8) {
        uint64_t v = n && p[n - 1] & 0x80 ? UINT64_MAX : 0;
        memcpy(&v, p, n);
        push_int(m, (int64_t)v);
    } else if (p) {
        push(m, PICKLE_OTHER);
    }
}

static void append(machine *m, pickle_value *to, const pickle_value *key, const pickle_value *value) {
    pickle_item *item = m->code ? NULL : arena_alloc(m->mem, sizeof *item);
    if (!item) {
        short_of_memory(m);
        return;
    }
    *item = (pickle_item){key, value, NULL};
    if (to->last)
        to->last->next = item;
    else
        to->items = item;
    to->last = item;
    to->count++;
}

// The values from `first` on become the items of `to`, by pairs in a dictionary.
static void append_from(machine *m, pickle_value *to, size_t first) {
    size_t step = to->kind == PICKLE_DICT ? 2 : 1;
    if ((m->n_stack - first) % step) refuse(m, "a key without its value");
    for (size_t i = first; i < m->n_stack && !m->code; i += step)
        append(m, to, step == 2 ? m->stack[i] : NULL, m->stack[i + step - 1]);
    m->n_stack = first;
}

// A new collection of what is above place `first` of the stack.
static void collect(machine *m, pickle_kind kind, size_t first) {
    pickle_value *v = make(m, kind);
    if (kind != PICKLE_OTHER) append_from(m, v, first);
    m->n_stack = first;
    push_value(m, v);
}

static void collect_last(machine *m, size_t n) {
    if (m->n_stack - floor_of(m) < n) refuse(m, "takes from an empty stack");
    if (!m->code) collect(m, PICKLE_TUPLE, m->n_stack - n);
}

// What stands above `first` goes into the collection below it.
static void extend(machine *m, pickle_kind kind, size_t first) {
    if (m->code) return;
    size_t n = m->n_stack;
    m->n_stack = first;
    pickle_value *to = top(m);
    m->n_stack = n;
    if (to->kind != kind) refuse(m, "adds items to what cannot have them");
    if (!m->code && kind != PICKLE_OTHER) append_from(m, to, first);
    m->n_stack = first;
}

static void extend_last(machine *m, pickle_kind kind, size_t n) {
    if (m->n_stack - floor_of(m) < n) refuse(m, "takes from an empty stack");
    if (!m->code) extend(m, kind, m->n_stack - n);
}

// ---------------------------------------------------------------- globals and calls

static bool same(const char *s, const char *text, size_t length) {
    return strlen(s) == length && !memcmp(s, text, length);
}

static int shown(size_t length) { return length < 100 ? (int)length : 100; }

static void push_global(machine *m, const char *module, size_t n_module, const char *name, size_t n_name) {
    if (m->code) return;
    for (const pickle_global *g = m->globals; g->name; g++) {
        if (!same(g->module, module, n_module) || !same(g->name, name, n_name)) continue;
        push(m, PICKLE_GLOBAL)->global = g;
        return;
    }
    refuse(m, "asks for %.*s.%.*s, which weights do not need: refused", shown(n_module), module,
           shown(n_name), name);
}

static void global_by_lines(machine *m) {
    size_t n_module, n_name;
    const char *module = line(m, &n_module), *name = line(m, &n_name);
    push_global(m, module, n_module, name, n_name);
}

static void global_by_stack(machine *m) {
    const pickle_value *name = pop(m), *module = pop(m);
    if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
        refuse(m, "a global without a name");
    else
        push_global(m, module->text, module->length, name->text, name->length);
}

static void call(machine *m) {
    const pickle_value *args = pop(m), *callee = pop(m);
    const pickle_global *g = callee->kind == PICKLE_GLOBAL ? callee->global : NULL;
    if (!g || args->kind != PICKLE_TUPLE)
        refuse(m, "calls what is no function: refused");
    else if (g->call == PICKLE_REFUSED || (g->call == PICKLE_EMPTY_DICT && args->count))
        refuse(m, "calls %s.%s%s: refused", g->module, g->name, args->count ? " with arguments" : "");
    if (m->code) return;
    static const pickle_kind LEAVES[] = {
        [PICKLE_NOTED] = PICKLE_CALL, [PICKLE_EMPTY_DICT] = PICKLE_DICT, [PICKLE_DROPPED] = PICKLE_OTHER};
    pickle_value *v = push(m, LEAVES[g->call]);
    if (g->call != PICKLE_NOTED) return;
    *v = *args;
    v->kind = PICKLE_CALL;
    v->global = g;
}

// The attributes of an object: those of a dictionary are notes about versions, others are of no interest.
static void build(machine *m) {
    pop(m);
    pickle_kind kind = top(m)->kind;
    if (kind != PICKLE_DICT && kind != PICKLE_OTHER)
        refuse(m, "sets the state of what should have none: refused");
}

// ---------------------------------------------------------------- opcodes

static void unknown(machine *m, uint8_t op) {
    static const struct {
        uint8_t op;
        const char *name;
    } NAMES[] = {{'i', "INST"},    {'o', "OBJ"},   {0x81, "NEWOBJ"}, {0x92, "NEWOBJ_EX"},
                 {'P', "PERSID"},  {0x82, "EXT1"}, {0x83, "EXT2"},   {0x84, "EXT4"},
                 {'I', "INT"},     {'L', "LONG"},  {'F', "FLOAT"},   {'S', "STRING"},
                 {'V', "UNICODE"}, {'p', "PUT"},   {'g', "GET"},     {0x97, "NEXT_BUFFER"}};
    const char *name = "an unknown opcode";
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (NAMES[i].op == op) name = NAMES[i].name;
    refuse(m, "%s (0x%02x), which weights do not need: refused", name, op);
}

static void step(machine *m, uint8_t op) {
    switch (op) {
    case 0x80: // PROTO
        if (number(m, 1) > 5) refuse(m, "a protocol that is newer than 5");
        break;
    case 0x95: // FRAME
        number(m, 8);
        break;
    case '.': // STOP
        m->stopped = true;
        break;
    case '(': // MARK
        mark(m);
        break;
    case '0': // POP
        pop(m);
        break;
    case '1': // POP_MARK
        m->n_stack = pop_mark(m);
        break;
    case '2': // DUP
        push_value(m, top(m));
        break;

    case 'q': // BINPUT
        put(m, number(m, 1));
        break;
    case 'r': // LONG_BINPUT
        put(m, number(m, 4));
        break;
    case 0x94: // MEMOIZE
        put(m, m->n_memoized++);
        break;
    case 'h': // BINGET
        get(m, number(m, 1));
        break;
    case 'j': // LONG_BINGET
        get(m, number(m, 4));
        break;

    case 'N':  // NONE
    case 0x88: // NEWTRUE
    case 0x89: // NEWFALSE
        push(m, PICKLE_OTHER);
        break;
    case 'K': // BININT1
        push_int(m, (int64_t)number(m, 1));
        break;
    case 'M': // BININT2
        push_int(m, (int64_t)number(m, 2));
        break;
    case 'J': // BININT
        push_int(m, (int32_t)number(m, 4));
        break;
    case 0x8a: // LONG1
        push_long(m, number(m, 1));
        break;
    case 0x8b: // LONG4
        push_long(m, number(m, 4));
        break;
    case 'G': // BINFLOAT
        push_text(m, 8, PICKLE_OTHER);
        break;
    case 'U':  // SHORT_BINSTRING
    case 0x8c: // SHORT_BINUNICODE
        push_text(m, number(m, 1), PICKLE_TEXT);
        break;
    case 'T': // BINSTRING
    case 'X': // BINUNICODE
        push_text(m, number(m, 4), PICKLE_TEXT);
        break;
    case 0x8d: // BINUNICODE8
        push_text(m, number(m, 8), PICKLE_TEXT);
        break;
    case 'C': // SHORT_BINBYTES
        push_text(m, number(m, 1), PICKLE_OTHER);
        break;
    case 'B': // BINBYTES
        push_text(m, number(m, 4), PICKLE_OTHER);
        break;
    case 0x8e: // BINBYTES8
    case 0x96: // BYTEARRAY8
        push_text(m, number(m, 8), PICKLE_OTHER);
        break;

    case ')': // EMPTY_TUPLE
        push(m, PICKLE_TUPLE);
        break;
    case ']': // EMPTY_LIST
        push(m, PICKLE_LIST);
        break;
    case '}': // EMPTY_DICT
        push(m, PICKLE_DICT);
        break;
    case 0x8f: // EMPTY_SET
        push(m, PICKLE_OTHER);
        break;
    case 't': // TUPLE
        collect(m, PICKLE_TUPLE, pop_mark(m));
        break;
    case 'l': // LIST
        collect(m, PICKLE_LIST, pop_mark(m));
        break;
    case 'd': // DICT
        collect(m, PICKLE_DICT, pop_mark(m));
        break;
    case 0x91: // FROZENSET
        collect(m, PICKLE_OTHER, pop_mark(m));
        break;
    case 0x85: // TUPLE1
    case 0x86: // TUPLE2
    case 0x87: // TUPLE3
        collect_last(m, op - 0x84u);
        break;
    case 'a': // APPEND
        extend_last(m, PICKLE_LIST, 1);
        break;
    case 'e': // APPENDS
        extend(m, PICKLE_LIST, pop_mark(m));
        break;
    case 's': // SETITEM
        extend_last(m, PICKLE_DICT, 2);
        break;
    case 'u': // SETITEMS
        extend(m, PICKLE_DICT, pop_mark(m));
        break;
    case 0x90: // ADDITEMS
        extend(m, PICKLE_OTHER, pop_mark(m));
        break;

    case 'c': // GLOBAL
        global_by_lines(m);
        break;
    case 0x93: // STACK_GLOBAL
        global_by_stack(m);
        break;
    case 'R': // REDUCE
        call(m);
        break;
    case 'b': // BUILD
        build(m);
        break;
    case 'Q': // BINPERSID
        collect_last(m, 1);
        if (!m->code) top(m)->kind = PICKLE_PERSISTENT;
        break;
    default:
        unknown(m, op);
    }
}

static const pickle_value *result(machine *m) {
    while (!m->stopped && !m->code) {
        m->op = m->at;
        const uint8_t *op = take(m, 1);
        if (op) step(m, *op);
    }
    if (m->n_stack != 1 || m->n_marks) refuse(m, "ends with %zu values on the stack", m->n_stack);
    if (m->at != m->end) refuse(m, "ends before its last byte");
    return m->code ? NULL : m->stack[0];
}

const pickle_value *pickle_read(const char *name, const void *data, size_t n, const pickle_global *globals,
                                arena *mem, error *err) {
    machine m = {.name = name,
                 .begin = data,
                 .at = data,
                 .end = (const uint8_t *)data + n,
                 .op = data,
                 .globals = globals,
                 .mem = mem,
                 .err = err};
    const pickle_value *v = result(&m);
    mem_free(m.stack);
    mem_free(m.memo);
    mem_free(m.marks);
    return v;
}
