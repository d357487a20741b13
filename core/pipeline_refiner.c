#include "core/pipeline_refiner.h"

#include "core/pipeline_hires.h"

// ---- whether two models go together

static status check_channels(const txt2img *t, const unet_config *u, error *err) {
    const char *name = model_dir(t->request->refiner->m);
    if (t->inpaints || t->edits)
        return fail(err, ERR_USAGE, "%s: a model that inpaints or edits takes no refiner",
                    model_dir(t->model->m));
    if (u->in_channels != t->C || u->out_channels != t->C)
        return fail(err, ERR_USAGE, "%s: a UNet from %d to %d channels cannot refine latents of %d", name,
                    (int)u->in_channels, (int)u->out_channels, (int)t->C);
    if (u->class_embed != CLASS_NONE)
        return fail(err, ERR_USAGE, "%s: the UNet asks for class labels, which a prompt does not give", name);
    return OK;
}

// Families of models are told apart by what their latents are multiplied with, and by how many pixels one
// stands for.
static status check_latents(const txt2img *t, error *err) {
    model *base = t->model->m, *refiner = t->request->refiner->m;
    error ignored = {0}; // its autoencoder draws nothing
    const vae_config *own = model_has(refiner, PART_VAE) ? model_vae(refiner, &ignored) : NULL;
    int64_t f = vae_factor(model_vae(base, err));
    double a = model_latent_scaling(base), b = model_latent_scaling(refiner);
    if (a != b)
        return fail(err, ERR_USAGE,
                    "%s: its latents are scaled by %g, those of %s by %g: it cannot refine them",
                    model_dir(refiner), b, model_dir(base), a);
    if (own && vae_factor(own) != f)
        return fail(err, ERR_USAGE,
                    "%s: its latents are of %d pixels, those of %s of %d: it cannot refine them",
                    model_dir(refiner), (int)vae_factor(own), model_dir(base), (int)f);
    return OK;
}

status refiner_check(const txt2img *t, error *err) {
    calo_model *refiner = t->request->refiner;
    if (refiner->ctx != t->model->ctx)
        return fail(err, ERR_USAGE, "the refiner was opened in another context than the model");
    const unet_config *u = model_unet(refiner->m, err);
    if (!u) return err->code;
    TRY(check_channels(t, u, err));
    TRY(check_latents(t, err));
    TRY(txt2img_check_expert(refiner->m, err));
    return probe_prediction(refiner, t->compute, err);
}

// Whether two schedules mean the same noise by a step.
static bool same_noise(const schedule_config *a, const schedule_config *b) {
    bool same = a->train_steps == b->train_steps && a->betas == b->betas && a->zero_snr == b->zero_snr;
    return same &&
           (a->betas == BETAS_COSINE || (a->beta_start == b->beta_start && a->beta_end == b->beta_end));
}

status refiner_init(txt2img *t, error *err) {
    const schedule_config *base = &t->schedule.config;
    calo_model *refiner = t->request->refiner;
    t->experts[BASE] = (expert){.model = t->model, .predicts = base->predicts};
    if (refiner) {
        schedule_config own;
        const sampler *ignored;
        TRY(txt2img_read_scheduler(t, refiner->m, &own, &ignored, err));
        if (!same_noise(base, &own))
            return fail(err, ERR_USAGE, "%s: its noise schedule is not that of %s%s", model_dir(refiner->m),
                        model_dir(t->model->m),
                        base->zero_snr != own.zero_snr
                            ? ", of which one ends at zero SNR (--zero-snr and --no-zero-snr are for both)"
                            : "");
        t->experts[REFINER] = (expert){.model = refiner, .predicts = own.predicts};
    }
    refiner_divide(t);
    return OK;
}

// ---- whose step it is

// As A1111 counts sampling steps. Of two passes it takes part in the second alone, as there.
void refiner_divide(txt2img *t) {
    const calo_txt2img_request *r = t->request;
    bool refines = r->refiner && (t->first || !hires_wanted(r));
    int n = t->points.n, first = refines ? 0 : n;
    while (first < n && first / (double)n < r->refiner_switch_at) first++;
    t->experts[BASE].first = 0;
    t->experts[BASE].end = t->experts[REFINER].first = first;
    t->experts[REFINER].end = n;
}

void refiner_hint(const txt2img *t) {
    if (!model_is_refiner(t->model->m) || t->request->init_image) return;
    log_put(
        &t->model->ctx->log, LOG_LEVEL_WARN,
        "%s is a refiner, made for the last steps of another model's picture (--refiner) or for one to begin "
        "with (--init-img): it is not good at drawing from nothing",
        model_dir(t->model->m));
}
