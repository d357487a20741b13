#include "samplers/samplers.h"
#include "samplers/names.h"
#include "samplers/spacing.h"

#include <math.h>
#include <string.h>

// Grid and start: as the diffusers class of an alias has it, else as k-diffusion. In the order of the papers.
static const sampler table[] = {
    {"ddim", "DDIM", "DDIMScheduler, DDIMParallelScheduler", ddim_sample, 1, 0, SPACING_LEADING, GRID_INTEGER,
     false, false},
    {"ddpm", "DDPM", "DDPMScheduler, DDPMParallelScheduler", ddim_sample, 1, 1, SPACING_LEADING, GRID_INTEGER,
     true, false},
    {"euler", "Euler", "k_euler, EulerDiscrete, EulerDiscreteScheduler", ddim_sample, 1, 0, SPACING_LINSPACE,
     GRID_FRACTIONAL, true, true},
    {"euler_a", "Euler a",
     "k_euler_a, euler_ancestral, k_euler_ancestral, EulerAncestralDiscrete, EulerAncestralDiscreteScheduler",
     ddim_sample, 1, 1, SPACING_LINSPACE, GRID_FRACTIONAL, true, true},
    {"dpmpp_2m", "DPM++ 2M", "k_dpmpp_2m, DPMSolver++, DPMSolverMultistep, DPMSolverMultistepScheduler",
     dpmpp_2m_sample, 2, 0, SPACING_LINSPACE, GRID_OPEN, true, false},
    {"dpmpp_2m_sde", "DPM++ 2M SDE", "k_dpmpp_2m_sde, dpmpp_2m_sde_gpu", dpmpp_2m_sample, 2, 1,
     SPACING_LINSPACE, GRID_OPEN, true, false, true},
    {"dpmpp_2m_sde_heun", "DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun_gpu", res_2_sample, 2, 1, SPACING_LINSPACE,
     GRID_FRACTIONAL, true, true, true},
    {"dpmpp_3m_sde", "DPM++ 3M SDE", "k_dpmpp_3m_sde, dpmpp_3m_sde_gpu", dpmpp_3m_sample, 2, 1,
     SPACING_LINSPACE, GRID_FRACTIONAL, true, true, true},
    {"dpmpp_2s_a", "DPM++ 2S a", "k_dpmpp_2s_a, dpmpp_2s_ancestral, dpmpp2s_a", dpmpp_2s_sample, 2, 1,
     SPACING_LINSPACE, GRID_FRACTIONAL, true, true},
    {"dpmpp_sde", "DPM++ SDE", "k_dpmpp_sde, dpmpp_sde_gpu, DPMSolverSDE, DPMSolverSDEScheduler",
     dpmpp_sde_sample, 2, 1, SPACING_LINSPACE, GRID_FRACTIONAL, true, true, true},
    {"heun", "Heun", "k_heun, HeunDiscrete, HeunDiscreteScheduler", heun_sample, 2, 0, SPACING_LINSPACE,
     GRID_FRACTIONAL, true, true},
    {"dpm2", "DPM2", "k_dpm_2, dpm_2, KDPM2, KDPM2Discrete, KDPM2DiscreteScheduler", dpm2_sample, 2, 0,
     SPACING_LINSPACE, GRID_FRACTIONAL, true, true},
    {"dpm2_a", "DPM2 a",
     "k_dpm_2_a, k_dpm_2_ancestral, dpm_2_ancestral, dpm2_ancestral, KDPM2AncestralDiscrete, "
     "KDPM2AncestralDiscreteScheduler",
     dpm2_sample, 2, 1, SPACING_LINSPACE, GRID_FRACTIONAL, true, true},
    {"lms", "LMS", "k_lms, LMSDiscrete, LMSDiscreteScheduler", lms_sample, 4, 0, SPACING_LINSPACE,
     GRID_FRACTIONAL, true, true},
    {"pndm", "PLMS", "PNDMScheduler", pndm_sample, 2, 0, SPACING_LEADING, GRID_INTEGER, false, false},
    {"ipndm", "IPNDM", "IPNDMScheduler", ipndm_sample, 2, 0, SPACING_LINSPACE, GRID_FRACTIONAL, true, true},
    {"deis", "DEIS", "DEISMultistep, DEISMultistepScheduler", deis_sample, 3, 0, SPACING_LINSPACE, GRID_OPEN,
     false, false},
    {"unipc", "UniPC", "uni_pc_bh2, UniPCMultistep, UniPCMultistepScheduler", unipc_2_sample, 3, 0,
     SPACING_LINSPACE, GRID_OPEN, true, false},
    {"unipc_3", "UniPC 3", NULL, unipc_3_sample, 4, 0, SPACING_LINSPACE, GRID_OPEN, true, false},
    {"res_multistep", "Res Multistep", NULL, res_2_sample, 2, 0, SPACING_LINSPACE, GRID_FRACTIONAL, true,
     true},
    {"sa_solver", "SA Solver", "SASolver, SASolverScheduler", sa_solver_sample, 2, 1, SPACING_LINSPACE,
     GRID_OPEN, false, false},
    {"dpm_fast", "DPM fast", "k_dpm_fast", dpm_fast_sample, 3, 0, SPACING_LINSPACE, GRID_FRACTIONAL, false,
     true},
    {"dpm_adaptive", "DPM adaptive", "k_dpm_adaptive, k_dpm_ad", dpm_adaptive_sample, 0, 0, SPACING_LINSPACE,
     GRID_FRACTIONAL, false, true, .adaptive = true},
    {"er_sde", "ER SDE", NULL, er_sde_sample, 2, 1, SPACING_LINSPACE, GRID_FRACTIONAL, true, true},
    {"gradient_estimation", "Gradient Estimation", NULL, gradient_estimation_sample, 1, 0, SPACING_LINSPACE,
     GRID_FRACTIONAL, true, true},
    {"restart", "Restart", NULL, restart_sample, 2, 1, SPACING_KARRAS, GRID_FRACTIONAL, true, true},
    {"lcm", "LCM", "LCMScheduler", lcm_sample, 0, 1, SPACING_LCM, GRID_INTEGER, true, false},
    {"tcd", "TCD", "TCDScheduler", tcd_sample, 1, 0.3, SPACING_LCM, GRID_INTEGER, false, false},
};

const sampler *sampler_at(int i) {
    return i >= 0 && i < (int)(sizeof table / sizeof *table) ? &table[i] : NULL;
}

static const sampler *find_plain(const char *plain) {
    for (int i = 0; sampler_at(i); i++) {
        const sampler *s = sampler_at(i);
        if (name_listed(s->name, plain) || name_listed(s->label, plain) || name_listed(s->aliases, plain))
            return s;
    }
    return NULL;
}

// Of two names in one: takes `last` off the end of `plain`, when it is there and something else is before it.
static const sampler *find_before(const char *plain, const char *last) {
    char first[MAX_NAME], end[MAX_NAME];
    int n = (int)strlen(plain), m = name_plain(last, end);
    if (m <= 0 || m >= n || strcmp(plain + n - m, end)) return NULL;
    memcpy(first, plain, (size_t)n + 1);
    first[n - m] = 0;
    return find_plain(first);
}

const sampler *sampler_find(const char *name, spacing *how) {
    char plain[MAX_NAME];
    if (strchr(name, ',') || name_plain(name, plain) <= 0) return NULL;
    const sampler *s = find_plain(plain);
    for (int i = 0; !s && spacing_at(i); i++) {
        const spacing_row *row = spacing_at(i);
        s = find_before(plain, row->name);
        if (!s && row->label) s = find_before(plain, row->label);
        if (s && how) *how = row->how;
    }
    return s;
}

status sampler_steps(const sampler *s, const schedule *sched, int n, spacing how, schedule_steps *steps,
                     error *err) {
    bool own_list = s->spacing == SPACING_LCM; // what the model was distilled for
    if (how == SPACING_AUTO && !own_list) how = sched->config.spacing;
    if (how == SPACING_AUTO) how = s->spacing;
    return schedule_steps_make(steps, sched, n, how, s->grid, s->to_one || sched->config.set_alpha_to_one,
                               err);
}

double sampler_start_scale(const sampler *s, const schedule_steps *steps) {
    return s->sigma_space && steps->how != SPACING_LEADING ? steps->at[0].sigma : 1;
}

sampler_tuning sampler_defaults(const sampler *s) {
    return (sampler_tuning){.eta = s->eta, .s_noise = 1, .s_tmax = INFINITY};
}
