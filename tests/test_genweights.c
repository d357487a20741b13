// The generated weights are those of tests/parity/golden.py.
#include "tests/tools/genweights.h"

#include <criterion/criterion.h>

Test(genweights, words_follow_the_name) {
    cr_assert_eq(gen_word("conv_in.weight", 0), 0x923d71e7a6b08ca4u);
    cr_assert_eq(gen_word("conv_in.weight", 1), 0xe21da0bc5c169230u);
}

Test(genweights, values_are_those_of_python_to_the_bit) {
    static float conv[320 * 4 * 3 * 3];
    float norm[5], u[3];
    gen_weight("conv_in.weight", 4, (int64_t[]){320, 4, 3, 3}, conv);
    cr_assert_eq(conv[0], 0x1.50fce80000000p-5f);
    cr_assert_eq(conv[11519], 0x1.0216200000000p-4f);
    gen_weight("norm.weight", 1, (int64_t[]){5}, norm);
    cr_assert_eq(norm[4], 0x1.cd4c760000000p-1f);
    gen_weight("norm.bias", 1, (int64_t[]){5}, norm);
    cr_assert_eq(norm[4], 0x1.b485400000000p-6f);
    gen_weight("a.lora_B.weight", 2, (int64_t[]){1, 3}, u);
    cr_assert_eq(u[2], -0x1.8b04540000000p-4f);
    gen_uniform("input:sample", 3, u);
    cr_assert_eq(u[2], -0x1.0f74040000000p-1f);
}

Test(genweights, kept_entries_are_drawn_only_from_larger_tensors) {
    cr_assert_eq(gen_index("conv_in.weight", 0, 16, 11520), 10188);
    cr_assert_eq(gen_index("conv_in.weight", 1, 16, 11520), 4090);
    cr_assert_eq(gen_index("norm.weight", 3, 16, 5), 3);
}
