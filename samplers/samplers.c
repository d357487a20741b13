#include "samplers/samplers.h"

#include <ctype.h>
#include <string.h>

static const sampler table[] = {
    {"ddim", "DDIM", "DDIMScheduler", ddim_sample, 0, SPACING_LEADING, GRID_INTEGER, false, false},
    {"ddpm", "DDPM", "DDPMScheduler", ddim_sample, 1, SPACING_LEADING, GRID_INTEGER, true, false},
    {"euler", "Euler", "k_euler, EulerDiscrete, EulerDiscreteScheduler", ddim_sample, 0, SPACING_LINSPACE,
     GRID_FRACTIONAL, true, true},
    {"euler_a", "Euler a",
     "k_euler_a, euler_ancestral, k_euler_ancestral, EulerAncestralDiscrete, EulerAncestralDiscreteScheduler",
     ddim_sample, 1, SPACING_LINSPACE, GRID_FRACTIONAL, true, true},
    {"dpmpp_2m", "DPM++ 2M", "k_dpmpp_2m, DPMSolver++, DPMSolverMultistep, DPMSolverMultistepScheduler",
     dpmpp_2m_sample, 0, SPACING_LINSPACE, GRID_OPEN, true, false},
};

const sampler *sampler_at(int i) {
    return i >= 0 && i < (int)(sizeof table / sizeof *table) ? &table[i] : NULL;
}

enum { MAX_NAME = 64 };

// Lower case without separators, up to a comma or the end; "+" as "p". The length, or -1 when it is too long.
static int plain_name(const char *s, char out[MAX_NAME]) {
    int n = 0;
    for (; *s && *s != ','; s++) {
        if (strchr(" _-", *s)) continue;
        if (n == MAX_NAME - 1) return -1;
        out[n++] = *s == '+' ? 'p' : (char)tolower((unsigned char)*s);
    }
    out[n] = 0;
    return n;
}

// Whether a comma separated list has an entry that reads as `plain`.
static bool lists(const char *names, const char *plain) {
    for (; names; names = strchr(names, ',')) {
        char entry[MAX_NAME];
        if (*names == ',') names++;
        if (plain_name(names, entry) > 0 && !strcmp(entry, plain)) return true;
    }
    return false;
}

static const sampler *find_plain(const char *plain) {
    for (int i = 0; sampler_at(i); i++) {
        const sampler *s = sampler_at(i);
        if (lists(s->name, plain) || lists(s->label, plain) || lists(s->aliases, plain)) return s;
    }
    return NULL;
}

const sampler *sampler_find(const char *name, spacing *how) {
    static const char karras[] = "karras";
    char plain[MAX_NAME];
    if (strchr(name, ',')) return NULL;
    int n = plain_name(name, plain), tail = n - (int)strlen(karras);
    if (n <= 0) return NULL;
    if (tail <= 0 || strcmp(plain + tail, karras)) return find_plain(plain);
    plain[tail] = 0;
    const sampler *s = find_plain(plain);
    if (s && how) *how = SPACING_KARRAS;
    return s;
}

status sampler_steps(const sampler *s, const schedule *sched, int n, spacing how, schedule_steps *steps,
                     error *err) {
    if (how == SPACING_AUTO) how = sched->config.spacing;
    if (how == SPACING_AUTO) how = s->spacing;
    return schedule_steps_make(steps, sched, n, how, s->grid, s->to_one || sched->config.set_alpha_to_one,
                               err);
}

double sampler_start_scale(const sampler *s, const schedule_steps *steps) {
    return s->sigma_space && steps->how != SPACING_LEADING ? steps->at[0].sigma : 1;
}
