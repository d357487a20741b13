// Noise as other programs share it out, tuning of samplers, guidance for a part of the steps.
#include "core/base/rng.h"
#include "tests/fixture.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static bool same_latents(const calo_images *a, const calo_images *b, size_t i) {
    const calo_image *x = calo_images_at(a, i), *y = calo_images_at(b, i);
    size_t n = (size_t)x->latent_shape[0] * (size_t)x->latent_shape[1] * (size_t)x->latent_shape[2];
    return !memcmp(x->latents, y->latents, n * sizeof *x->latents);
}

static bool draws_the_same(fixture *f, const calo_txt2img_request *a, const calo_txt2img_request *b) {
    calo_images *x = draw(f, a), *y = draw(f, b);
    bool same = calo_images_count(x) == calo_images_count(y);
    for (size_t i = 0; same && i < calo_images_count(x); i++) same = same_latents(x, y, i);
    calo_images_free(x);
    calo_images_free(y);
    return same;
}

static calo_txt2img_request request_with(const char *sampler, calo_noise_layout layout, int count) {
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a boat";
    r.steps = 3;
    r.seed = 11;
    r.count = count;
    r.sampler = sampler;
    r.scheduler = "Trailing";
    r.noise_layout = layout;
    return r;
}

// What torch's generator on the processor gives a request, as initial latents of the shape of `like`; free
// the data.
static calo_tensor noise_of(const calo_txt2img_request *r, const calo_image *like) {
    const int *shape = like->latent_shape;
    size_t n = (size_t)r->count * (size_t)(shape[0] * shape[1] * shape[2]);
    float *values = malloc(n * sizeof *values);
    mt19937 mt;
    cr_assert_not_null(values);
    mt_seed(&mt, r->seed);
    mt_normal(&mt, values, n);
    return (calo_tensor){"latents", CALO_F32, 4, {r->count, shape[0], shape[1], shape[2]}, values};
}

// Initial noise: one generator's run over the whole batch, also where the batch is drawn in groups of eight.
Test(noise, noise_of_a_batch_is_from_one_generator) {
    fixture f;
    begin(&f, "sd", "v");
    for (int layout = CALO_NOISE_COMFY; layout <= CALO_NOISE_DIFFUSERS; layout++) {
        calo_txt2img_request r = request_with("ddim", (calo_noise_layout)layout, 10), given = r;
        calo_images *one = draw(&f, &r);
        calo_tensor noise = noise_of(&r, calo_images_at(one, 0));
        given.init_latents = &noise;
        cr_expect(draws_the_same(&f, &r, &given), "layout %d", layout);
        calo_images_free(one);
        free((void *)(uintptr_t)noise.data);
    }
    end(&f);
}

Test(noise, noise_layouts_differ_where_they_should) {
    fixture f;
    begin(&f, "sd", "v");
    calo_txt2img_request a = request_with("euler_a", CALO_NOISE_A1111, 1), b = a;
    b.noise_layout = CALO_NOISE_DIFFUSERS;
    cr_expect(draws_the_same(&f, &a, &b)); // of one picture
    b.noise_layout = CALO_NOISE_COMFY;
    cr_expect_not(draws_the_same(&f, &a, &b));
    a.eta_seed_delta = 1; // which is what ComfyUI's generator for the steps amounts to
    cr_expect(draws_the_same(&f, &a, &b));
    b.rng = a.rng = CALO_RNG_NV;
    cr_expect_not(draws_the_same(&f, &a, &b)); // on that device it has the same seed
    a = b = request_with("euler_a", CALO_NOISE_COMFY, 2);
    b.noise_layout = CALO_NOISE_DIFFUSERS;
    cr_expect_not(draws_the_same(&f, &a, &b));
    b.noise_layout = CALO_NOISE_A1111;
    cr_expect_not(draws_the_same(&f, &a, &b));
    uint64_t seeds[] = {11, 12}; // of their own: each image is a batch of one
    a.seeds = seeds;
    calo_images *both = draw(&f, &a);
    a = request_with("euler_a", CALO_NOISE_COMFY, 1);
    a.seed = 12;
    calo_images *second = draw(&f, &a);
    cr_expect(!memcmp(calo_images_at(both, 1)->latents, calo_images_at(second, 0)->latents, 64));
    calo_images_free(both);
    calo_images_free(second);
    end(&f);
}

// Pictures of a batch again, without those before and behind them.
Test(noise, a_part_of_a_batch_has_its_noise) {
    fixture f;
    begin(&f, "sd", "v");
    for (int layout = CALO_NOISE_COMFY; layout <= CALO_NOISE_DIFFUSERS; layout++) {
        calo_txt2img_request whole = request_with("euler_a", (calo_noise_layout)layout, 10), part = whole;
        uint64_t seeds[] = {20};
        part.seed = 19;
        part.count = 2;
        part.batch_index = 8;
        part.batch_size = 10;
        calo_images *all = draw(&f, &whole), *some = draw(&f, &part);
        part.seeds = seeds; // each of a batch of its own
        part.batch_index = 9;
        part.count = 1;
        calo_images *last = draw(&f, &part);
        expect_same(calo_images_at(all, 8), calo_images_at(some, 0), "the last but one");
        expect_same(calo_images_at(all, 9), calo_images_at(some, 1), "the last");
        expect_same(calo_images_at(all, 9), calo_images_at(last, 0), "the last alone");
        calo_images_free(all);
        calo_images_free(some);
        calo_images_free(last);
    }
    static const int WRONG[][2] = {{-1, 3}, {1, 0}, {2, 3}, {0, 1}, {0, -2}, {2147483647, 2147483647}};
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        calo_txt2img_request r = request_with("euler_a", CALO_NOISE_COMFY, 2);
        r.batch_index = WRONG[i][0];
        r.batch_size = WRONG[i][1];
        expect_refused(&f, &r, CALO_ERR_USAGE, "no part of a batch");
    }
    end(&f);
}

// The first noise of one kind of generator, the steps' of the other.
Test(noise, steps_may_have_a_generator_of_their_own) {
    fixture f;
    begin(&f, "sd", "v");
    calo_txt2img_request a = request_with("euler_a", CALO_NOISE_COMFY, 1), b = a;
    a.sampler_rng = CALO_SAMPLER_RNG_CPU;
    cr_expect(draws_the_same(&f, &a, &b), "of the same kind");
    a.sampler_rng = CALO_SAMPLER_RNG_NV;
    cr_expect_not(draws_the_same(&f, &a, &b));
    calo_images *one = draw(&f, &b);
    calo_tensor first = noise_of(&b, calo_images_at(one, 0));
    b.rng = CALO_RNG_NV;
    b.init_latents = &first;
    cr_expect(draws_the_same(&f, &a, &b), "ComfyUI on a graphics card");
    b = a;
    b.noise_layout = CALO_NOISE_A1111;
    cr_expect(draws_the_same(&f, &a, &b), "a generator that begins anew, of the same seed");
    a.sampler = b.sampler = "dpmpp_2m_sde"; // whose path is the steps' noise
    b.sampler_rng = CALO_SAMPLER_RNG_SAME;
    cr_expect_not(draws_the_same(&f, &a, &b));
    a.sampler = b.sampler = "ddim";
    cr_expect(draws_the_same(&f, &a, &b), "which has no noise in its steps");
    a.sampler_rng = (calo_sampler_rng)3;
    cr_expect_eq(calo_txt2img(f.model, &a, NULL), CALO_ERR_USAGE);
    calo_images_free(one);
    free((void *)(uintptr_t)first.data);
    end(&f);
}

// Which noise is chosen; tests/test_samplers.c has the noise itself.
Test(noise, sde_samplers_walk_on_a_path) {
    fixture f;
    begin(&f, "sd", "v");
    for (int layout = CALO_NOISE_A1111; layout <= CALO_NOISE_DIFFUSERS; layout++)
        for (int i = 0; i < 2; i++) {
            const char *name = i ? "dpmpp_2m_sde" : "euler_a";
            calo_txt2img_request a = request_with(name, (calo_noise_layout)layout, 1), plain = a, path = a;
            plain.step_noise = CALO_STEP_NOISE_PLAIN;
            path.step_noise = CALO_STEP_NOISE_BROWNIAN;
            cr_expect_not(draws_the_same(&f, &plain, &path), "%s, layout %d", name, layout);
            bool usual = i && layout != CALO_NOISE_DIFFUSERS;
            cr_expect(draws_the_same(&f, &a, usual ? &path : &plain), "%s, layout %d", name, layout);
        }
    calo_txt2img_request a = request_with("dpmpp_sde", CALO_NOISE_A1111, 1), b = a;
    a.eta_seed_delta = 5; // is not the path's seed
    cr_expect(draws_the_same(&f, &a, &b));
    b.rng = CALO_RNG_NV;
    cr_expect_not(draws_the_same(&f, &a, &b));
    end(&f);
}

// True batches: a picture's path is its own, also in the second group of a batch and beside other seeds.
Test(noise, paths_of_a_batch_are_those_of_single_pictures) {
    fixture f;
    begin(&f, "sd", "v");
    for (int layout = CALO_NOISE_A1111; layout <= CALO_NOISE_COMFY; layout++) {
        uint64_t seeds[10];
        calo_txt2img_request batch = request_with("dpmpp_2m_sde", (calo_noise_layout)layout,
                                                  (int)(sizeof seeds / sizeof *seeds)),
                             single = request_with("dpmpp_2m_sde", (calo_noise_layout)layout, 1);
        for (int i = 0; i < (int)(sizeof seeds / sizeof *seeds); i++) seeds[i] = 11 + 100 * (uint64_t)i;
        batch.seeds = seeds;
        calo_images *all = draw(&f, &batch);
        for (int i = 0; i < (int)(sizeof seeds / sizeof *seeds); i += 9) {
            single.seed = seeds[i];
            calo_images *one = draw(&f, &single);
            const calo_image *x = calo_images_at(all, (size_t)i), *y = calo_images_at(one, 0);
            size_t n = (size_t)(x->latent_shape[0] * x->latent_shape[1] * x->latent_shape[2]);
            cr_expect_arr_eq(x->latents, y->latents, n * sizeof *x->latents, "layout %d, picture %d", layout,
                             i);
            calo_images_free(one);
        }
        calo_images_free(all);
    }
    end(&f);
}

Test(noise, guidance_may_last_for_some_of_the_steps) {
    fixture f;
    begin(&f, "sd", "v");
    calo_txt2img_request always = request_with("ddim", CALO_NOISE_A1111, 2), r = always, never = always;
    r.cfg_start = r.cfg_end = 0;
    never.cfg_scale = 1;
    never.cfg_rescale = r.cfg_rescale = always.cfg_rescale = 0;
    cr_expect(draws_the_same(&f, &r, &never));
    r.cfg_end = 1;
    cr_expect(draws_the_same(&f, &r, &always));
    r.cfg_start = 0.4; // of three steps the last one
    cr_expect_not(draws_the_same(&f, &r, &always));
    cr_expect_not(draws_the_same(&f, &r, &never));
    never = r;
    never.cfg_start = 0.6;
    cr_expect(draws_the_same(&f, &r, &never));
    end(&f);
}

Test(noise, tuning_reaches_the_sampler) {
    fixture f;
    begin(&f, "sd", "v");
    calo_txt2img_request a = request_with("euler_a", CALO_NOISE_A1111, 1), b = a;
    b.sampler = "euler";
    cr_expect_not(draws_the_same(&f, &a, &b));
    b.eta = 1;
    cr_expect(draws_the_same(&f, &a, &b));
    b.s_noise = 0.5;
    cr_expect_not(draws_the_same(&f, &a, &b));
    a = b = request_with("heun", CALO_NOISE_A1111, 1);
    b.s_churn = 1;
    cr_expect_not(draws_the_same(&f, &a, &b));
    b.s_tmin = 1e6;
    cr_expect(draws_the_same(&f, &a, &b));
    end(&f);
}

// Every sampler draws, and tells each step once.
static void count_steps(void *user, const calo_progress *p) {
    if (!strcmp(p->stage, "sample")) ++*(int *)user;
}

Test(noise, every_sampler_tells_every_step_once) {
    fixture f;
    int steps = 0;
    calo_context_options o = options_of(CALO_PRECISION_F32, 1);
    o.progress = count_steps;
    o.user = &steps;
    begin_with(&f, "sd", "v", &o);
    for (int i = 0; calo_sampler_name(i); i++) {
        calo_txt2img_request r = request_with(calo_sampler_name(i), CALO_NOISE_A1111, 1);
        steps = 0;
        calo_images_free(draw(&f, &r));
        cr_expect_eq(steps, r.steps, "%s", r.sampler);
    }
    end(&f);
}
