#include "core/train/curve.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/image.h"

enum { LINE_MAX_BYTES = 200, PICTURE_W = 800, PICTURE_H = 400, MARGIN = 20 };
static const char HEAD[] = "step,samples,loss,lr,grad_norm\n";

struct curve {
    int fd;
    char *path, *picture;
    float *loss; // of every update, for the picture
    size_t n, capacity;
};

static status file_error(const curve *c, const char *what, error *err) {
    return fs_fail(err, errno, ERR_IO, c->path, what);
}

static bool remember(curve *c, double loss) {
    if (c->n == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 1024;
        float *p = mem_realloc(c->loss, capacity, sizeof *p);
        if (!p) return false;
        c->loss = p;
        c->capacity = capacity;
    }
    c->loss[c->n++] = (float)loss;
    return true;
}

static status put(curve *c, const char *text, size_t n, error *err) {
    while (n) {
        ssize_t done = write(c->fd, text, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return file_error(c, "cannot write", err);
        text += done;
        n -= (size_t)done;
    }
    return OK;
}

// Reads the lines before `step` back; everything behind them is cut off.
static status roll_back(curve *c, int64_t step, error *err) {
    FILE *f = fdopen(dup(c->fd), "r");
    if (!f) return file_error(c, "cannot read", err);
    char line[LINE_MAX_BYTES];
    off_t good = 0;
    status s = OK;
    for (int64_t number = -1; number < step && fgets(line, sizeof line, f); number++) {
        long long at = 0, samples;
        double loss;
        bool whole = strchr(line, '\n') != NULL;
        bool fits = number < 0 ? !strcmp(line, HEAD)
                               : sscanf(line, "%lld,%lld,%lf", &at, &samples, &loss) == 3 && at == number;
        if (!whole || !fits) break;
        if (number >= 0 && !remember(c, loss)) s = fail(err, ERR_TEMP, "out of memory");
        good += (off_t)strlen(line);
    }
    fclose(f);
    if (!s && ftruncate(c->fd, good)) s = file_error(c, "cannot cut", err);
    if (!s && lseek(c->fd, 0, SEEK_END) < 0) s = file_error(c, "cannot cut", err);
    if (!s && !good) s = put(c, HEAD, sizeof HEAD - 1, err);
    return s;
}

curve *curve_open(const char *dir, int64_t step, error *err) {
    curve *c = mem_calloc(1, sizeof *c);
    if (!c) return fail(err, ERR_TEMP, "out of memory"), NULL;
    c->fd = -1;
    c->path = fs_join(dir, "loss.csv");
    c->picture = fs_join(dir, "loss.png");
    status s = c->path && c->picture ? OK : fail(err, ERR_TEMP, "out of memory");
    if (!s) {
        do c->fd = open(c->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        while (c->fd < 0 && errno == EINTR);
    }
    if (!s && c->fd < 0) s = fs_fail(err, errno, ERR_CANTCREAT, c->path, "cannot create");
    if (!s) s = roll_back(c, step, err);
    if (!s) return c;
    curve_close(c);
    return NULL;
}

status curve_add(curve *c, const curve_point *p, error *err) {
    char line[LINE_MAX_BYTES];
    int n = snprintf(line, sizeof line, "%lld,%lld,%.9g,%.6g,%.6g\n", (long long)p->step,
                     (long long)p->samples, p->loss, p->lr, p->norm);
    if (!remember(c, p->loss)) return fail(err, ERR_TEMP, "out of memory");
    return put(c, line, (size_t)n, err);
}

status curve_sync(curve *c, error *err) {
    int r;
    do r = fsync(c->fd);
    while (r && errno == EINTR);
    return r ? file_error(c, "cannot sync", err) : OK;
}

void curve_close(curve *c) {
    if (!c) return;
    if (c->fd >= 0) close(c->fd);
    mem_free(c->path);
    mem_free(c->picture);
    mem_free(c->loss);
    mem_free(c);
}

static double mean_of(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    return n ? sum / (double)n : NAN;
}

double curve_recent(const curve *c, size_t n) {
    if (n > c->n) n = c->n;
    return mean_of(c->loss + c->n - n, n);
}

// ---- the picture

static void dot(image *im, int x, int y, const uint8_t *rgb) {
    if (x >= 0 && y >= 0 && x < im->w && y < im->h) memcpy(im->px + 3 * (y * im->w + x), rgb, 3);
}

static void stroke(image *im, double x0, double y0, double x1, double y1, const uint8_t *rgb) {
    int n = (int)ceil(fmax(fabs(x1 - x0), fabs(y1 - y0)));
    for (int i = 0; i <= n; i++) {
        double t = n ? (double)i / n : 0;
        int x = (int)lround(x0 + t * (x1 - x0)), y = (int)lround(y0 + t * (y1 - y0));
        dot(im, x, y, rgb);
        dot(im, x, y + 1, rgb);
    }
}

typedef struct {
    double low, high; // natural logarithms of the loss
    size_t columns;
    double *at; // logarithm of the mean loss of each column
} plot;

static double plot_y(const plot *p, double value) {
    double span = fmax(p->high - p->low, 1e-6);
    return PICTURE_H - MARGIN - (value - p->low) / span * (PICTURE_H - 2 * MARGIN);
}

static double plot_x(const plot *p, size_t i) {
    return MARGIN + (double)i * (PICTURE_W - 2 * MARGIN) / (double)(p->columns > 1 ? p->columns - 1 : 1);
}

static void plot_make(const curve *c, plot *p) {
    p->low = INFINITY;
    p->high = -INFINITY;
    for (size_t i = 0; i < p->columns; i++) {
        size_t first = i * c->n / p->columns, end = (i + 1) * c->n / p->columns;
        p->at[i] = log(fmax(mean_of(c->loss + first, end - first), 1e-12));
        p->low = fmin(p->low, p->at[i]);
        p->high = fmax(p->high, p->at[i]);
    }
}

// A grey line at each 1, 2 and 5 times a power of ten.
static void plot_lines(const plot *p, image *im) {
    static const uint8_t grey[3] = {200, 200, 200};
    static const double step[] = {1, 2, 5};
    for (int e = -12; e <= 12; e++)
        for (int k = 0; k < 3; k++) {
            double value = log(step[k]) + e * log(10);
            if (value < p->low || value > p->high) continue;
            for (int x = MARGIN; x < PICTURE_W - MARGIN; x++) dot(im, x, (int)lround(plot_y(p, value)), grey);
        }
}

status curve_draw(const curve *c, error *err) {
    static const uint8_t blue[3] = {40, 80, 180};
    if (!c->n) return OK;
    image im = {0};
    plot p = {.columns = c->n < PICTURE_W - 2 * MARGIN ? c->n : PICTURE_W - 2 * MARGIN};
    status s = image_alloc(&im, PICTURE_W, PICTURE_H, 3, err);
    if (s) return s;
    p.at = mem_calloc(p.columns, sizeof *p.at);
    if (p.at) {
        memset(im.px, 255, (size_t)PICTURE_W * PICTURE_H * 3);
        plot_make(c, &p);
        plot_lines(&p, &im);
        for (size_t i = 0; i < p.columns; i++) {
            size_t before = i ? i - 1 : 0;
            stroke(&im, plot_x(&p, before), plot_y(&p, p.at[before]), plot_x(&p, i), plot_y(&p, p.at[i]),
                   blue);
        }
        s = image_save(c->picture, &im, &(image_options){.format = IMAGE_PNG}, true, err);
    } else {
        s = fail(err, ERR_TEMP, "out of memory");
    }
    mem_free(p.at);
    image_free(&im);
    return s;
}
